//! The ring of events and the framing of an answer. `cargo bench -p server --bench watch`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kvproto::etcdserverpb::RangeResponse;
use kvproto::mvccpb::KeyValue;
use server::rpc::grpc::frame_message;
use server::watch::Hub;
use storage::apply::command::{Command, Envelope, Put};
use storage::apply::{EntryData, StateMachine, codec};
use storage::mvcc::Mvcc;
use storage::types::{LogIndex, RequestId, RevisionEvents, SegmentNumber, Term};

/// Revisions that are published together.
const GROUP: u64 = 64;
const VALUE: [u8; 1_024] = [0x5a; 1_024];

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/default/object-{number:020}"))
}

/// Applies the puts of one group: the events that they give.
fn events(machine: &mut StateMachine) -> Vec<RevisionEvents> {
    let mut group = Vec::new();
    for number in 0..GROUP {
        let command = Command::Put(Put {
            key: key(number),
            value: Bytes::from_static(&VALUE),
            ..Put::default()
        });
        let envelope = Envelope {
            request_id: RequestId(number),
            command,
        };
        let bytes = codec::encode(&envelope).expect("a small command");
        let envelope = codec::decode(&bytes).expect("what was encoded");
        let data = EntryData {
            bytes,
            segment: SegmentNumber(1),
            offset: 4_096,
        };
        let index = LogIndex(machine.applied_index().0 + 1);
        let outcome = machine.apply(index, Term(1), &data, &envelope);
        group.extend(outcome.events);
    }
    group
}

fn ring(criterion: &mut Criterion) {
    let mut machine = StateMachine::new(Mvcc::new(), None);
    let hub = Hub::new(machine.mvcc().current_revision());
    let mut bench = criterion.benchmark_group("watch ring");
    bench.throughput(Throughput::Elements(GROUP));
    bench.bench_function("publish 64 revisions", |bencher| {
        // A group at a time: revisions must rise from one to the next.
        bencher.iter_batched(
            || events(&mut machine),
            |group| hub.publish(group),
            BatchSize::PerIteration,
        );
    });
    bench.finish();
}

fn framing(criterion: &mut Criterion) {
    let answer = RangeResponse {
        kvs: (0..500)
            .map(|number| KeyValue {
                key: key(number),
                value: Bytes::from_static(&VALUE),
                create_revision: 1,
                mod_revision: 2,
                version: 1,
                lease: 0,
            })
            .collect(),
        count: 500,
        ..RangeResponse::default()
    };
    let mut bench = criterion.benchmark_group("frame");
    bench.throughput(Throughput::Elements(500));
    bench.bench_function("a page of 500 x 1 KiB", |bencher| {
        bencher.iter(|| black_box(frame_message(&answer)).is_ok());
    });
    bench.finish();
}

criterion_group!(benches, ring, framing);
criterion_main!(benches);
