//! Requests built field by field, so that a mutation keeps them well-formed: ranges, puts,
//! deletions and transactions nested in each other, few keys, numbers at their edges.

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::compare::TargetUnion;
use kvproto::etcdserverpb::request_op::Request;
use prost::Message;

use crate::requests::{check_delete_range, check_message, check_put, check_range, check_txn};
use crate::source::Source;

/// Above what prost decodes, so that its limit is met.
const DEPTH_MAX: usize = 60;
const OPERATIONS_MAX: usize = 140;

pub fn check(data: &[u8]) -> bool {
    let mut source = Source::new(data);
    match source.byte() % 8 {
        0 => check_range(travelled(&range(&mut source))),
        1 => check_put(travelled(&put(&mut source))),
        2 => check_delete_range(travelled(&delete_range(&mut source))),
        _ => {
            let request = txn(&mut source, DEPTH_MAX);
            let bytes = request.encode_to_vec();
            // Too deep for the decoder is refused there, not here.
            let decoded = check_message::<pb::TxnRequest>(&bytes);
            decoded.is_some_and(check_txn) | check_txn(request)
        }
    }
}

fn travelled<M: Message + Default + PartialEq>(request: &M) -> M {
    let decoded = check_message(&request.encode_to_vec());
    let decoded = decoded.expect("a flat request decodes");
    assert!(decoded == *request);
    decoded
}

fn key(source: &mut Source<'_>) -> Bytes {
    match source.byte() % 8 {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        7 => {
            let length = source.below(40);
            Bytes::copy_from_slice(source.bytes(length))
        }
        letter => Bytes::copy_from_slice(&[b'a' + letter]),
    }
}

fn flag(source: &mut Source<'_>) -> bool {
    source.byte() % 4 == 3
}

/// Mostly a number that the protocol names.
fn choice(source: &mut Source<'_>, known: u8) -> i32 {
    match source.byte() {
        255 => -1,
        254 => i32::MAX,
        other => i32::from(other % (known + 1)),
    }
}

fn range(source: &mut Source<'_>) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key(source),
        range_end: key(source),
        limit: source.signed(),
        revision: source.signed(),
        sort_order: choice(source, 3),
        sort_target: choice(source, 5),
        serializable: flag(source),
        keys_only: flag(source),
        count_only: flag(source),
        min_mod_revision: source.signed(),
        max_mod_revision: source.signed(),
        min_create_revision: source.signed(),
        max_create_revision: source.signed(),
    }
}

fn put(source: &mut Source<'_>) -> pb::PutRequest {
    pb::PutRequest {
        key: key(source),
        value: key(source),
        lease: source.signed(),
        prev_kv: flag(source),
        ignore_value: flag(source),
        ignore_lease: flag(source),
    }
}

fn delete_range(source: &mut Source<'_>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key(source),
        range_end: key(source),
        prev_kv: flag(source),
    }
}

fn compare(source: &mut Source<'_>) -> pb::Compare {
    let union = match source.byte() % 6 {
        0 => Some(TargetUnion::Version(source.signed())),
        1 => Some(TargetUnion::CreateRevision(source.signed())),
        2 => Some(TargetUnion::ModRevision(source.signed())),
        3 => Some(TargetUnion::Value(key(source))),
        4 => Some(TargetUnion::Lease(source.signed())),
        _ => None,
    };
    pb::Compare {
        result: choice(source, 4),
        target: choice(source, 5),
        key: key(source),
        range_end: key(source),
        target_union: union,
    }
}

fn txn(source: &mut Source<'_>, depth: usize) -> pb::TxnRequest {
    let guards = source.below(4);
    pb::TxnRequest {
        compare: (0..guards).map(|_| compare(source)).collect(),
        success: operations(source, depth),
        failure: operations(source, depth),
    }
}

fn operations(source: &mut Source<'_>, depth: usize) -> Vec<pb::RequestOp> {
    let count = match source.byte() {
        255 => OPERATIONS_MAX,
        few => usize::from(few % 4),
    };
    let mut list = Vec::new();
    for _ in 0..count {
        if source.is_empty() {
            break;
        }
        let request = match source.byte() % 8 {
            0 => None,
            1 => Some(Request::RequestRange(range(source))),
            2 | 3 => Some(Request::RequestPut(put(source))),
            4 => Some(Request::RequestDeleteRange(delete_range(source))),
            _ if depth == 0 => None,
            _ => Some(Request::RequestTxn(txn(source, depth - 1))),
        };
        list.push(pb::RequestOp { request });
    }
    list
}
