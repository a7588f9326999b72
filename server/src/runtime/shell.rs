//! The engine's host in the server: the clock, the threads, the published numbers,
//! the watch hub, the metrics.
//!
//! Owned by the core loop. Invariant: nothing in here waits.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use storage::apply::command::Alarm;
use storage::mvcc::Mvcc;
use storage::raft_log::{GroupWrite, SpareJob};
use storage::types::{LogIndex, MemberId, RevisionEvents};
use tokio::sync::oneshot;

use super::checkpoint_worker::CheckpointWorker;
use super::flush::Flusher;
use super::handle::Handle;
use super::meters::Meters;
use super::view::View;
use crate::engine::{self, CheckpointWork, HashKvWalk, Host, Observation, Rejected, ScrubWork};
use crate::node::Node;
use crate::watch::Hub;

/// A question to the engine, answered through a channel.
pub(super) type Request = engine::Request<Shell>;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Rejected>>;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) view: Arc<View>,
    pub(super) hub: Arc<Hub>,
    pub(super) meters: Meters,
    pub(super) flusher: Flusher,
    pub(super) worker: CheckpointWorker,
    pub(super) handle: Handle,
}

impl Host for Shell {
    type Reply<T: Debug> = Reply<T>;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn answer<T: Debug>(&mut self, reply: Reply<T>, answer: Result<T, Rejected>) {
        drop(reply.send(answer));
    }

    fn flush(&mut self, group: GroupWrite) {
        self.flusher.submit(group);
    }

    fn checkpoint(&mut self, work: CheckpointWork) {
        self.worker.submit(work);
    }

    fn prepare(&mut self, job: SpareJob) {
        self.worker.prepare(job);
    }

    fn scrub(&mut self, work: ScrubWork) {
        self.worker.scrub(work);
    }

    fn hash_compaction(&mut self, walk: Box<HashKvWalk>) {
        tokio::spawn(remember_compaction_hash(self.handle.clone(), walk));
    }

    fn publish(&mut self, events: Vec<RevisionEvents>, store: &Mvcc) {
        self.hub.publish(events);
        self.view.publish_store(store);
    }

    fn publish_alarms(&mut self, alarms: Vec<(MemberId, Alarm)>) {
        self.view.publish_alarms(alarms);
    }

    fn publish_turn(&mut self, node: &Node, applied: LogIndex, waiting: usize) {
        self.view.publish_consensus(node, applied);
        self.meters.turn(node, waiting);
    }

    fn observe(&mut self, what: Observation<'_>) {
        self.meters.observe(what);
    }
}

async fn remember_compaction_hash(handle: Handle, walk: Box<HashKvWalk>) {
    match handle.finish_hash_kv(walk).await {
        Ok(result) => handle.remember_compaction_hash(result).await,
        // The member stops, or the walk took longer than a pin may hold.
        Err(Rejected::Stopped | Rejected::TimedOut | Rejected::Refusal(_)) => {}
        Err(rejected) => tracing::warn!(?rejected, "no hash of the compaction"),
    }
}
