//! How groups become durable: one at a time, by the kernel's own queue where it
//! lets us (`io_uring`, else Linux AIO), else by a thread (`thread`). Design note:
//! docs/design/0007-flush.md.
//!
//! With a queue the core loop's thread submits a direct, synced write of the group
//! and sleeps with its sockets; the completion wakes it by an eventfd. So a flush
//! costs no hand-off to another thread and back.
//!
//! Invariants: groups are performed in the order given, one at a time; a write that
//! fails or is short ends the process and is never tried again; a buffer lives
//! until the kernel has let go of it. Limit: one write in flight.

mod aio;
mod choice;
mod direct;
mod event;
mod thread;
mod uring;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use storage::error::Fatal;
use storage::raft_log::{GroupNumber, GroupWrite, RaftLog};
use tokio::io::unix::AsyncFd;

use super::die;
use crate::metrics::Metrics;
pub use choice::Choice;
use direct::{DirectWrite, Payload, Queue, open_direct};
use thread::LogThread;

/// The core loop's end.
#[derive(Debug)]
pub struct Flusher {
    backend: Backend,
    metrics: Arc<Metrics>,
    began: Instant,
}

#[derive(Debug)]
enum Backend {
    Queue(Kernel),
    Thread(LogThread),
}

/// A queue of the kernel, and the segment that it writes to.
#[derive(Debug)]
struct Kernel {
    queue: Box<dyn Queue>,
    completed: AsyncFd<Arc<OwnedFd>>,
    /// The segment of the last group, opened for direct writes.
    segment: Option<(PathBuf, Arc<File>)>,
}

impl Flusher {
    /// Finds out by a real write which back end the kernel and the file system
    /// allow, or tries the one asked for. To be called within the runtime, before
    /// the log's first group.
    ///
    /// # Errors
    /// `Refused` when the back end asked for cannot be used.
    pub fn start(
        wanted: Option<Choice>,
        log: &RaftLog,
        metrics: Arc<Metrics>,
    ) -> Result<Flusher, Fatal> {
        let backend = choice::open(wanted, log)?;
        Ok(Flusher {
            backend,
            metrics,
            began: Instant::now(),
        })
    }

    /// Hands over one group; there is never more than one under way.
    pub(super) fn submit(&mut self, write: GroupWrite) {
        self.began = Instant::now();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let bytes = write.bytes().len() as f64;
        self.metrics.member.wal_write_bytes.add(bytes);
        match &mut self.backend {
            Backend::Thread(thread) => thread.submit(write),
            Backend::Queue(kernel) => {
                let path = write.path().to_path_buf();
                if let Err(source) = kernel.submit(write) {
                    die(&Fatal::io("write to", path, source));
                }
            }
        }
    }

    /// The number of the group that became durable. Cancel safe.
    pub(super) async fn flushed(&mut self) -> GroupNumber {
        let group = match &mut self.backend {
            Backend::Thread(thread) => thread.flushed().await,
            Backend::Queue(kernel) => match kernel.flushed().await {
                Ok(group) => group,
                Err(source) => {
                    let path = kernel.path().to_path_buf();
                    die(&Fatal::io("write to", path, source))
                }
            },
        };
        let duration = &self.metrics.member.wal_fsync_duration;
        duration.observe_seconds(self.began.elapsed());
        group
    }
}

impl Kernel {
    fn new(queue: Box<dyn Queue>, event: Arc<OwnedFd>) -> io::Result<Kernel> {
        Ok(Kernel {
            queue,
            completed: event::watch(event)?,
            segment: None,
        })
    }

    fn path(&self) -> &Path {
        self.segment
            .as_ref()
            .map_or(Path::new("log"), |(path, _)| path)
    }

    fn submit(&mut self, write: GroupWrite) -> io::Result<()> {
        let file = match &self.segment {
            Some((path, file)) if path == write.path() => Arc::clone(file),
            _ => {
                let file = Arc::new(open_direct(write.path())?);
                self.segment = Some((write.path().to_path_buf(), Arc::clone(&file)));
                file
            }
        };
        self.queue.submit(DirectWrite {
            file,
            offset: write.offset(),
            payload: Payload::Group(write),
        })
    }

    /// The readiness is cleared before the look, so no end is missed.
    async fn flushed(&mut self) -> io::Result<GroupNumber> {
        loop {
            self.completed.readable().await?.clear_ready();
            let Some((write, result)) = self.queue.reap()? else {
                continue;
            };
            result?;
            match write.payload {
                Payload::Group(group) => return Ok(group.number()),
                Payload::Block(_) => unreachable!("the probe was waited for"),
            }
        }
    }
}
