//! Transactions that more than one test sends.

use kvproto::etcdserverpb::request_op::Request;
use kvproto::etcdserverpb::{RequestOp, TxnRequest, TxnResponse};

use super::client::Client;

pub const TXN: &str = "/etcdserverpb.KV/Txn";

pub fn op(request: Request) -> RequestOp {
    let request = Some(request);
    RequestOp { request }
}

pub fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

/// Carries these out, 100 in a transaction; gives the revision of each.
pub async fn in_hundreds(client: &mut Client, ops: Vec<RequestOp>) -> Vec<i64> {
    let mut revisions = Vec::new();
    for ops in ops.chunks(100) {
        let answer: TxnResponse = client.unary(TXN, &txn(ops.to_vec())).await.unwrap();
        let revision = answer.header.unwrap().revision;
        revisions.extend(ops.iter().map(|_| revision));
    }
    revisions
}
