//! Leases (contract 1.10).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use storage::apply::Response;
use storage::apply::command::Command;
use storage::error::Refusal;
use storage::types::LeaseId;
use tonic::{Code, Status};

use super::Context;
use super::grpc::{BodySender, MessageStream, frame_message};
use super::status::refused;
use crate::runtime::Rejected;

/// Grants a lease; the id and the raised TTL are chosen here, before the log.
pub(super) async fn grant(
    context: &Context,
    request: pb::LeaseGrantRequest,
) -> Result<pb::LeaseGrantResponse, Status> {
    let lease = if request.id == 0 {
        random_id()
    } else {
        LeaseId(request.id)
    };
    let ttl_seconds = request.ttl.max(context.options.lease_ttl_seconds_min);
    let applied = context
        .handle
        .propose(Command::LeaseGrant { lease, ttl_seconds })
        .await?;
    let Response::LeaseGrant { lease, ttl_seconds } = applied.response else {
        unreachable!("a grant is answered as a grant");
    };
    Ok(pb::LeaseGrantResponse {
        header: Some(context.handle.view().header(applied.revision)),
        id: lease.0,
        ttl: ttl_seconds,
        error: String::new(),
    })
}

/// Revokes a lease and deletes its keys.
pub(super) async fn revoke(
    context: &Context,
    request: pb::LeaseRevokeRequest,
) -> Result<pb::LeaseRevokeResponse, Status> {
    if request.id == 0 {
        // No lease has this id, and the log has no way to write it down.
        return Err(refused(&Refusal::LeaseNotFound));
    }
    let lease = LeaseId(request.id);
    let applied = context
        .handle
        .propose(Command::LeaseRevoke { lease })
        .await?;
    Ok(pb::LeaseRevokeResponse {
        header: Some(context.handle.view().header(applied.revision)),
    })
}

/// Time left, and keys; an unknown lease is no error but TTL -1.
pub(super) async fn time_to_live(
    context: &Context,
    request: pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse, Status> {
    let state = context
        .handle
        .lease_state(LeaseId(request.id), request.keys)
        .await?;
    let header = Some(
        context
            .handle
            .view()
            .header(context.handle.view().revision()),
    );
    let mut response = pb::LeaseTimeToLiveResponse {
        header,
        id: request.id,
        ttl: -1,
        granted_ttl: 0,
        keys: Vec::new(),
    };
    if let Some(state) = state {
        response.ttl = state.remaining_seconds;
        response.granted_ttl = state.granted_seconds;
        response.keys = state
            .keys
            .iter()
            .map(|key| Bytes::copy_from_slice(key))
            .collect();
    }
    Ok(response)
}

/// All leases by remaining time.
pub(super) async fn leases(
    context: &Context,
    _: pb::LeaseLeasesRequest,
) -> Result<pb::LeaseLeasesResponse, Status> {
    let leases = context.handle.leases().await?;
    Ok(pb::LeaseLeasesResponse {
        header: Some(
            context
                .handle
                .view()
                .header(context.handle.view().revision()),
        ),
        leases: leases
            .into_iter()
            .map(|lease| pb::LeaseStatus { id: lease.0 })
            .collect(),
    })
}

/// One answer for each request on the stream; TTL 0 for a lease that is unknown
/// or has ended, and the stream goes on.
pub(super) async fn keep_alive(
    context: Context,
    mut requests: MessageStream<pb::LeaseKeepAliveRequest>,
    body: BodySender,
) {
    let end = loop {
        let gone = body.clone();
        let request = tokio::select! {
            biased;
            () = gone.closed() => return,
            () = context.handle.stopped() => {
                break Rejected::Stopped.into();
            }
            request = requests.next() => request,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => break Status::new(Code::Ok, ""),
            Err(status) => break status,
        };
        // The header's revision is from before the renewal (contract 1.10).
        let header = Some(
            context
                .handle
                .view()
                .header(context.handle.view().revision()),
        );
        let ttl = match context.handle.lease_renew(LeaseId(request.id)).await {
            Ok(ttl) => ttl.unwrap_or(0),
            Err(rejected) => break rejected.into(),
        };
        let response = pb::LeaseKeepAliveResponse {
            header,
            id: request.id,
            ttl,
        };
        let frame = match frame_message(&response) {
            Ok(frame) => frame,
            Err(status) => break status,
        };
        if body.send(frame).await.is_err() {
            return;
        }
    };
    body.end(end).await;
}

/// A positive id that nobody has; a clash is refused as "lease already exists".
fn random_id() -> LeaseId {
    loop {
        // Every RandomState has keys of its own, seeded by the operating system.
        let id = RandomState::new().build_hasher().finish() >> 1;
        if id != 0 {
            return LeaseId(i64::try_from(id).expect("63 bits fit"));
        }
    }
}
