//! Status, alarms, hashes and the like (contract 1.12).

use std::time::Instant;

use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::alarm_request::AlarmAction;
use storage::apply::Response;
use storage::apply::command::{Alarm, Command};
use storage::types::MemberId;
use tonic::Status;

use super::{Context, convert, snapshot, status};
use crate::metrics::Operation;
use crate::runtime::{HashKvJob, Rejected};
use crate::version;

/// Lists, raises or clears alarms.
pub(super) async fn alarm(
    context: &Context,
    request: pb::AlarmRequest,
) -> Result<pb::AlarmResponse, Status> {
    let view = context.handle.view();
    let number = u8::try_from(request.alarm).unwrap_or(u8::MAX);
    let alarm = Alarm::from_number(number);
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            let began = Instant::now();
            let passed = context.handle.barrier().await;
            context
                .handle
                .timed(Operation::Alarm, passed.is_ok(), began);
            passed?;
            let wanted = |active: &(MemberId, Alarm)| number == 0 || Some(active.1) == alarm;
            view.alarms().into_iter().filter(wanted).collect()
        }
        Ok(action) => match alarm {
            Some(alarm) => {
                let activate = action == AlarmAction::Activate;
                let member = MemberId(request.member_id);
                let command = Command::Alarm {
                    activate,
                    member,
                    alarm,
                };
                let applied = context.handle.propose(command).await?;
                let Response::Alarm(alarms) = applied.response else {
                    unreachable!("an alarm is answered as an alarm");
                };
                alarms
            }
            None => Vec::new(),
        },
        Err(_) => Vec::new(),
    };
    Ok(pb::AlarmResponse {
        header: Some(view.header(view.revision())),
        alarms: alarms.into_iter().map(convert::alarm_member).collect(),
    })
}

/// This member's state; local, never waits for anyone.
pub(super) async fn status(
    context: &Context,
    _: pb::StatusRequest,
) -> Result<pb::StatusResponse, Status> {
    let view = context.handle.view();
    let numbers = context.handle.status().await?;
    let leader = view.leader();
    let mut errors = Vec::new();
    if leader.is_none() {
        errors.push(Status::from(Rejected::NoLeader).message().to_owned());
    }
    for (member, alarm) in view.alarms() {
        errors.push(alarm_text(member, alarm));
    }
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(pb::StatusResponse {
        header: Some(view.header(numbers.revision)),
        version: version::ETCD_VERSION.to_owned(),
        db_size: signed(numbers.size_total),
        leader: leader.map_or(0, |leader| leader.0),
        raft_index: numbers.committed,
        raft_term: view.term(),
        raft_applied_index: numbers.applied,
        errors,
        db_size_in_use: signed(numbers.size_in_use),
        is_learner: false,
        storage_version: version::STORAGE_VERSION.to_owned(),
        db_size_quota: context.options.quota_bytes,
        downgrade_info: Some(pb::DowngradeInfo::default()),
    })
}

/// An alarm as Go prints the message: fields that are zero are left out.
fn alarm_text(member: MemberId, alarm: Alarm) -> String {
    let name = match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    };
    match member.0 {
        0 => format!("alarm:{name}"),
        id => format!("memberID:{id} alarm:{name}"),
    }
}

/// There is nothing to defragment: space is reclaimed all the time.
pub(super) async fn defragment(
    _: &Context,
    _: pb::DefragmentRequest,
) -> Result<pb::DefragmentResponse, Status> {
    Ok(pb::DefragmentResponse { header: None })
}

/// The hash of everything that a snapshot would hold.
pub(super) async fn hash(
    context: &Context,
    _: pb::HashRequest,
) -> Result<pb::HashResponse, Status> {
    let view = context.handle.view();
    let began = Instant::now();
    let hash = snapshot::hash(context).await?;
    let duration = &context.handle.metrics().member.hash_duration;
    duration.observe_seconds(began.elapsed());
    Ok(pb::HashResponse {
        header: Some(view.header(view.revision())),
        hash,
    })
}

/// The hash of keys and revisions, equal to etcd's.
pub(super) async fn hash_kv(
    context: &Context,
    request: pb::HashKvRequest,
) -> Result<pb::HashKvResponse, Status> {
    let view = context.handle.view();
    let began = Instant::now();
    let result = match context.handle.hash_kv(request.revision).await? {
        HashKvJob::Known(result) => result,
        HashKvJob::Walk(walk) => context.handle.finish_hash_kv(walk).await?,
    };
    let duration = &context.handle.metrics().member.hash_rev_duration;
    duration.observe_seconds(began.elapsed());
    Ok(pb::HashKvResponse {
        header: Some(view.header(view.revision())),
        hash: result.hash,
        compact_revision: result.compact_revision,
        hash_revision: result.hash_revision,
    })
}

/// With one member the leadership is where it can only be.
pub(super) async fn move_leader(
    context: &Context,
    request: pb::MoveLeaderRequest,
) -> Result<pb::MoveLeaderResponse, Status> {
    let view = context.handle.view();
    let this = view.identity().member_id;
    if view.leader() != Some(this) {
        return Err(status::not_leader());
    }
    if request.target_id != this.0 {
        return Err(status::bad_leader_transferee());
    }
    Ok(pb::MoveLeaderResponse { header: None })
}
