//! Leases (contract 1.10).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use storage::apply::Response;
use storage::apply::command::{Alarm, Command};
use storage::error::Refusal;
use storage::types::LeaseId;
use tonic::{Code, Status};

use super::grpc::{BodySender, DRAIN_TIMEOUT, MessageStream, frame_message};
use super::{Context, status};
use crate::runtime::Rejected;

/// How often a lease that has ended is looked at until it is gone.
const ENDING_POLL: Duration = Duration::from_millis(10);

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
    let lease = LeaseId(request.id);
    if lease.is_none() {
        // No lease has this id, so no entry is written for it. etcd looks at the alarm first.
        let alarms = context.handle.view().alarms();
        let is_corrupt = alarms.iter().any(|(_, alarm)| *alarm == Alarm::Corrupt);
        return Err(status::refused(if is_corrupt {
            &Refusal::Corrupt
        } else {
            &Refusal::LeaseNotFound
        }));
    }
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
        let next = async {
            let Some(request) = requests.next().await? else {
                return Ok(None);
            };
            // The header's revision is from before the renewal (contract 1.10).
            let view = context.handle.view();
            let header = Some(view.header(view.revision()));
            let ttl = renewed(&context, LeaseId(request.id)).await?;
            Ok::<_, Status>(Some((request, header, ttl)))
        };
        let next = tokio::select! {
            biased;
            () = gone.closed() => return,
            () = context.handle.stopped() => {
                break Rejected::Stopped.into();
            }
            next = next => next,
        };
        let (request, header, ttl) = match next {
            Ok(Some(renewed)) => renewed,
            Ok(None) => break Status::new(Code::Ok, ""),
            Err(status) => break status,
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
    // A client that goes on sending is not waited for.
    tokio::time::timeout(DRAIN_TIMEOUT, requests.drain())
        .await
        .unwrap_or(());
}

/// The TTL of a lease that was renewed; 0 of one that is unknown, or of one that
/// has ended as soon as it and its keys are gone: until then a client could still
/// read what it is told has ended.
async fn renewed(context: &Context, lease: LeaseId) -> Result<i64, Status> {
    loop {
        if let Some(ttl) = context.handle.lease_renew(lease).await? {
            return Ok(ttl);
        }
        if context.handle.lease_state(lease, false).await?.is_none() {
            return Ok(0);
        }
        tokio::time::sleep(ENDING_POLL).await;
    }
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
