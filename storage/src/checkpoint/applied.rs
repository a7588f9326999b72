//! The step that tests of checkpoints take machines by.

use crate::apply::command::{Command, Envelope};
use crate::apply::{EntryData, Outcome, StateMachine, codec};
use crate::types::{LogIndex, RequestId, SegmentNumber, Term};

/// Applies a command as the next entry, in the bytes that the log would hold.
pub(super) fn apply(machine: &mut StateMachine, command: &Command) -> Outcome {
    let envelope = Envelope {
        request_id: RequestId(0),
        command: command.clone(),
    };
    let bytes = codec::encode(&envelope).unwrap();
    let envelope = codec::decode(&bytes).unwrap();
    let data = EntryData {
        bytes,
        segment: SegmentNumber(1),
        offset: 4096,
    };
    let index = LogIndex(machine.applied_index().0 + 1);
    machine.apply(index, Term(1), &data, &envelope)
}
