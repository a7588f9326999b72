//! One test per rule of the contract; each command takes the whole way through
//! its byte form.

mod kv;
mod machine;
mod range;
mod txn;

use bytes::Bytes;

use super::command::{
    Command, Compare, CompareTarget, DeleteRange, Envelope, KeyRange, Put, Range, RequestOp, Txn,
};
use super::{EntryData, Outcome, Response, StateMachine, TxnResult, codec};
use crate::error::Refusal;
use crate::mvcc::Mvcc;
use crate::types::{KeyValueRef, LeaseId, LogIndex, RequestId, SegmentNumber, Term};

/// A state machine and the next entry's position.
struct Member {
    machine: StateMachine,
}

impl Member {
    fn new() -> Member {
        Member::with_quota(None)
    }

    fn with_quota(quota_bytes: Option<u64>) -> Member {
        Member {
            machine: StateMachine::new(Mvcc::new(), quota_bytes),
        }
    }

    /// Encodes, decodes and applies.
    fn apply(&mut self, command: Command) -> Outcome {
        let index = self.machine.applied_index().0 + 1;
        let request_id = RequestId(index);
        let envelope = Envelope {
            request_id,
            command,
        };
        let bytes = codec::encode(&envelope).unwrap();
        let envelope = codec::decode(&bytes).unwrap();
        let data = EntryData {
            bytes,
            segment: SegmentNumber(1),
            offset: u32::try_from(index * 4096).unwrap(),
        };
        assert!(self.machine.needs(&envelope.command).is_empty());
        let outcome = self
            .machine
            .apply(LogIndex(index), Term(1), &data, &envelope);
        assert_eq!(outcome.request_id, request_id);
        outcome
    }

    fn put(&mut self, key: &str, value: &str) -> i64 {
        let outcome = self.apply(put(key, value));
        outcome.result.unwrap();
        outcome.revision
    }

    fn put_leased(&mut self, key: &str, lease: i64) -> i64 {
        let outcome = self.apply(Command::Put(Put {
            lease: LeaseId(lease),
            ..a_put(key, "leased")
        }));
        outcome.result.unwrap();
        outcome.revision
    }

    fn grant(&mut self, lease: i64, ttl_seconds: i64) -> Outcome {
        self.apply(Command::LeaseGrant {
            lease: LeaseId(lease),
            ttl_seconds,
        })
    }

    fn delete(&mut self, key: &str, range_end: &str) -> Outcome {
        self.apply(Command::DeleteRange(a_delete(key, range_end)))
    }

    fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        let outcome = self.apply(Command::Compact { revision });
        outcome.result.map(|_| ())
    }

    fn txn(&mut self, txn: Txn) -> (Result<TxnResult, Refusal>, i64) {
        let outcome = self.apply(Command::Txn(txn));
        let result = outcome.result.map(|response| match response {
            Response::Txn(result) => result,
            other => panic!("{other:?}"),
        });
        (result, outcome.revision)
    }

    /// The key-values of a read of everything: key, value.
    fn all(&mut self) -> Vec<(String, String)> {
        let everything = Range {
            range: keys("\0", "\0"),
            ..Range::default()
        };
        texts(&self.machine.range(&everything).unwrap().key_values)
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn keys(key: &str, range_end: &str) -> KeyRange {
    KeyRange {
        key: bytes(key),
        range_end: bytes(range_end),
    }
}

fn a_put(key: &str, value: &str) -> Put {
    Put {
        key: bytes(key),
        value: bytes(value),
        ..Put::default()
    }
}

fn put(key: &str, value: &str) -> Command {
    Command::Put(a_put(key, value))
}

fn op_put(key: &str, value: &str) -> RequestOp {
    RequestOp::Put(a_put(key, value))
}

fn a_delete(key: &str, range_end: &str) -> DeleteRange {
    DeleteRange {
        range: keys(key, range_end),
        prev_kv: true,
    }
}

fn a_range(key: &str, range_end: &str) -> Range {
    Range {
        range: keys(key, range_end),
        ..Range::default()
    }
}

fn op_range(key: &str, range_end: &str) -> RequestOp {
    RequestOp::Range(a_range(key, range_end))
}

fn compare(key: &str, range_end: &str, result: i32, target: CompareTarget) -> Compare {
    Compare {
        result,
        target,
        range: keys(key, range_end),
    }
}

fn if_then_else(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> Txn {
    Txn {
        compare,
        success,
        failure,
    }
}

fn always(success: Vec<RequestOp>) -> Txn {
    if_then_else(Vec::new(), success, Vec::new())
}

fn text(key_value: &KeyValueRef) -> (String, String) {
    let KeyValueRef::Resident(encoded) = key_value else {
        panic!("a value of these tests is resident");
    };
    let fields = encoded.fields();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(fields.key), text(fields.value))
}

fn texts(key_values: &[KeyValueRef]) -> Vec<(String, String)> {
    key_values.iter().map(text).collect()
}

fn keys_of(key_values: &[KeyValueRef]) -> Vec<String> {
    key_values
        .iter()
        .map(|key_value| text(key_value).0)
        .collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_string(), value.to_string())
}
