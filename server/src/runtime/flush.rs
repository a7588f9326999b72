//! The log thread: performs one flush at a time and reports it. The only thread
//! that waits for the disk on the commit path.
//!
//! Invariants: groups are performed in the order given; a failed one ends the
//! process and is never tried again.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use storage::raft_log::{GroupNumber, GroupWrite};
use tokio::sync::mpsc;

use super::die;
use crate::metrics::Metrics;

/// The core loop's end.
#[derive(Debug)]
pub(super) struct Flusher {
    writes: SyncSender<GroupWrite>,
    done: mpsc::Receiver<GroupNumber>,
}

impl Flusher {
    /// Starts the log thread.
    pub(super) fn start(metrics: Arc<Metrics>) -> Flusher {
        let (writes, to_write) = sync_channel::<GroupWrite>(1);
        let (report, done) = mpsc::channel(1);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for write in to_write {
                    let began = Instant::now();
                    if let Err(fatal) = write.perform() {
                        die(&fatal);
                    }
                    let member = &metrics.member;
                    member.wal_fsync_duration.observe_seconds(began.elapsed());
                    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                    member.wal_write_bytes.add(write.bytes().len() as f64);
                    if report.blocking_send(write.number()).is_err() {
                        return;
                    }
                }
            })
            .expect("the operating system gives one thread at start");
        Flusher { writes, done }
    }

    /// Hands over one group; there is never more than one under way.
    pub(super) fn submit(&self, write: GroupWrite) {
        self.writes
            .try_send(write)
            .expect("one flush at a time, and the log thread lives");
    }

    /// The number of the group that became durable. Cancel safe.
    pub(super) async fn flushed(&mut self) -> GroupNumber {
        self.done
            .recv()
            .await
            .expect("the log thread lives as long as the core loop")
    }
}
