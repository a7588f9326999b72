//! The member as the plain HTTP endpoints see it.

use storage::apply::command::{Alarm, KeyRange, Range};

use crate::http::{ActiveAlarm, AlarmKind, BoxFuture, MemberView, RaftView};
use crate::metrics::Metrics;
use crate::runtime::Handle;
use crate::version::{CLUSTER_VERSION, STORAGE_VERSION};

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Member {
    handle: Handle,
}

impl Member {
    /// Looks through this handle.
    #[must_use]
    pub fn new(handle: Handle) -> Member {
        Member { handle }
    }
}

impl MemberView for Member {
    fn alarms(&self) -> Vec<ActiveAlarm> {
        let alarms = self.handle.view().alarms().into_iter();
        let active = |(member, alarm): (storage::types::MemberId, Alarm)| ActiveAlarm {
            member: member.0,
            kind: match alarm {
                Alarm::NoSpace => AlarmKind::NoSpace,
                Alarm::Corrupt => AlarmKind::Corrupt,
            },
        };
        alarms.map(active).collect()
    }

    fn has_leader(&self) -> bool {
        self.handle.view().leader().is_some()
    }

    fn is_learner(&self) -> bool {
        false
    }

    fn read(&self, serializable: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let range = Range {
                range: KeyRange::default(),
                limit: 1,
                keys_only: true,
                ..Range::default()
            };
            match self.handle.open_read(range, !serializable, 1).await {
                Ok(_) => Ok(()),
                Err(rejected) => Err(tonic::Status::from(rejected).message().to_owned()),
            }
        })
    }

    fn cluster_version(&self) -> Option<String> {
        self.has_leader().then(|| CLUSTER_VERSION.to_owned())
    }

    fn storage_version(&self) -> Option<String> {
        self.has_leader().then(|| STORAGE_VERSION.to_owned())
    }

    fn refresh(&self, metrics: &Metrics) {
        let view = self.handle.view();
        let this = view.identity().member_id;
        let member = &metrics.member;
        member.has_leader.set_flag(view.leader().is_some());
        member.is_leader.set_flag(view.leader() == Some(this));
        member.proposals_committed.set_unsigned(view.committed());
        member.proposals_applied.set_unsigned(view.applied());
        member.current_revision.set_signed(view.revision());
        member
            .compact_revision
            .set_signed(view.compacted_revision());
        let (total, in_use) = view.size();
        member.db_total_size.set_unsigned(total);
        member.db_total_size_in_use.set_unsigned(in_use);
        member.keys.set_unsigned(view.live_keys());
    }

    fn raft(&self) -> RaftView {
        let view = self.handle.view();
        let member = view.identity().member_id.0;
        RaftView {
            member,
            leader: view.leader().map_or(0, |leader| leader.0),
            term: view.term(),
            vote: view.leader().map_or(0, |leader| leader.0),
            commit: view.committed(),
            applied: view.applied(),
        }
    }
}
