//! Put, DeleteRange, Txn, Compact.

use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::request_op::Request;
use kvproto::mvccpb;
use prost::Message;
use prost::encoding::encoded_len_varint;
use storage::apply::command::Command;
use storage::apply::{OpResult, Projection, Response, TxnResult};
use storage::types::KeyValueRef;
use tonic::Status;

use super::status::invalid;
use super::{Context, convert, validate};
use crate::runtime::Values;

/// What etcd's log entry holds beside the request: the header with an id of ten
/// bytes. Ours is smaller, but the limit is etcd's.
const ENTRY_HEADER_BYTES: usize = 13;

/// A write must fit into one entry of the log (contract 8), as etcd encodes it:
/// the header, then the request as a field of its own.
fn check_size(context: &Context, request_bytes: usize) -> Result<(), Status> {
    let field = 1 + encoded_len_varint(request_bytes as u64) + request_bytes;
    if ENTRY_HEADER_BYTES + field > context.options.request_bytes_max {
        return Err(invalid::request_too_large());
    }
    Ok(())
}

/// Contract 1.6.
pub(super) async fn put(
    context: &Context,
    request: pb::PutRequest,
) -> Result<pb::PutResponse, Status> {
    validate::put(&request)?;
    check_size(context, request.encoded_len())?;
    let applied = context
        .handle
        .propose(Command::Put(convert::put(request)))
        .await?;
    let Response::Put { previous } = applied.response else {
        unreachable!("a put is answered as a put");
    };
    Ok(pb::PutResponse {
        header: Some(context.handle.view().header(applied.revision)),
        prev_kv: optional(context.handle.values(), previous).await,
    })
}

/// Contract 1.6.
pub(super) async fn delete_range(
    context: &Context,
    request: pb::DeleteRangeRequest,
) -> Result<pb::DeleteRangeResponse, Status> {
    validate::delete_range(&request)?;
    check_size(context, request.encoded_len())?;
    let command = Command::DeleteRange(convert::delete_range(request));
    let applied = context.handle.propose(command).await?;
    let Response::DeleteRange { deleted, previous } = applied.response else {
        unreachable!("a deletion is answered as a deletion");
    };
    Ok(pb::DeleteRangeResponse {
        header: Some(context.handle.view().header(applied.revision)),
        deleted,
        prev_kvs: all(context.handle.values(), previous).await,
    })
}

/// Contract 1.7.
pub(super) async fn txn(
    context: &Context,
    request: pb::TxnRequest,
) -> Result<pb::TxnResponse, Status> {
    validate::txn(&request, context.options.txn_operations_max)?;
    let request_bytes = request.encoded_len();
    let serializable = only_serializable_reads(&request);
    let txn = convert::txn(request)?;
    if txn.is_read_only() {
        let read = context.handle.read_txn(txn, !serializable).await?;
        let revision = read.result.revision;
        return Ok(txn_response(context, read.result, revision).await);
    }
    check_size(context, request_bytes)?;
    let applied = context.handle.propose(Command::Txn(txn)).await?;
    let Response::Txn(result) = applied.response else {
        unreachable!("a transaction is answered as a transaction");
    };
    Ok(txn_response(context, result, applied.revision).await)
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

async fn txn_response(context: &Context, mut result: TxnResult, revision: i64) -> pb::TxnResponse {
    let mut references = Vec::new();
    for_each_reference(&mut result, &mut |reference| {
        references.push(reference.clone())
    });
    context.handle.values().make_resident(&mut references).await;
    let mut resident = references.into_iter();
    for_each_reference(&mut result, &mut |reference| {
        *reference = resident.next().expect("both walks see the same references");
    });
    pb::TxnResponse {
        header: Some(context.handle.view().header(revision)),
        ..convert::txn_result(result)
    }
}

/// Visits every reference whose value goes out, in a fixed order.
fn for_each_reference(result: &mut TxnResult, visit: &mut impl FnMut(&mut KeyValueRef)) {
    for response in &mut result.responses {
        match response {
            OpResult::Range(range) if range.projection == Projection::Whole => {
                range.key_values.iter_mut().for_each(&mut *visit);
            }
            OpResult::Range(_) => {}
            OpResult::Put { previous, .. } => previous.iter_mut().for_each(&mut *visit),
            OpResult::DeleteRange { previous, .. } => previous.iter_mut().for_each(&mut *visit),
            OpResult::Txn(nested) => for_each_reference(nested, visit),
        }
    }
}

async fn optional(values: &Values, reference: Option<KeyValueRef>) -> Option<mvccpb::KeyValue> {
    match reference {
        Some(reference) => Some(convert::key_value(&values.encoded(&reference).await)),
        None => None,
    }
}

async fn all(values: &Values, mut references: Vec<KeyValueRef>) -> Vec<mvccpb::KeyValue> {
    values.make_resident(&mut references).await;
    references.iter().map(convert::resident).collect()
}
