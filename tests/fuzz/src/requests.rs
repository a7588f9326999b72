//! What becomes of a request that was decoded: it encodes to what decodes to it, and one
//! that passes validation converts to a command with a byte form of its own.

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use prost::Message;
use storage::apply::codec;
use storage::apply::command::{Command, Envelope, RequestOp};
use storage::types::RequestId;

use crate::{convert, validate};

/// `--max-txn-ops` by default.
const OPERATIONS_MAX: usize = 128;

/// A message that decodes is equal after another trip.
pub fn check_message<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = message.encode_to_vec();
    assert_eq!(again.len(), message.encoded_len());
    let decoded = M::decode(&again[..]);
    assert!(decoded == Ok(message), "{again:?}");
    decoded.ok()
}

pub fn check_range(request: pb::RangeRequest) -> bool {
    let valid = validate::range(&request).is_ok();
    let converted = convert::range(request);
    assert!(converted.is_ok() || !valid);
    valid
}

pub fn check_put(request: pb::PutRequest) -> bool {
    let valid = validate::put(&request).is_ok();
    valid && has_a_byte_form(Command::Put(convert::put(request)))
}

pub fn check_delete_range(request: pb::DeleteRangeRequest) -> bool {
    let valid = validate::delete_range(&request).is_ok();
    valid && has_a_byte_form(Command::DeleteRange(convert::delete_range(request)))
}

pub fn check_txn(request: pb::TxnRequest) -> bool {
    if validate::txn(&request, OPERATIONS_MAX).is_err() {
        return false;
    }
    let operations = request.success.len() + request.failure.len();
    let txn = convert::txn(request).expect("a valid transaction converts");
    assert_eq!(txn.success.len() + txn.failure.len(), operations);
    let nested = txn.success.iter().any(|op| matches!(op, RequestOp::Txn(_)));
    has_a_byte_form(Command::Txn(txn)) || nested
}

fn has_a_byte_form(command: Command) -> bool {
    let envelope = Envelope {
        request_id: RequestId(7),
        command,
    };
    let bytes: Bytes = codec::encode(&envelope).expect("a valid request has a byte form");
    assert_eq!(codec::decode(&bytes), Ok(envelope));
    true
}
