//! What the plain endpoints ask of the member.

use std::future::Future;
use std::pin::Pin;

use crate::metrics::Metrics;

/// A future behind a pointer, so that the trait can be used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Kinds of alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// The quota is exceeded.
    NoSpace,
    /// Members disagree, or data does not fit its checksum.
    Corrupt,
}

impl AlarmKind {
    /// etcd's name.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        }
    }
}

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveAlarm {
    /// Who raised it.
    pub member: u64,
    /// Which.
    pub kind: AlarmKind,
}

/// Raft as `/debug/vars` shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaftView {
    /// This member.
    pub member: u64,
    /// The leader, 0 without one.
    pub leader: u64,
    /// The term.
    pub term: u64,
    /// The member voted for in this term, 0 for none.
    pub vote: u64,
    /// The commit index.
    pub commit: u64,
    /// The applied index.
    pub applied: u64,
}

/// The member as the plain endpoints see it. Called from before it is ready; must never block.
pub trait MemberView: Send + Sync + 'static {
    /// Alarms of the whole cluster, in etcd's order.
    fn alarms(&self) -> Vec<ActiveAlarm>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;
    /// Reads the empty key, with or without the read barrier. The error is the text etcd's server
    /// would give (`etcdserver: leader changed`). The caller bounds the wait.
    fn read(&self, serializable: bool) -> BoxFuture<'_, Result<(), String>>;
    /// The cluster version, `3.7.0`; None before it is decided.
    fn cluster_version(&self) -> Option<String>;
    /// The storage version, `3.7.0`; None before it is known.
    fn storage_version(&self) -> Option<String>;
    /// Brings gauges that mirror the member's state up to date, before a scrape.
    fn refresh(&self, metrics: &Metrics);
    /// Raft's state.
    fn raft(&self) -> RaftView;
}
