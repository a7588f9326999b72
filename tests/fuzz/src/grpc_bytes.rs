//! Each request of each service as bytes: the first one chooses the request.

use kvproto::{etcdserverpb as pb, v3electionpb, v3lockpb};

use crate::requests::{check_delete_range, check_message, check_put, check_range, check_txn};

pub fn check(data: &[u8]) -> bool {
    let Some((choice, bytes)) = data.split_first() else {
        return false;
    };
    match choice % 8 {
        0 => check_message(bytes).is_some_and(check_range),
        1 => check_message(bytes).is_some_and(check_put),
        2 => check_message(bytes).is_some_and(check_delete_range),
        3 | 4 => check_message(bytes).is_some_and(check_txn),
        _ => {
            let checks = plain_requests();
            checks[usize::from(choice / 8 % 64) % checks.len()](bytes)
        }
    }
}

/// Requests without a conversion that is a pure call.
fn plain_requests() -> Vec<fn(&[u8]) -> bool> {
    macro_rules! messages {
        ($($name:path),* $(,)?) => {
            vec![$(|bytes| check_message::<$name>(bytes).is_some()),*]
        };
    }
    messages![
        pb::CompactionRequest,
        pb::HashRequest,
        pb::HashKvRequest,
        pb::SnapshotRequest,
        pb::WatchRequest,
        pb::WatchCreateRequest,
        pb::WatchCancelRequest,
        pb::WatchProgressRequest,
        pb::LeaseGrantRequest,
        pb::LeaseRevokeRequest,
        pb::LeaseKeepAliveRequest,
        pb::LeaseTimeToLiveRequest,
        pb::LeaseLeasesRequest,
        pb::MemberAddRequest,
        pb::MemberRemoveRequest,
        pb::MemberUpdateRequest,
        pb::MemberListRequest,
        pb::MemberPromoteRequest,
        pb::DefragmentRequest,
        pb::MoveLeaderRequest,
        pb::AlarmRequest,
        pb::DowngradeRequest,
        pb::StatusRequest,
        pb::AuthEnableRequest,
        pb::AuthDisableRequest,
        pb::AuthStatusRequest,
        pb::AuthenticateRequest,
        pb::AuthUserAddRequest,
        pb::AuthUserGetRequest,
        pb::AuthUserListRequest,
        pb::AuthUserDeleteRequest,
        pb::AuthUserChangePasswordRequest,
        pb::AuthUserGrantRoleRequest,
        pb::AuthUserRevokeRoleRequest,
        pb::AuthRoleAddRequest,
        pb::AuthRoleGetRequest,
        pb::AuthRoleListRequest,
        pb::AuthRoleDeleteRequest,
        pb::AuthRoleGrantPermissionRequest,
        pb::AuthRoleRevokePermissionRequest,
        v3electionpb::CampaignRequest,
        v3electionpb::LeaderRequest,
        v3electionpb::ResignRequest,
        v3electionpb::ProclaimRequest,
        v3lockpb::LockRequest,
        v3lockpb::UnlockRequest,
    ]
}
