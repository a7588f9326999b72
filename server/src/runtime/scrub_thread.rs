//! The thread that reads the data directory back (docs/design/0004-scrub.md). It decides
//! nothing: the engine says when and what, a finding ends the process as a damaged read
//! does.
//!
//! Limit: [`SCRUB_BYTES_PER_SECOND`]; idle priority for processor and disk.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use storage::error::Fatal;
use tokio::sync::mpsc;

use super::checkpoint_worker::Done;
use super::die;
use super::limits::SCRUB_BYTES_PER_SECOND;
use super::priority;
use crate::engine::{ScrubWork, Scrubbed};

/// Carries out one pass after the other, until nobody hands over another.
pub(super) fn run(passes: &Receiver<ScrubWork>, report: &mpsc::Sender<Done>) {
    priority::idle();
    for work in passes {
        let scrubbed = match pass(work, &mut wait) {
            Ok(scrubbed) => scrubbed,
            Err(fatal) => die(&fatal),
        };
        if report.blocking_send(Done::Scrub(scrubbed)).is_err() {
            return;
        }
    }
}

fn pass(mut work: ScrubWork, pace: &mut dyn FnMut(u64)) -> Result<Scrubbed, Fatal> {
    loop {
        if let Some(scrubbed) = work.step(pace)? {
            return Ok(scrubbed);
        }
    }
}

/// So long that what was read stays within the rate, whatever the disk could give.
fn wait(bytes: u64) {
    thread::sleep(Duration::from_micros(
        bytes.saturating_mul(1_000_000) / SCRUB_BYTES_PER_SECOND,
    ));
}
