//! When the member reads its files back to see whether they are still what was written
//! (docs/design/0004-scrub.md), and the work of one pass, taken step by step by whoever
//! has a thread for it.
//!
//! Invariant: one pass at a time. Limit: [`super::Sizes::scrub_pause`] between two.

use std::time::Instant;

use storage::checkpoint::{StoreScrub, WrittenManifest};
use storage::error::Fatal;
use storage::raft_log::LogScrub;

use super::host::Host;
use super::turn::Engine;

/// When the next pass is due.
#[derive(Debug)]
pub(super) struct Scrub {
    store: StoreScrub,
    since: Instant,
    running: bool,
}

impl Scrub {
    pub(super) fn new(store: StoreScrub, now: Instant) -> Scrub {
        Scrub {
            store,
            since: now,
            running: false,
        }
    }
}

/// The parts of a pass, in their order.
#[derive(Clone, Copy, Debug)]
enum Part {
    Log,
    Files,
    Store,
}

/// One pass over everything.
#[derive(Debug)]
pub struct ScrubWork {
    log: LogScrub,
    store: StoreScrub,
    written: WrittenManifest,
    part: Part,
    bytes: u64,
}

/// What a pass without a finding has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes that were read back.
    pub bytes: u64,
}

impl ScrubWork {
    /// Carries out one step; the end of the pass when it was the last one. `pace` hears of
    /// bytes that were read and may wait.
    ///
    /// # Errors
    /// The finding, or that the disk does not give what was written.
    pub fn step(&mut self, pace: &mut dyn FnMut(u64)) -> Result<Option<Scrubbed>, Fatal> {
        let bytes = &mut self.bytes;
        let mut count = |read| {
            *bytes += read;
            pace(read);
        };
        match self.part {
            Part::Log => match self.log.step()? {
                Some(read) => count(read),
                None => self.part = Part::Files,
            },
            Part::Files => {
                self.store.files(self.written, &mut count)?;
                self.part = Part::Store;
            }
            Part::Store => {
                self.store.store(&mut count)?;
                return Ok(Some(Scrubbed { bytes: self.bytes }));
            }
        }
        Ok(None)
    }
}

impl<H: Host> Engine<H> {
    /// Begins a pass when one is due. Called on ticks.
    pub(super) fn scrub_when_due(&mut self, host: &mut H) {
        let due = host.now() - self.scrub.since >= self.sizes.scrub_pause;
        if self.scrub.running || !due {
            return;
        }
        self.scrub.running = true;
        self.scrub.since = host.now();
        host.scrub(ScrubWork {
            log: self.log.scrub(),
            store: self.scrub.store.clone(),
            written: self.checkpoints.published().into(),
            part: Part::Log,
            bytes: 0,
        });
    }

    /// A pass ended without a finding.
    pub fn scrub_done(&mut self, scrubbed: Scrubbed, host: &H) {
        assert!(self.scrub.running, "a pass ended that nobody began");
        let took = host.now() - self.scrub.since;
        tracing::info!(
            bytes = scrubbed.bytes,
            ?took,
            "read the data directory back; every checksum holds"
        );
        self.scrub.running = false;
        self.scrub.since = host.now();
    }
}
