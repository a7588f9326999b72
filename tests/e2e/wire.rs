//! Between the plain requests of a history and what goes over the wire. A recorded value is
//! the number of the value that is sent (`content`): every byte that comes back is held
//! against it here.

use bytes::Bytes;
use kvproto::etcdserverpb::compare::{CompareTarget as Target, TargetUnion};
use kvproto::etcdserverpb::request_op::Request as Op;
use kvproto::etcdserverpb::response_op::Response as OpAnswer;
use kvproto::etcdserverpb::{
    self as pb, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use kvproto::mvccpb::event::EventType;
use kvproto::mvccpb::{self, Event};
use storage::apply::command::{
    Compare, CompareTarget, DeleteRange, Put, Range, RequestOp as PlainOp, Txn,
};

use crate::answer::{Answer, Change, KeyValue};
use crate::content;

/// The recorded form of a value.
pub fn numbered(number: u64) -> Bytes {
    match number {
        content::EMPTY => Bytes::new(),
        number => number.to_le_bytes().to_vec().into(),
    }
}

fn sent(value: &[u8]) -> Bytes {
    let number = value.try_into().map_or(content::EMPTY, u64::from_le_bytes);
    content::value(number).into()
}

pub fn put(put: &Put) -> PutRequest {
    PutRequest {
        key: put.key.clone(),
        value: sent(&put.value),
        lease: put.lease.0,
        prev_kv: put.prev_kv,
        ..PutRequest::default()
    }
}

pub fn delete(delete: &DeleteRange) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: delete.range.key.clone(),
        range_end: delete.range.range_end.clone(),
        prev_kv: delete.prev_kv,
    }
}

pub fn range(range: &Range) -> RangeRequest {
    RangeRequest {
        key: range.range.key.clone(),
        range_end: range.range.range_end.clone(),
        limit: range.limit,
        revision: range.revision,
        ..RangeRequest::default()
    }
}

pub fn txn(txn: &Txn) -> TxnRequest {
    let ops = |ops: &[PlainOp]| ops.iter().map(operation).collect();
    TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: ops(&txn.success),
        failure: ops(&txn.failure),
    }
}

fn operation(op: &PlainOp) -> RequestOp {
    RequestOp {
        request: Some(match op {
            PlainOp::Range(plain) => Op::RequestRange(range(plain)),
            PlainOp::Put(plain) => Op::RequestPut(put(plain)),
            PlainOp::DeleteRange(plain) => Op::RequestDeleteRange(delete(plain)),
            PlainOp::Txn(plain) => Op::RequestTxn(txn(plain)),
        }),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    let CompareTarget::Mod(revision) = &compare.target else {
        panic!("the load guards by mod revision: {compare:?}");
    };
    pb::Compare {
        result: compare.result,
        target: Target::Mod.into(),
        key: compare.range.key.clone(),
        target_union: Some(TargetUnion::ModRevision(*revision)),
        ..pb::Compare::default()
    }
}

pub fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.to_vec(),
        create: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        value: numbered(content::number(&kv.value)).to_vec(),
        lease: kv.lease,
    }
}

fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

pub fn put_answer(response: &pb::PutResponse) -> Answer {
    Answer::Put {
        revision: revision(response.header.as_ref()),
        previous: response.prev_kv.as_ref().map(key_value),
    }
}

pub fn delete_answer(response: &pb::DeleteRangeResponse) -> Answer {
    Answer::Delete {
        revision: revision(response.header.as_ref()),
        deleted: response.deleted,
        previous: response.prev_kvs.iter().map(key_value).collect(),
    }
}

pub fn range_answer(response: &pb::RangeResponse) -> Answer {
    Answer::Range {
        revision: revision(response.header.as_ref()),
        key_values: response.kvs.iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

pub fn txn_answer(response: &pb::TxnResponse) -> Answer {
    let answers = response.responses.iter().map(|op| match &op.response {
        Some(OpAnswer::ResponseRange(response)) => range_answer(response),
        Some(OpAnswer::ResponsePut(response)) => put_answer(response),
        Some(OpAnswer::ResponseDeleteRange(response)) => delete_answer(response),
        Some(OpAnswer::ResponseTxn(response)) => txn_answer(response),
        None => panic!("an operation without an answer: {response:?}"),
    });
    Answer::Txn {
        revision: revision(response.header.as_ref()),
        succeeded: response.succeeded,
        answers: answers.collect(),
    }
}

/// An event with its revision; its place within it is not on the wire.
pub fn event(event: &Event) -> (i64, Change) {
    let kv = event.kv.as_ref().expect("an event has a key");
    let change = Change {
        sub: 0,
        deletion: event.r#type() == EventType::Delete,
        key_value: key_value(kv),
        previous: event.prev_kv.as_ref().map(key_value),
    };
    (kv.mod_revision, change)
}

/// What a status says for certain: the request was refused and had no effect. Anything else
/// leaves the outcome open.
pub fn refusal(status: &tonic::Status) -> Option<&'static str> {
    const TEXTS: [(&str, &str); 5] = [
        ("required revision has been compacted", "Compacted"),
        ("required revision is a future revision", "FutureRevision"),
        ("requested lease not found", "LeaseNotFound"),
        ("database space exceeded", "NoSpace"),
        ("too many requests", "TooManyRequests"),
    ];
    let known = TEXTS
        .iter()
        .find(|(text, _)| status.message().contains(text));
    known.map(|(_, name)| *name)
}
