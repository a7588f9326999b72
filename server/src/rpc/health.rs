//! The gRPC health service (contract 1.1): only the service name "" is known,
//! and it serves while the member does.

use tonic::Status;

use super::Context;
use super::grpc::{BodySender, frame_message};
use crate::runtime::Rejected;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// `grpc.health.v1.HealthListRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListRequest {}

/// `grpc.health.v1.HealthListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) statuses: std::collections::BTreeMap<String, CheckResponse>,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

/// One look.
pub(super) async fn check(_: &Context, request: CheckRequest) -> Result<CheckResponse, Status> {
    if request.service.is_empty() {
        Ok(CheckResponse { status: SERVING })
    } else {
        Err(Status::not_found("unknown service"))
    }
}

/// One look at every service.
pub(super) async fn list(_: &Context, _: ListRequest) -> Result<ListResponse, Status> {
    let statuses = [(String::new(), CheckResponse { status: SERVING })].into();
    Ok(ListResponse { statuses })
}

/// The state now, and NOT_SERVING when the member stops.
pub(super) async fn watch(context: Context, request: CheckRequest, body: BodySender) {
    let status = if request.service.is_empty() {
        SERVING
    } else {
        SERVICE_UNKNOWN
    };
    for status in [status, NOT_SERVING] {
        let Ok(frame) = frame_message(&CheckResponse { status }) else {
            return;
        };
        if body.send(frame).await.is_err() {
            return;
        }
        let gone = body.clone();
        tokio::select! {
            () = gone.closed() => return,
            () = context.handle.stopped() => {}
        }
    }
    body.end(Rejected::Stopped.into()).await;
}
