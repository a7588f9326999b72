//! The state machine in memory: apply, range, count, and the encoding of commands.
//! `cargo bench -p storage --bench store`.

mod objects;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use storage::apply::command::{KeyRange, Range};
use storage::apply::{StateMachine, codec};
use storage::mvcc::Mvcc;

const SIZES: [u64; 3] = [1_000, 10_000, 100_000];
/// Commands that are applied in turn.
const VERSIONS: u64 = 64;

fn filled(objects: u64) -> StateMachine {
    let mut machine = StateMachine::new(Mvcc::new(), None);
    for number in 0..objects {
        let entry = objects::entry(&objects::put(number, 0));
        drop(objects::apply(&mut machine, &entry));
    }
    machine
}

fn everything() -> KeyRange {
    KeyRange {
        key: Bytes::from_static(objects::PREFIX.as_bytes()),
        range_end: Bytes::from_static(b"/registry/pods0"),
    }
}

fn apply(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("apply a put of 1 KiB");
    for size in SIZES {
        let mut machine = filled(size);
        let entries: Vec<_> = (0..VERSIONS)
            .map(|version| objects::entry(&objects::put(version * size / VERSIONS, version)))
            .collect();
        let mut turn = entries.iter().cycle();
        let mut removed = Vec::new();
        bench.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let entry = turn.next().expect("there are entries");
                black_box(objects::apply(&mut machine, entry));
            });
        });
        // What was superseded is not to weigh on the next size.
        while machine
            .mvcc_mut()
            .compact_slice(i64::MAX, usize::MAX, &mut removed)
        {}
    }
    bench.finish();
}

fn ranges(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("range");
    for size in SIZES {
        let mut machine = filled(size);
        let get = Range {
            range: KeyRange {
                key: objects::key(size / 2),
                range_end: Bytes::new(),
            },
            ..Range::default()
        };
        bench.bench_function(BenchmarkId::new("one key", size), |bencher| {
            bencher.iter(|| black_box(machine.range(&get)).expect("a range"));
        });
        let page = Range {
            range: everything(),
            limit: 500,
            ..Range::default()
        };
        bench.bench_function(BenchmarkId::new("page of 500", size), |bencher| {
            bencher.iter(|| black_box(machine.range(&page)).expect("a range"));
        });
        let count = Range {
            range: everything(),
            count_only: true,
            ..Range::default()
        };
        bench.bench_function(BenchmarkId::new("count", size), |bencher| {
            bencher.iter(|| black_box(machine.range(&count)).expect("a count"));
        });
    }
    bench.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("command, put of 1 KiB");
    let envelope = objects::put(7, 0);
    bench.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(codec::encode(&envelope)).expect("a small command"));
    });
    let bytes = codec::encode(&envelope).expect("a small command");
    bench.bench_function("decode", |bencher| {
        bencher.iter(|| black_box(codec::decode(&bytes)).expect("what was encoded"));
    });
    bench.finish();
}

criterion_group!(benches, apply, ranges, encoding);
criterion_main!(benches);
