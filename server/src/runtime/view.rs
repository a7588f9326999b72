//! Numbers that the core loop publishes and everyone may read.
//!
//! Written by the core loop alone, each a relaxed or release store; a reader that
//! needs two numbers of one moment asks the core instead.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use kvproto::etcdserverpb::ResponseHeader;
use parking_lot::Mutex;
use storage::apply::command::Alarm;
use storage::mvcc::Mvcc;
use storage::types::MemberId;

use crate::engine::told_size;

/// Who this member is; fixed for the life of its data.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: MemberId,
    /// Its human name (`--name`).
    pub name: String,
    /// Its peer URLs as advertised.
    pub peer_urls: Vec<String>,
    /// Its client URLs as advertised.
    pub client_urls: Vec<String>,
}

/// The published numbers.
#[derive(Debug)]
pub struct View {
    identity: Identity,
    revision: AtomicI64,
    compacted_revision: AtomicI64,
    term: AtomicU64,
    leader: AtomicU64,
    committed: AtomicU64,
    applied: AtomicU64,
    size_total: AtomicU64,
    size_in_use: AtomicU64,
    live_keys: AtomicU64,
    reads_are_current: AtomicBool,
    alarms: Mutex<Vec<(MemberId, Alarm)>>,
}

impl View {
    pub(super) fn new(identity: Identity) -> View {
        View {
            identity,
            revision: AtomicI64::new(1),
            compacted_revision: AtomicI64::new(-1),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            size_total: AtomicU64::new(0),
            size_in_use: AtomicU64::new(0),
            live_keys: AtomicU64::new(0),
            reads_are_current: AtomicBool::new(false),
            alarms: Mutex::new(Vec::new()),
        }
    }

    /// Who this member is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The newest visible revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The newest logical compaction; -1 before the first.
    #[must_use]
    pub fn compacted_revision(&self) -> i64 {
        self.compacted_revision.load(Ordering::Acquire)
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// The leader known; None when there is none.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        Some(MemberId(self.leader.load(Ordering::Relaxed))).filter(|leader| leader.0 != 0)
    }

    /// The last committed log position.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The last applied log position.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// Bytes of all unreclaimed records, and of those in use (design, section 5).
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        (
            self.size_total.load(Ordering::Relaxed),
            self.size_in_use.load(Ordering::Relaxed),
        )
    }

    /// Live keys at the current revision.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.live_keys.load(Ordering::Relaxed)
    }

    /// True once linearizable reads can be answered.
    #[must_use]
    pub fn reads_are_current(&self) -> bool {
        self.reads_are_current.load(Ordering::Acquire)
    }

    /// The active alarms, sorted.
    #[must_use]
    pub fn alarms(&self) -> Vec<(MemberId, Alarm)> {
        self.alarms.lock().clone()
    }

    /// A response header with this revision (contract 1.3).
    #[must_use]
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id.0,
            revision,
            raft_term: self.term(),
        }
    }

    pub(super) fn publish_consensus(
        &self,
        node: &crate::node::Node,
        applied: storage::types::LogIndex,
    ) {
        self.term.store(node.term().0, Ordering::Relaxed);
        self.leader.store(
            node.leader().map_or(0, |leader| leader.0),
            Ordering::Relaxed,
        );
        self.committed.store(node.committed().0, Ordering::Relaxed);
        self.applied.store(applied.0, Ordering::Relaxed);
        self.reads_are_current
            .store(node.reads_are_current(), Ordering::Release);
    }

    pub(super) fn publish_store(&self, mvcc: &Mvcc) {
        let (total, in_use) = told_size(mvcc);
        self.size_total.store(total, Ordering::Relaxed);
        self.size_in_use.store(in_use, Ordering::Relaxed);
        self.live_keys.store(mvcc.live_keys(), Ordering::Relaxed);
        self.compacted_revision
            .store(mvcc.compacted_revision(), Ordering::Release);
        let before = self
            .revision
            .swap(mvcc.current_revision(), Ordering::AcqRel);
        assert!(
            before <= mvcc.current_revision(),
            "the visible revision only rises"
        );
    }

    /// A member that leads, at these revisions; for tests of what looks at them.
    #[cfg(test)]
    pub(super) fn pretend(&self, revision: i64, compacted_revision: i64) {
        self.leader
            .store(self.identity.member_id.0, Ordering::Relaxed);
        self.revision.store(revision, Ordering::Release);
        self.compacted_revision
            .store(compacted_revision, Ordering::Release);
    }

    pub(super) fn publish_alarms(&self, alarms: Vec<(MemberId, Alarm)>) {
        *self.alarms.lock() = alarms;
    }
}
