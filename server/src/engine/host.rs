//! What the engine asks of whoever runs it: the time, threads that write, places
//! for what it gives out. The server answers with clocks, channels and metrics
//! (`runtime/shell.rs`), the simulation with a number and a few lists.
//!
//! Invariant: no method waits, and none calls the engine back.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use storage::apply::command::{Alarm, Command, Txn};
use storage::apply::{Outcome, StateMachine, TxnResult};
use storage::mvcc::Mvcc;
use storage::raft_log::{GroupWrite, LogEntry, SpareJob};
use storage::types::{LogIndex, MemberId, RevisionEvents};

use super::checkpoint_work::CheckpointWork;
use super::requests::{HashKvWalk, Rejected};
use super::scrub::ScrubWork;
use crate::node::Node;

/// See the head of the file.
pub trait Host: Debug + Sized {
    /// Where the answer to one request goes.
    type Reply<T: Debug>: Debug;

    /// The time, which never goes back.
    fn now(&self) -> Instant;

    /// Answers; a caller that has gone is no error.
    fn answer<T: Debug>(&mut self, reply: Self::Reply<T>, answer: Result<T, Rejected>);

    /// Has a group flushed; then [`super::Engine::group_flushed`]. One at a time.
    fn flush(&mut self, group: GroupWrite);

    /// Has a checkpoint made; then [`super::Engine::checkpoint_done`]. One at a time.
    fn checkpoint(&mut self, work: CheckpointWork);

    /// Has a segment prepared; then [`super::Engine::spare_ready`]. One at a time.
    fn prepare(&mut self, job: SpareJob);

    /// Has a pass over the files made; then [`super::Engine::scrub_done`]. One at a time.
    fn scrub(&mut self, work: ScrubWork);

    /// Has the hash of a compaction walked to its end, slice by slice, and
    /// remembered. The purge waits for it.
    fn hash_compaction(&mut self, walk: Box<HashKvWalk>);

    /// Makes a group of applied revisions visible, to watchers first.
    fn publish(&mut self, events: Vec<RevisionEvents>, store: &Mvcc);

    /// The active alarms changed.
    fn publish_alarms(&mut self, alarms: Vec<(MemberId, Alarm)>);

    /// A turn is over; `waiting`: proposals without an answer.
    fn publish_turn(&mut self, node: &Node, applied: LogIndex, waiting: usize);

    /// Something happened that is counted or timed.
    fn observe(&mut self, what: Observation<'_>);

    /// The state after an entry; for those who prove that it is the right one.
    fn entry_done(&mut self, _entry: &LogEntry, _machine: &StateMachine) {}
}

/// What is counted and timed.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A group for the log was encoded.
    Encoded(Duration),
    /// A command was applied.
    Applied(&'a Command, &'a Outcome, Duration),
    /// The engine proposed a command by itself.
    ProposedUnasked(&'a Command),
    /// A write was refused and is answered once the alarm on its way is raised.
    WaitsForAlarm,
    /// A plain range was answered.
    Read,
    /// A transaction of reads was answered.
    ReadTxn(&'a Txn, &'a TxnResult, Duration),
    /// A lease was given its time anew.
    LeaseRenewed,
    /// So many leases ended and are about to be revoked.
    LeasesExpired(usize),
    /// A slice of a purge dropped so many records.
    Purged(usize, Duration),
    /// Nothing is left to purge, so long after the compaction was applied.
    CompactionEnded(Duration),
}
