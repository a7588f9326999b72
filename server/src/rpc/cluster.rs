//! Membership, as far as it exists: one member that lists itself (contract 1.11).

use kvproto::etcdserverpb as pb;
use tonic::Status;

use super::Context;

/// All members, sorted by id; the header has no revision (contract 1.3).
pub(super) async fn member_list(
    context: &Context,
    request: pb::MemberListRequest,
) -> Result<pb::MemberListResponse, Status> {
    if request.linearizable {
        context.handle.barrier().await?;
    }
    let identity = context.handle.view().identity();
    let member = pb::Member {
        id: identity.member_id.0,
        name: identity.name.clone(),
        peer_ur_ls: identity.peer_urls.clone(),
        client_ur_ls: identity.client_urls.clone(),
        is_learner: false,
    };
    Ok(pb::MemberListResponse {
        header: Some(context.handle.view().header(0)),
        members: vec![member],
    })
}
