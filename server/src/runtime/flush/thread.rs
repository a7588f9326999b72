//! The log thread: the flush back end where the kernel offers no queue. It waits
//! for the disk in the core loop's place, at the price of two hand-offs a group.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use storage::raft_log::{GroupNumber, GroupWrite};
use tokio::sync::mpsc;

use super::die;

/// The core loop's end.
#[derive(Debug)]
pub(super) struct LogThread {
    writes: SyncSender<GroupWrite>,
    done: mpsc::Receiver<GroupNumber>,
}

impl LogThread {
    /// Starts the log thread.
    pub(super) fn start() -> LogThread {
        let (writes, to_write) = sync_channel::<GroupWrite>(1);
        let (report, done) = mpsc::channel(1);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for write in to_write {
                    if let Err(fatal) = write.perform() {
                        die(&fatal);
                    }
                    if report.blocking_send(write.number()).is_err() {
                        return;
                    }
                }
            })
            .expect("the operating system gives one thread at start");
        LogThread { writes, done }
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
