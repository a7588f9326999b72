//! Which flush back end is used. Asked once, at start: does the disk end a synced
//! write by itself, and does the kernel perform one? That is tried by a real write:
//! zeros where the log's next group will lie, which are void to the log.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use storage::error::Fatal;
use storage::raft_log::RaftLog;
use storage::vfs::aligned::{AlignedBuffer, BLOCK_BYTES};

use super::aio::Aio;
use super::direct::{DirectWrite, Payload, Queue, open_direct};
use super::event::eventfd;
use super::thread::LogThread;
use super::uring::Uring;
use super::{Backend, Kernel};

/// The variable that asks for one back end, for tests and containers.
pub const VARIABLE: &str = "STERNPOST_LOG_FLUSH";

/// A back end by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `io_uring`.
    Uring,
    /// Linux AIO.
    Aio,
    /// The log thread.
    Thread,
}

impl Choice {
    /// What [`VARIABLE`] asks for; nothing when it is absent or empty.
    ///
    /// # Errors
    /// A text that names the values there are.
    pub fn from_environment() -> Result<Option<Choice>, String> {
        let text = std::env::var_os(VARIABLE).unwrap_or_default();
        match text.to_str() {
            Some("") => Ok(None),
            Some("io_uring") => Ok(Some(Choice::Uring)),
            Some("aio") => Ok(Some(Choice::Aio)),
            Some("thread") => Ok(Some(Choice::Thread)),
            _ => Err(format!(
                "{VARIABLE}={} is none of io_uring, aio, thread",
                text.display()
            )),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Choice::Uring => "io_uring",
            Choice::Aio => "aio",
            Choice::Thread => "thread",
        })
    }
}

/// The back end asked for, or the first that works.
pub(super) fn open(wanted: Option<Choice>, log: &RaftLog) -> Result<Backend, Fatal> {
    let place = log.probe_place();
    let mut refusals = Vec::new();
    for choice in [Choice::Uring, Choice::Aio] {
        if wanted.is_some_and(|wanted| wanted != choice) {
            continue;
        }
        let opened = match place {
            Some((path, _)) if wanted.is_none() && !ends_by_itself(path) => Err(io::Error::other(
                "no FUA for the disk's cache, a worker of the kernel would flush",
            )),
            Some((path, offset)) => probe(choice, path, offset),
            None => Err(io::Error::other("the log's segments are no files")),
        };
        match opened {
            Ok(kernel) => {
                report(choice, wanted, &refusals);
                return Ok(Backend::Queue(kernel));
            }
            Err(error) => refusals.push(format!("{choice}: {error}")),
        }
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != Choice::Thread) {
        let detail = format!("{VARIABLE}={wanted} cannot be had: {}", refusals.join("; "));
        let path = place.map_or(Path::new("log"), |(path, _)| path);
        return Err(Fatal::refused(path, detail));
    }
    report(Choice::Thread, wanted, &refusals);
    Ok(Backend::Thread(LogThread::start()))
}

fn report(choice: Choice, wanted: Option<Choice>, refusals: &[String]) {
    let reason = match wanted {
        Some(_) => format!("asked for by {VARIABLE}"),
        None if refusals.is_empty() => "the kernel allows it".to_owned(),
        None => refusals.join("; "),
    };
    tracing::info!(back_end = %choice, %reason, "chose how the log is flushed");
}

/// True when the disk below keeps a synced write by itself: it has no volatile
/// cache, or takes writes that go through it. Else the kernel ends such a write on
/// a worker thread, which waits for a processor behind everybody: with both busy,
/// 4 ms instead of the log thread's 0.3 (design note, "Measured").
fn ends_by_itself(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else {
        return false;
    };
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let device = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    // A partition has the queue of the disk above it.
    ["queue", "../queue"].iter().any(|queue| {
        let attribute = |name: &str| {
            let text = std::fs::read_to_string(device.join(queue).join(name));
            text.unwrap_or_default().trim().to_owned()
        };
        attribute("fua") == "1" || attribute("write_cache") == "write through"
    })
}

/// Opens a queue and performs one write on it, as groups will be.
fn probe(choice: Choice, path: &Path, offset: u64) -> io::Result<Kernel> {
    let event = eventfd()?;
    let mut queue: Box<dyn Queue> = match choice {
        Choice::Uring => Box::new(Uring::open(&event)?),
        Choice::Aio => Box::new(Aio::open(Arc::clone(&event))?),
        Choice::Thread => return Err(io::Error::other("a thread is no queue")),
    };
    let file = Arc::new(open_direct(path)?);
    let mut block = AlignedBuffer::default();
    block.reset(BLOCK_BYTES);
    block.fill_to(BLOCK_BYTES);
    queue.submit(DirectWrite {
        file,
        offset,
        payload: Payload::Block(block),
    })?;
    let (_, outcome) = queue.wait()?;
    outcome?;
    Kernel::new(queue, event)
}
