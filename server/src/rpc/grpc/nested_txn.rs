//! Transactions within transactions, deeper than prost lets messages nest. Merges the levels one
//! by one; all else is prost's. Called for bytes that `lenient` has looked at, and only when
//! prost has given up on them: about 50 levels.
//!
//! Limit: [`TXN_DEPTH_MAX`] levels are decoded, which bounds the recursion here and of whoever
//! walks what came out. Of the next one it is only told that it is there, which `validate`
//! refuses: nothing that is answered is lost with what lies in it.

use bytes::{Buf, Bytes};
use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::request_op::Request;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use storage::limits::TXN_DEPTH_MAX;

/// The fields of a `TxnRequest` that hold operations.
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;

/// The field of a `RequestOp` that holds a transaction.
const REQUEST_TXN: u32 = 4;

/// Merges an encoded transaction into `txn`, as prost does; None when the bytes are none.
pub(super) fn merge(txn: &mut pb::TxnRequest, bytes: Bytes) -> Option<()> {
    merge_txn(txn, bytes, TXN_DEPTH_MAX)
}

fn merge_txn(txn: &mut pb::TxnRequest, mut rest: Bytes, levels: usize) -> Option<()> {
    while rest.has_remaining() {
        let (number, mut field, content) = take_field(&mut rest)?;
        let list = match number {
            SUCCESS => &mut txn.success,
            FAILURE => &mut txn.failure,
            _ => {
                txn.merge(&mut field).ok()?;
                continue;
            }
        };
        let mut operation = pb::RequestOp::default();
        merge_operation(&mut operation, content, levels)?;
        list.push(operation);
    }
    Some(())
}

/// The last variant that is set counts; the same one twice is merged.
fn merge_operation(operation: &mut pb::RequestOp, mut rest: Bytes, levels: usize) -> Option<()> {
    while rest.has_remaining() {
        let (number, mut field, content) = take_field(&mut rest)?;
        if number != REQUEST_TXN {
            operation.merge(&mut field).ok()?;
            continue;
        }
        let mut txn = match operation.request.take() {
            Some(Request::RequestTxn(txn)) => txn,
            _ => pb::TxnRequest::default(),
        };
        if levels > 1 {
            merge_txn(&mut txn, content, levels - 1)?;
        }
        operation.request = Some(Request::RequestTxn(txn));
    }
    Some(())
}

/// The next field: its number, all of it, and its content. All fields of both messages are
/// length-delimited; `lenient` has left out what is not.
fn take_field(rest: &mut Bytes) -> Option<(u32, Bytes, Bytes)> {
    let whole = rest.clone();
    let (number, wire) = decode_key(rest).ok()?;
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    if wire != WireType::LengthDelimited || length > rest.len() {
        return None;
    }
    let content = rest.split_to(length);
    let field = whole.slice(..whole.len() - rest.len());
    Some((number, field, content))
}

#[cfg(test)]
pub(super) use tests::levels;

#[cfg(test)]
mod tests {
    use std::thread;

    use storage::apply::codec;
    use storage::apply::command::{Command, Envelope};
    use storage::types::RequestId;

    use super::*;
    use crate::rpc::{convert, validate};

    /// How deep the first transaction of each level leads.
    pub(in super::super) fn levels(txn: &pb::TxnRequest) -> usize {
        let first = txn.success.first().and_then(|first| first.request.as_ref());
        match first {
            Some(Request::RequestTxn(inner)) => 1 + levels(inner),
            _ => 1,
        }
    }

    /// A field of bytes.
    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(number, WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        [bytes, content.to_vec()].concat()
    }

    fn nested(levels: usize, innermost: Vec<u8>) -> Bytes {
        let nest = |inner: Vec<u8>, _| field(SUCCESS, &field(REQUEST_TXN, &inner));
        Bytes::from((1..levels).fold(innermost, nest))
    }

    fn merged(bytes: Bytes) -> Option<pb::TxnRequest> {
        let mut txn = pb::TxnRequest::default();
        merge(&mut txn, bytes).map(|()| txn)
    }

    /// On an eighth of the stack that the connections' thread has: all that walks a
    /// transaction on its way into the log and out of it again.
    #[test]
    fn the_deepest_needs_little_stack() {
        const STACK_BYTES: usize = 1 << 20;
        let walk = || {
            let put = field(SUCCESS, &field(2, &field(1, b"k")));
            for (levels_sent, decoded, valid) in [
                (TXN_DEPTH_MAX - 1, TXN_DEPTH_MAX - 1, true),
                (TXN_DEPTH_MAX, TXN_DEPTH_MAX, true),
                (TXN_DEPTH_MAX + 1, TXN_DEPTH_MAX + 1, false),
                (10_000, TXN_DEPTH_MAX + 1, false),
            ] {
                let txn = merged(nested(levels_sent, put.clone())).expect("it is sound");
                assert_eq!(levels(&txn), decoded);
                let form = validate::txn(&txn, usize::MAX);
                assert_eq!(form.is_ok(), valid, "{levels_sent} levels");
                assert_eq!(txn.clone(), txn);
                let command = Command::Txn(convert::txn(txn).expect("it is known"));
                let envelope = Envelope {
                    request_id: RequestId(1),
                    command,
                };
                let encoded = codec::encode(&envelope);
                assert_eq!(encoded.is_ok(), valid, "{levels_sent} levels");
                if let Ok(encoded) = encoded {
                    assert_eq!(codec::decode(&encoded).expect("it was encoded"), envelope);
                }
            }
        };
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(walk);
        thread.expect("a thread").join().expect("it fits");
    }

    /// Whatever prost decodes is decoded the same.
    #[test]
    fn it_merges_as_prost_does() {
        let put = |key: &[u8]| field(2, &field(1, key));
        let inner = |key: &[u8]| field(REQUEST_TXN, &field(SUCCESS, &put(key)));
        for operation in [
            Vec::new(),
            put(b"a"),
            inner(b"a"),
            [inner(b"a"), inner(b"b")].concat(),
            [inner(b"a"), put(b"b")].concat(),
            [put(b"a"), inner(b"b")].concat(),
            [inner(b"a"), put(b"b"), inner(b"c")].concat(),
            [put(b"a"), field(2, &field(2, b"v"))].concat(),
        ] {
            let compare = field(1, &field(3, b"k"));
            let bytes = [
                field(SUCCESS, &operation),
                compare.clone(),
                field(FAILURE, &operation),
                field(FAILURE, &put(b"z")),
                compare,
            ];
            let bytes = Bytes::from(bytes.concat());
            let wanted = pb::TxnRequest::decode(bytes.clone()).expect("prost decodes it");
            assert_eq!(merged(bytes), Some(wanted), "{operation:x?}");
        }
        for broken in [
            &b"\x12"[..],
            b"\x12\x05\x22\x7f",
            b"\x12\x02\x22\x01",
            b"\x10\x01",
        ] {
            assert_eq!(merged(Bytes::from_static(broken)), None, "{broken:x?}");
        }
    }
}
