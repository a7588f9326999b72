//! Every back end makes the same bytes durable, and none takes a failure for an
//! end. A queue that this kernel refuses is left out; the thread never is.

use std::fs::{self, File};
use std::sync::Arc;

use bytes::Bytes;
use storage::raft_log::{EntryKind, LogEntry, LogOptions, RaftLog};
use storage::types::{LogIndex, Term};
use storage::vfs::Vfs;
use storage::vfs::aligned::AlignedBuffer;
use storage::vfs::real::RealVfs;
use storage::vfs::sim::SimDisk;

use super::aio::Aio;
use super::event::eventfd;
use super::*;

const GROUPS: u64 = 40;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 1 << 20,
        first_segment_bytes: 256 << 10,
        spares_max: 1,
        salt: 7,
    }
}

fn entry(index: u64) -> LogEntry {
    let length = usize::try_from(index * 997 % 30_000).unwrap();
    LogEntry {
        term: Term(1),
        index: LogIndex(index),
        kind: EntryKind::Normal,
        data: Bytes::from(vec![u8::try_from(index).unwrap(); length]),
    }
}

/// Writes a log with one back end; its segments, or nothing where it is refused.
async fn written(choice: Choice) -> Option<Vec<(String, Vec<u8>)>> {
    let directory = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let none = (LogIndex(0), Term(0));
    let mut log = RaftLog::create(Arc::clone(&vfs), directory.path(), options(), none).unwrap();
    let metrics = Metrics::new(&[], false);
    let mut flusher = match Flusher::start(Some(choice), &log, metrics) {
        Ok(flusher) => flusher,
        Err(Fatal::Refused { .. }) if choice != Choice::Thread => return None,
        Err(fatal) => panic!("{fatal}"),
    };
    for index in 1..=GROUPS {
        let group = log.append(None, &[entry(index)]).unwrap();
        let number = group.number();
        flusher.submit(group);
        assert_eq!(flusher.flushed().await, number);
        log.flushed(number);
        // Through the page cache, right behind the direct write.
        let read = log.entries(LogIndex(index), LogIndex(index + 1), u64::MAX);
        assert_eq!(read.unwrap(), [entry(index)]);
    }
    drop((flusher, log));
    let mut files = Vec::new();
    for found in fs::read_dir(directory.path()).unwrap() {
        let path = found.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.push((name, fs::read(&path).unwrap()));
    }
    files.sort();
    let (_, recovered) = RaftLog::open(vfs, directory.path(), options(), none).unwrap();
    let entries: Vec<LogEntry> = (1..=GROUPS).map(entry).collect();
    assert_eq!(recovered.entries, entries);
    assert_eq!(recovered.torn_tail, None);
    Some(files)
}

#[tokio::test]
async fn back_ends_write_the_same_bytes() {
    let by_thread = written(Choice::Thread).await.unwrap();
    assert!(by_thread.len() > 2, "the log rolled");
    for choice in [Choice::Uring, Choice::Aio] {
        if let Some(files) = written(choice).await {
            assert!(files == by_thread, "{choice} wrote other bytes");
        }
    }
}

#[tokio::test]
async fn a_simulated_disk_gets_the_thread() {
    let vfs: Arc<dyn Vfs> = Arc::new(SimDisk::new(1));
    let none = (LogIndex(0), Term(0));
    let log = RaftLog::create(vfs, Path::new("/log"), options(), none).unwrap();
    let start = |wanted| Flusher::start(wanted, &log, Metrics::new(&[], false));
    assert!(matches!(start(None).unwrap().backend, Backend::Thread(_)));
    let refused = start(Some(Choice::Aio));
    assert!(matches!(refused, Err(Fatal::Refused { .. })));
}

fn block() -> Payload {
    let mut block = AlignedBuffer::default();
    block.reset(4096);
    block.fill_to(4096);
    Payload::Block(block)
}

#[test]
fn a_failed_write_is_a_failure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Open for reading only: the kernel refuses the write when it performs it.
    let read_only = Arc::new(File::open(file.path()).unwrap());
    let event = eventfd().unwrap();
    let mut queues: Vec<Box<dyn Queue>> = Vec::new();
    if let Ok(queue) = uring::Uring::open(&event) {
        queues.push(Box::new(queue));
    }
    if let Ok(queue) = Aio::open(event) {
        queues.push(Box::new(queue));
    }
    for mut queue in queues {
        let submitted = queue.submit(DirectWrite {
            file: Arc::clone(&read_only),
            offset: 0,
            payload: block(),
        });
        let failed = match submitted {
            Ok(()) => queue.wait().unwrap().1,
            refused => refused,
        };
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn a_short_write_is_a_failure() {
    let write = DirectWrite {
        file: Arc::new(File::open("/dev/null").unwrap()),
        offset: 0,
        payload: block(),
    };
    write.outcome(4096).unwrap();
    assert!(write.outcome(512).is_err());
    assert!(write.outcome(0).is_err());
    let failed = write.outcome(-i64::from(libc::EIO)).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::EIO));
}
