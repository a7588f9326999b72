//! The log thread: the flush back end where the kernel offers no queue. It waits
//! for the disk in the core loop's place, at the price of two hand-offs a group.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use storage::error::Fatal;
use storage::raft_log::{GroupNumber, GroupWrite};
use storage::vfs::real::RealVfs;
use storage::vfs::{Vfs, VfsFile};
use tokio::sync::mpsc;

use super::die;

/// The core loop's end.
#[derive(Debug)]
pub(super) struct LogThread {
    writes: SyncSender<GroupWrite>,
    done: mpsc::Receiver<GroupNumber>,
}

/// How the thread writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Past the page cache: half the processor time of a large group, and less of the disk's.
    Direct,
    /// Through the page cache, or on the simulated disk.
    Cached,
}

impl LogThread {
    /// Starts the log thread.
    pub(super) fn start(way: Way) -> LogThread {
        let (writes, to_write) = sync_channel::<GroupWrite>(1);
        let (report, done) = mpsc::channel(1);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                let mut segment = None;
                for write in to_write {
                    let performed = match way {
                        Way::Direct => perform_direct(&mut segment, &write),
                        Way::Cached => write.perform(),
                    };
                    if let Err(fatal) = performed {
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

/// Writes the group to its segment, which stays open until the next one's first group.
fn perform_direct(
    segment: &mut Option<(PathBuf, Arc<dyn VfsFile>)>,
    write: &GroupWrite,
) -> Result<(), Fatal> {
    let file = match segment {
        Some((path, file)) if path == write.path() => file,
        _ => {
            let path = write.path().to_path_buf();
            let opened = RealVfs.open_direct(&path);
            let file = opened.map_err(|source| Fatal::io("open", &path, source))?;
            &mut segment.insert((path, file)).1
        }
    };
    write.perform_on(&**file)
}
