//! Objects as kube-apiserver writes them, and a state machine that holds them.

use bytes::Bytes;
use storage::apply::command::{Command, Envelope, Put};
use storage::apply::{EntryData, Outcome, StateMachine, codec};
use storage::types::{LogIndex, RequestId, SegmentNumber, Term};

/// Bytes of a value.
pub const VALUE_BYTES: usize = 1_024;
/// The prefix of all objects.
pub const PREFIX: &str = "/registry/pods/";
/// Objects in one namespace.
const NAMESPACE_OBJECTS: u64 = 400;

/// The key of one object, about 50 bytes long.
pub fn key(number: u64) -> Bytes {
    let namespace = number / NAMESPACE_OBJECTS;
    let place = number % NAMESPACE_OBJECTS;
    Bytes::from(format!(
        "{PREFIX}namespace-{namespace:05}/object-{place:03}-{number:010x}"
    ))
}

/// A value that differs from the next one.
pub fn value(number: u64) -> Bytes {
    let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    Bytes::from(word.repeat(VALUE_BYTES / word.len()))
}

/// A put of one object.
pub fn put(number: u64, version: u64) -> Envelope {
    let command = Command::Put(Put {
        key: key(number),
        value: value(number ^ (version << 32)),
        ..Put::default()
    });
    Envelope {
        request_id: RequestId(number),
        command,
    }
}

/// A command in the form in which it is applied.
pub struct Entry {
    data: EntryData,
    envelope: Envelope,
}

/// Encodes a command as the log holds it, and reads it back.
pub fn entry(envelope: &Envelope) -> Entry {
    let bytes = codec::encode(envelope).expect("a small command");
    let envelope = codec::decode(&bytes).expect("what was encoded");
    let data = EntryData {
        bytes,
        segment: SegmentNumber(1),
        offset: 4_096,
    };
    Entry { data, envelope }
}

/// Applies it at the next index.
pub fn apply(machine: &mut StateMachine, entry: &Entry) -> Outcome {
    let index = LogIndex(machine.applied_index().0 + 1);
    let outcome = machine.apply(index, Term(1), &entry.data, &entry.envelope);
    assert!(outcome.result.is_ok(), "a put succeeds");
    outcome
}
