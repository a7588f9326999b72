//! The log on a real disk: the encoding of a group, its write and flush, and the recovery of a
//! log when a member starts. `cargo bench -p storage --bench log`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::raft_log::{EntryKind, LogEntry, LogOptions, RaftLog};
use storage::types::{LogIndex, Term};
use storage::vfs::real::RealVfs;

/// Entries in a group.
const GROUP_ENTRIES: u64 = 16;
const ENTRY_BYTES: usize = 1_100;
/// Groups in the log that is recovered: about 64 MiB.
const RECOVERED_GROUPS: u64 = 3_500;
const START: (LogIndex, Term) = (LogIndex(0), Term(0));

fn group(after: LogIndex) -> Vec<LogEntry> {
    let entry = |place| LogEntry {
        term: Term(1),
        index: LogIndex(after.0 + place),
        kind: EntryKind::Normal,
        data: Bytes::from(vec![0x5a; ENTRY_BYTES]),
    };
    (1..=GROUP_ENTRIES).map(entry).collect()
}

fn open(directory: &Path) -> RaftLog {
    let vfs = Arc::new(RealVfs);
    let opened = RaftLog::open(vfs, directory, LogOptions::default(), START);
    opened.expect("a log of our own").0
}

/// What the core loop does beside the groups: spares are prepared, old segments given up.
fn tidy(log: &mut RaftLog) {
    if let Some(job) = log.spare_job() {
        log.add_spare(job.perform(&mut || ()).expect("room for a spare"));
    }
    log.release(log.last().0);
    let segments: Vec<_> = log.segments().map(|segment| segment.number).collect();
    for segment in segments {
        if log.can_retire(segment) {
            log.retire(segment).expect("a segment that goes");
        }
    }
}

/// Time spent in encoding and in flushing so many groups.
fn append(log: &mut RaftLog, groups: u64) -> (Duration, Duration) {
    let (mut encoding, mut flushing) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..groups {
        let entries = group(log.last().0);
        let begin = Instant::now();
        let write = log.append(None, &entries).expect("a group");
        encoding += begin.elapsed();
        let begin = Instant::now();
        write.perform().expect("a disk that writes");
        flushing += begin.elapsed();
        log.flushed(write.number());
        tidy(log);
    }
    (encoding, flushing)
}

fn appends(criterion: &mut Criterion) {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut log = open(&home.path().join("log"));
    let mut bench = criterion.benchmark_group("log append, 16 entries of 1 KiB");
    bench.throughput(Throughput::Bytes(GROUP_ENTRIES * ENTRY_BYTES as u64));
    bench.sample_size(20);
    bench.bench_function("encode", |bencher| {
        bencher.iter_custom(|groups| append(&mut log, groups).0);
    });
    bench.bench_function("write and flush", |bencher| {
        bencher.iter_custom(|groups| append(&mut log, groups).1);
    });
    bench.finish();
}

fn recovery(criterion: &mut Criterion) {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let directory = home.path().join("log");
    let mut log = open(&directory);
    for _ in 0..RECOVERED_GROUPS {
        let entries = group(log.last().0);
        let write = log.append(None, &entries).expect("a group");
        write.perform().expect("a disk that writes");
        log.flushed(write.number());
    }
    drop(log);
    let bytes = RECOVERED_GROUPS * GROUP_ENTRIES * ENTRY_BYTES as u64;
    let mut bench = criterion.benchmark_group("log recovery");
    bench.throughput(Throughput::Bytes(bytes));
    bench.sample_size(10);
    bench.bench_function("64 MiB", |bencher| {
        bencher.iter(|| black_box(open(&directory)));
    });
    bench.finish();
}

criterion_group!(benches, appends, recovery);
criterion_main!(benches);
