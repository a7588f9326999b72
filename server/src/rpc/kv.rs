//! Put, DeleteRange, Txn, Compact.

use http::Response;
use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::request_op::Request;
use kvproto::mvccpb;
use prost::Message;
use prost::encoding::encoded_len_varint;
use storage::apply::command::{Alarm, Command, Txn};
use storage::apply::{OpResult, Projection, Response as Outcome, TxnResult, space};
use storage::error::Refusal;
use storage::types::KeyValueRef;
use tonic::Status;

use super::grpc::{AnswerBody, frame_message, streaming, unary};
use super::large::Layout;
use super::range::{Made, Measured, WHOLE_BYTES_MAX, finish, make_deferred};
use super::status::{self, invalid};
use super::{Context, convert, validate};
use crate::runtime::{Pin, Rejected, Values};

/// A write must fit into one entry of the log (contract 8). The limit is on the
/// entry as etcd writes it: the request as a field beside a header with an id
/// that begins with the low 16 bits of the member's.
fn check_size(context: &Context, request: &impl Message) -> Result<(), Status> {
    const HEADER_TAGS_AND_LENGTH_BYTES: usize = 4;
    const FIELD_TAG_BYTES: usize = 1;
    const OTHER_ID_BITS: u64 = (1 << 48) - 1;
    let member = context.handle.view().identity().member_id;
    let id = encoded_len_varint(member.0 << 48 | OTHER_ID_BITS);
    let length = request.encoded_len();
    let field = FIELD_TAG_BYTES + encoded_len_varint(length as u64) + length;
    if HEADER_TAGS_AND_LENGTH_BYTES + id + field > context.options.request_bytes_max {
        return Err(invalid::request_too_large());
    }
    Ok(())
}

/// etcd looks at the quota before it looks at the request: a write that is
/// refused for its form is refused for want of space if that is short too.
async fn refused(context: &Context, form: Status, command: Option<Command>) -> Status {
    let Some(command) = command else {
        return form;
    };
    let quota = u64::try_from(context.options.quota_bytes).ok();
    let (_, in_use) = context.handle.view().size();
    if space::fits(in_use, space::cost_bytes(&command), quota) {
        return form;
    }
    let raise = Command::Alarm {
        activate: true,
        member: context.handle.view().identity().member_id,
        alarm: Alarm::NoSpace,
    };
    match context.handle.propose(raise).await {
        Ok(_) => status::refused(&Refusal::NoSpace),
        Err(rejected) => rejected.into(),
    }
}

/// Contract 1.6.
pub(super) async fn put(
    context: &Context,
    request: pb::PutRequest,
) -> Result<pb::PutResponse, Status> {
    if let Err(form) = validate::put(&request).and_then(|()| check_size(context, &request)) {
        let command = Command::Put(convert::put(request));
        return Err(Box::pin(refused(context, form, Some(command))).await);
    }
    let applied = context
        .handle
        .propose(Command::Put(convert::put(request)))
        .await?;
    let Outcome::Put { previous } = applied.response else {
        unreachable!("a put is answered as a put");
    };
    Ok(pb::PutResponse {
        header: Some(context.handle.view().header(applied.revision)),
        prev_kv: optional(context.handle.values(), previous, &applied.pin).await?,
    })
}

/// Contract 1.6.
pub(super) async fn delete_range(
    context: &Context,
    request: pb::DeleteRangeRequest,
) -> Result<Response<AnswerBody>, Status> {
    validate::delete_range(&request)?;
    check_size(context, &request)?;
    let command = Command::DeleteRange(convert::delete_range(request));
    let applied = context.handle.propose(command).await?;
    let Outcome::DeleteRange { deleted, previous } = applied.response else {
        unreachable!("a deletion is answered as a deletion");
    };
    let header = Some(context.handle.view().header(applied.revision));
    let bytes: usize = previous.iter().map(KeyValueRef::encoded_len).sum();
    if bytes as u64 > WHOLE_BYTES_MAX {
        let layout = Layout::delete_range(header, deleted, previous);
        return Ok(in_chunks(context, layout, applied.pin));
    }
    Ok(unary(frame_message(&pb::DeleteRangeResponse {
        header,
        deleted,
        prev_kvs: all(context.handle.values(), previous, &applied.pin).await?,
    })))
}

/// Contract 1.7.
pub(super) async fn txn(
    context: &Context,
    request: pb::TxnRequest,
) -> Result<Response<AnswerBody>, Status> {
    let (result, revision, pin) = decided(context, request).await?;
    txn_response(context, result, revision, pin).await
}

/// The transaction's result, its revision, and what holds what it read.
async fn decided(
    context: &Context,
    request: pb::TxnRequest,
) -> Result<(TxnResult, i64, Pin), Status> {
    let form = validate::txn(&request, context.options.txn_operations_max);
    // What only reads writes no entry, so it may be as large as a message.
    let size = check_size(context, &request);
    let serializable = only_serializable_reads(&request);
    let txn = convert::txn(request);
    let read_only = txn.as_ref().is_ok_and(Txn::is_read_only);
    if let Err(form) = form.and(if read_only { Ok(()) } else { size }) {
        return Err(Box::pin(refused(context, form, txn.ok().map(Command::Txn))).await);
    }
    let txn = txn?;
    if read_only {
        let read = context.handle.read_txn(txn, !serializable).await?;
        let revision = read.result.revision;
        return Ok((read.result, revision, read.pin));
    }
    let applied = context.handle.propose(Command::Txn(txn)).await?;
    let Outcome::Txn(result) = applied.response else {
        unreachable!("a transaction is answered as a transaction");
    };
    Ok((result, applied.revision, applied.pin))
}

/// Contract 1.8.
pub(super) async fn compact(
    context: &Context,
    request: pb::CompactionRequest,
) -> Result<pb::CompactionResponse, Status> {
    let revision = request.revision;
    let command = Command::Compact { revision };
    // Only the revision is kept: the answer's pin would hold back the purge.
    let current = context.handle.propose(command).await?.revision;
    if request.physical {
        context.handle.purged(revision).await?;
    }
    Ok(pb::CompactionResponse {
        header: Some(context.handle.view().header(current)),
    })
}

/// A read-only transaction needs no barrier when every read in it is
/// serializable (contract 1.7).
fn only_serializable_reads(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|operation| match &operation.request {
            Some(Request::RequestRange(range)) => range.serializable,
            _ => false,
        })
}

async fn txn_response(
    context: &Context,
    mut result: TxnResult,
    revision: i64,
    pin: Pin,
) -> Result<Response<AnswerBody>, Status> {
    let header = Some(context.handle.view().header(revision));
    let deferred = read_deferred(context, &mut result, &pin).await?;
    if !deferred.is_empty() || bytes(&result) > WHOLE_BYTES_MAX {
        return Ok(in_chunks(
            context,
            Layout::txn(header, result, deferred),
            pin,
        ));
    }
    let mut references = Vec::new();
    for_each_reference(&mut result, &mut |reference| {
        references.push(reference.clone())
    });
    make_resident(context.handle.values(), &mut references, &pin).await?;
    let mut resident = references.into_iter();
    for_each_reference(&mut result, &mut |reference| {
        *reference = resident.next().expect("both walks see the same references");
    });
    Ok(unary(frame_message(&pb::TxnResponse {
        header,
        ..convert::txn_result(result)
    })))
}

/// Reads what the transaction has deferred, one range after the other: small ones become part
/// of the result, large ones are given in their order. Fails as [`make_resident`] does.
async fn read_deferred(
    context: &Context,
    result: &mut TxnResult,
    pin: &Pin,
) -> Result<Vec<Measured>, Rejected> {
    let (mut waiting, mut large) = (Vec::new(), Vec::new());
    find_deferred(result, &mut waiting);
    for response in waiting {
        let OpResult::Deferred(range) = response else {
            unreachable!("only deferred ones were looked for");
        };
        let made = Box::pin(make_deferred(context, range, pin)).await;
        match made.map_err(|_| Rejected::TimedOut)? {
            Made::Whole(range) => *response = OpResult::Range(range),
            Made::Measured(range) => large.push(*range),
        }
    }
    Ok(large)
}

fn find_deferred<'a>(result: &'a mut TxnResult, found: &mut Vec<&'a mut OpResult>) {
    for response in &mut result.responses {
        match response {
            OpResult::Txn(nested) => find_deferred(nested, found),
            OpResult::Deferred(_) => found.push(response),
            OpResult::Range(_) | OpResult::Put { .. } | OpResult::DeleteRange { .. } => {}
        }
    }
}

/// Bytes of all key-values in a result; of those that go out without their value, more than that.
fn bytes(result: &TxnResult) -> u64 {
    let all =
        |list: &[KeyValueRef]| list.iter().map(KeyValueRef::encoded_len).sum::<usize>() as u64;
    let bytes = result.responses.iter().map(|response| match response {
        OpResult::Range(range) => all(&range.key_values),
        OpResult::Put { previous, .. } => all(previous.as_slice()),
        OpResult::DeleteRange { previous, .. } => all(previous),
        OpResult::Deferred(_) => 0,
        OpResult::Txn(nested) => bytes(nested),
    });
    bytes.sum()
}

/// An answer that is written while the client takes it.
fn in_chunks(context: &Context, layout: Layout, pin: Pin) -> Response<AnswerBody> {
    let (sender, response) = streaming();
    let values = context.handle.values().clone();
    tokio::spawn(async move {
        let end = layout.send(&values, &pin, &sender).await;
        finish(sender, end).await;
    });
    response
}

/// Visits every reference whose value goes out, in a fixed order.
fn for_each_reference(result: &mut TxnResult, visit: &mut impl FnMut(&mut KeyValueRef)) {
    for response in &mut result.responses {
        match response {
            OpResult::Range(range) if range.projection == Projection::Whole => {
                range.key_values.iter_mut().for_each(&mut *visit);
            }
            OpResult::Range(_) | OpResult::Deferred(_) => {}
            OpResult::Put { previous, .. } => previous.iter_mut().for_each(&mut *visit),
            OpResult::DeleteRange { previous, .. } => previous.iter_mut().for_each(&mut *visit),
            OpResult::Txn(nested) => for_each_reference(nested, visit),
        }
    }
}

async fn optional(
    values: &Values,
    reference: Option<KeyValueRef>,
    pin: &Pin,
) -> Result<Option<mvccpb::KeyValue>, Rejected> {
    match reference {
        Some(reference) => {
            let encoded = values.encoded_held(&reference, pin).await;
            let encoded = encoded.map_err(|_| Rejected::TimedOut)?;
            Ok(Some(convert::key_value(&encoded)))
        }
        None => Ok(None),
    }
}

async fn all(
    values: &Values,
    mut references: Vec<KeyValueRef>,
    pin: &Pin,
) -> Result<Vec<mvccpb::KeyValue>, Rejected> {
    make_resident(values, &mut references, pin).await?;
    Ok(references.iter().map(convert::resident).collect())
}

/// Fails only when this takes so long that compaction passes what was read and its values go.
/// The write has happened: the answer leaves that open.
async fn make_resident(
    values: &Values,
    references: &mut Vec<KeyValueRef>,
    pin: &Pin,
) -> Result<(), Rejected> {
    let made = values.make_resident(references, pin).await;
    made.map_err(|_| Rejected::TimedOut)
}
