//! Checkpoints in fjall on a real disk: writing one, and starting from one.
//! `cargo bench -p storage --bench checkpoint`.

mod objects;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::apply::StateMachine;
use storage::checkpoint::{
    CheckpointJob, Checkpointer, FjallStore, Identity, Manifest, Started, layout, start,
};
use storage::mvcc::Mvcc;
use storage::types::{MemberId, SegmentNumber};
use storage::vfs::real::RealVfs;

/// Records of one checkpoint: what 20,000 puts leave.
const RECORDS: u64 = 20_000;
/// Objects that a start finds.
const OBJECTS: u64 = 100_000;
const OURS: Identity = Identity {
    cluster_id: 1,
    member_id: MemberId(2),
};

fn open(data: &Path) -> Started {
    let vfs = Arc::new(RealVfs);
    let store = FjallStore::open_or_create(&*vfs, data).expect("a store of our own");
    let started = start(vfs, data, OURS, Box::new(store), Mvcc::new(), None);
    started.expect("a member of our own")
}

fn put_all(machine: &mut StateMachine, objects: u64, version: u64) {
    for number in 0..objects {
        let entry = objects::entry(&objects::put(number, version));
        drop(objects::apply(machine, &entry));
    }
}

/// What the owner of the machine collects at one moment.
fn job(machine: &StateMachine, before: &Manifest) -> CheckpointJob {
    let mut manifest = before.clone();
    manifest.describe(machine);
    manifest.segments = vec![SegmentNumber(1)];
    let records = machine.mvcc().records_slice(before.bound, usize::MAX);
    CheckpointJob {
        records: records.iter().map(|view| view.meta.clone()).collect(),
        removed: Vec::new(),
        manifest,
    }
}

fn perform(machine: &StateMachine, checkpointer: &mut Checkpointer) {
    let job = job(machine, checkpointer.published());
    let published = checkpointer.perform(job, &mut || ());
    published.expect("a disk that writes");
}

fn checkpoints(criterion: &mut Criterion) {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    layout::create(&RealVfs, home.path(), OURS).expect("a directory of our own");
    let mut started = open(home.path());
    let mut version = 0;
    let mut bench = criterion.benchmark_group("checkpoint");
    bench.throughput(Throughput::Elements(RECORDS));
    bench.sample_size(10);
    bench.bench_function("20,000 records", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                put_all(&mut started.machine, RECORDS, version);
                version += 1;
                let begin = Instant::now();
                perform(&started.machine, &mut started.checkpointer);
                spent += begin.elapsed();
            }
            spent
        });
    });
    bench.finish();
}

fn restarts(criterion: &mut Criterion) {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    layout::create(&RealVfs, home.path(), OURS).expect("a directory of our own");
    let mut started = open(home.path());
    put_all(&mut started.machine, OBJECTS, 0);
    perform(&started.machine, &mut started.checkpointer);
    drop(started);
    let mut bench = criterion.benchmark_group("start from a checkpoint");
    bench.throughput(Throughput::Elements(OBJECTS));
    bench.sample_size(10);
    bench.bench_function("100,000 objects", |bencher| {
        bencher.iter(|| black_box(open(home.path())));
    });
    bench.finish();
}

criterion_group!(benches, checkpoints, restarts);
criterion_main!(benches);
