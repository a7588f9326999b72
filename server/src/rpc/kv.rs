//! Put, DeleteRange, Txn, Compact.

use std::sync::atomic::{AtomicU64, Ordering};

use kvproto::etcdserverpb as pb;
use prost::Message;
use storage::apply::command::{Command, RequestOp};
use storage::apply::{OpResult, Response, TxnResult};
use storage::types::KeyValueRef;
use tonic::Status;

use super::status::invalid;
use super::{Context, convert, range, validate};
use crate::runtime::Values;

/// A write must fit into one entry of the log (contract 8).
fn check_size(context: &Context, request: &impl Message) -> Result<(), Status> {
    if request.encoded_len() > context.options.request_bytes_max {
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
    check_size(context, &request)?;
    let applied = context.handle.propose(Command::Put(convert::put(request))).await?;
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
    check_size(context, &request)?;
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
    check_size(context, &request)?;
    let txn = convert::txn(request)?;
    if txn.is_read_only() {
        let serializable = is_serializable(&txn);
        let read = context.handle.read_txn(txn, !serializable).await?;
        let mut response = txn_response(context, read.result).await;
        fill_header(context, &mut response, context.handle.view().revision());
        return Ok(response);
    }
    let applied = context.handle.propose(Command::Txn(txn)).await?;
    let Response::Txn(result) = applied.response else {
        unreachable!("a transaction is answered as a transaction");
    };
    let mut response = txn_response(context, result).await;
    fill_header(context, &mut response, applied.revision);
    Ok(response)
}
