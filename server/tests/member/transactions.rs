//! Ranges in transactions that are larger than a turn of the core loop has time for: read
//! behind it, they show what was there at their place in the transaction, and nothing later.

use std::collections::BTreeMap;

use kvproto::etcdserverpb::request_op::Request;
use kvproto::etcdserverpb::response_op::Response;
use kvproto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest,
    RangeResponse, RequestOp, TxnResponse,
};
use kvproto::mvccpb::KeyValue;

use super::client::Client;
use super::requests::{TXN, in_hundreds, op, txn};
use super::running::{InProcess, flags, free_port, until_listening};

const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// Three times what a turn gathers, and 3 MiB of values.
const KEYS: usize = 1_600;
const VALUE_BYTES: usize = 2_000;

fn key(number: usize) -> Vec<u8> {
    format!("k{number:05}").into_bytes()
}

/// Values in an order that is not that of their keys, some of them twice.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!("{:05}", number * 7919 % 1_000).into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

fn put(key: &[u8], value: &[u8]) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        ..PutRequest::default()
    }))
}

fn range(change: impl FnOnce(&mut RangeRequest)) -> RequestOp {
    let mut range = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..RangeRequest::default()
    };
    change(&mut range);
    op(Request::RequestRange(range))
}

fn all() -> RequestOp {
    range(|_| {})
}

/// What the member holds by the contract's rules.
type Expected = BTreeMap<Vec<u8>, KeyValue>;

/// Loads the keys.
async fn load(client: &mut Client) -> Expected {
    let puts = (0..KEYS).map(|number| put(&key(number), &value(number)));
    let revisions = in_hundreds(client, puts.collect()).await;
    let written = revisions.into_iter().enumerate().map(|(number, revision)| {
        let written = written(key(number), value(number), revision);
        (key(number), written)
    });
    written.collect()
}

fn written(key: Vec<u8>, value: Vec<u8>, revision: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        value: value.into(),
        lease: 0,
    }
}

fn ranges(answer: &TxnResponse) -> Vec<&RangeResponse> {
    let ranges = answer.responses.iter().map(|one| match &one.response {
        Some(Response::ResponseRange(range)) => Some(range),
        _ => None,
    });
    ranges.flatten().collect()
}

#[track_caller]
fn check(found: &RangeResponse, expected: &[KeyValue], count: usize, more: bool, revision: i64) {
    assert_eq!(found.count, i64::try_from(count).unwrap());
    assert_eq!(found.more, more);
    assert_eq!(found.header.unwrap().revision, revision);
    assert_eq!(found.kvs.len(), expected.len());
    for (found, expected) in found.kvs.iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

fn listed(expected: &Expected) -> Vec<KeyValue> {
    expected.values().cloned().collect()
}

#[tokio::test]
async fn large_ranges_see_their_place_in_the_transaction() {
    let (member, port, _directory) = member();
    let mut client = Client::tcp(port).await;
    let before = load(&mut client).await;
    let loaded = before.values().map(|kv| kv.mod_revision).max().unwrap();

    let delete = DeleteRangeRequest {
        key: key(0).into(),
        range_end: key(100).into(),
        ..DeleteRangeRequest::default()
    };
    let request = txn(vec![
        all(),
        op(Request::RequestDeleteRange(delete)),
        all(),
        put(b"k9", b"new"),
        range(|range| range.limit = 900),
        range(|range| range.keys_only = true),
        range(|range| {
            range.sort_order = 2;
            range.sort_target = 4;
        }),
        range(|range| range.min_mod_revision = loaded),
        range(|range| range.revision = loaded),
        range(|range| {
            range.revision = loaded;
            range.count_only = true;
        }),
        op(Request::RequestTxn(txn(vec![all(), put(b"k90", b"newer")]))),
        all(),
    ]);
    let answer: TxnResponse = client.unary(TXN, &request).await.unwrap();
    let revision = loaded + 1;
    assert_eq!(answer.header.unwrap().revision, revision);
    let found = ranges(&answer);

    check(found[0], &listed(&before), KEYS, false, loaded);
    let mut now: Expected = before.clone().into_iter().skip(100).collect();
    check(found[1], &listed(&now), KEYS - 100, false, revision);
    let (first, second) = (b"k9".to_vec(), b"k90".to_vec());
    now.insert(first.clone(), written(first, b"new".to_vec(), revision));
    check(found[2], &listed(&now)[..900], KEYS - 99, true, revision);
    let mut keys = listed(&now);
    keys.iter_mut().for_each(|kv| kv.value.clear());
    check(found[3], &keys, KEYS - 99, false, revision);
    let mut sorted = listed(&now);
    sorted.sort_by(|a, b| b.value.cmp(&a.value));
    check(found[4], &sorted, KEYS - 99, false, revision);
    let young = listed(&now).into_iter();
    let young: Vec<_> = young.filter(|kv| kv.mod_revision >= loaded).collect();
    check(found[5], &young, KEYS - 99, false, revision);
    check(found[6], &listed(&before), KEYS, false, revision);
    check(found[7], &[], KEYS, false, revision);
    let Some(Response::ResponseTxn(nested)) = &answer.responses[10].response else {
        panic!("a transaction is answered as one");
    };
    check(ranges(nested)[0], &listed(&now), KEYS - 99, false, revision);
    now.insert(second.clone(), written(second, b"newer".to_vec(), revision));
    check(found[8], &listed(&now), KEYS - 98, false, revision);

    let reads = txn(vec![all(), range(|range| range.revision = loaded), all()]);
    let answer: TxnResponse = client.unary(TXN, &reads).await.unwrap();
    let found = ranges(&answer);
    check(found[0], &listed(&now), KEYS - 98, false, revision);
    check(found[1], &listed(&before), KEYS, false, revision);
    check(found[2], &listed(&now), KEYS - 98, false, revision);
    member.stop();
}

/// The answer of a transaction that is not taken yet stays as it was, whatever is written and
/// compacted behind it; others are answered meanwhile.
#[tokio::test]
async fn a_compaction_right_behind_it_takes_nothing_away() {
    let (member, port, _directory) = member();
    let mut client = Client::tcp(port).await;
    let before = load(&mut client).await;
    let loaded = before.values().map(|kv| kv.mod_revision).max().unwrap();
    let mut other = Client::tcp(port).await;

    let request = txn(vec![all(), put(&key(7), b"new"), all()]);
    let answer = client.open(TXN, &request).await;
    let puts = (0..KEYS).map(|number| put(&key(number), b"later"));
    let revisions = in_hundreds(&mut other, puts.collect()).await;
    let compact = CompactionRequest {
        revision: *revisions.last().unwrap(),
        physical: false,
    };
    let _: CompactionResponse = other.unary(COMPACT, &compact).await.unwrap();
    // The purge has turns to take what it may.
    for _ in 0..40 {
        let _: TxnResponse = other.unary(TXN, &txn(vec![all()])).await.unwrap();
    }

    let answer: TxnResponse = answer.finish().await.unwrap().unwrap();
    let found = ranges(&answer);
    check(found[0], &listed(&before), KEYS, false, loaded);
    let mut now = before;
    let changed = now.get_mut(&key(7)).unwrap();
    changed.value = "new".into();
    changed.mod_revision = loaded + 1;
    changed.version = 2;
    check(found[1], &listed(&now), KEYS, false, loaded + 1);
    member.stop();
}

fn member() -> (InProcess, u16, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let member = InProcess::start(&flags(&directory.path().join("data"), &url));
    until_listening(port);
    (member, port, directory)
}
