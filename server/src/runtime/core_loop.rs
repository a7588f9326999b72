//! The core loop: one task on one thread that owns the engine and feeds it what
//! was asked, flushed, made and what time has passed (design, sixth idea). All
//! decisions are the engine's.
//!
//! Invariants: nothing in here waits for a client or a disk; what the engine
//! calls fatal ends the process.

use std::sync::Arc;
use std::time::Duration;

use storage::apply::StateMachine;
use storage::checkpoint::Checkpointer;
use storage::error::Fatal;
use storage::raft_log::RaftLog;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::checkpoint_worker::{CheckpointWorker, Done};
use super::die;
use super::flush::Flusher;
use super::handle::Handle;
use super::limits::{
    LEASE_SCAN_INTERVAL, REQUESTS_PER_SLICE, REQUESTS_PER_TURN, REQUESTS_WAITING_MAX,
};
use super::meters::Meters;
use super::shell::{Request, Shell};
use super::values::Values;
use super::view::{Identity, View};
use crate::engine::{self, Engine, Sizes};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::watch::Hub;

/// What the loop is made of; everything restored and ready.
#[derive(Debug)]
pub struct Parts {
    /// Who this member is.
    pub identity: Identity,
    /// The consensus core.
    pub node: Node,
    /// The log, open.
    pub log: RaftLog,
    /// Makes its groups durable.
    pub flusher: Flusher,
    /// The state machine at the node's applied position.
    pub machine: StateMachine,
    /// Reads values back.
    pub values: Values,
    /// Makes checkpoints; goes to a thread of its own.
    pub checkpointer: Checkpointer,
    /// One tick of the node.
    pub tick: Duration,
    /// For the request timeout.
    pub election_timeout: Duration,
    /// What is counted and timed.
    pub metrics: Arc<Metrics>,
    /// `--warning-apply-duration`.
    pub slow_apply: Duration,
    /// When work is due and how much of it is done at once.
    pub sizes: Sizes,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Core {
    engine: Engine<Shell>,
    shell: Shell,
    requests: mpsc::Receiver<Request>,
    tick: Duration,
    stop: watch::Sender<bool>,
}

impl Core {
    /// Puts the loop together; [`Core::run`] runs it.
    #[must_use]
    pub fn new(parts: Parts) -> (Core, Handle) {
        let Parts {
            identity,
            node,
            log,
            flusher,
            machine,
            values,
            checkpointer,
            tick,
            election_timeout,
            metrics,
            slow_apply,
            sizes,
        } = parts;
        let engine_parts = engine::Parts {
            member: identity.member_id,
            name: identity.name.clone(),
            client_urls: identity.client_urls.clone(),
            node,
            log,
            values: values.reader().clone(),
            published: checkpointer.published().clone(),
            scrub: checkpointer.scrub(),
            sizes,
            machine,
        };
        let view = Arc::new(View::new(identity));
        let revision = engine_parts.machine.mvcc().current_revision();
        let hub = Arc::new(Hub::new(revision));
        let (sender, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (stop, stopping) = watch::channel(false);
        let handle = Handle::new(
            sender,
            Arc::clone(&view),
            Arc::clone(&hub),
            values,
            stopping,
            election_timeout,
            Arc::clone(&metrics),
        );
        let mut shell = Shell {
            view,
            hub,
            meters: Meters::new(Arc::clone(&metrics), slow_apply),
            worker: CheckpointWorker::start(checkpointer, metrics),
            flusher,
            handle: handle.clone(),
        };
        let engine = or_die(Engine::new(engine_parts, &mut shell));
        let core = Core {
            engine,
            shell,
            requests,
            tick,
            stop,
        };
        (core, handle)
    }

    /// Runs until `shutdown` completes and what is being flushed is durable. From
    /// `stopping` on streams end, while calls that have begun are answered.
    pub async fn run(
        mut self,
        stopping: impl Future<Output = ()>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease_scan = tokio::time::interval(LEASE_SCAN_INTERVAL);
        lease_scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(REQUESTS_PER_TURN);
        let (engine, shell) = (&mut self.engine, &mut self.shell);
        tokio::pin!(stopping, shutdown);
        loop {
            or_die(engine.turn(shell));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = &mut stopping, if !*self.stop.borrow() => {
                    self.stop.send_replace(true);
                }
                group = shell.flusher.flushed(), if engine.is_flushing() => {
                    or_die(engine.group_flushed(group, shell));
                }
                _ = ticks.tick() => or_die(engine.tick(shell)),
                done = shell.worker.done() => match done {
                    Done::Checkpoint(manifest) => {
                        or_die(engine.checkpoint_done(*manifest));
                    }
                    Done::Spare(made) => or_die(engine.spare_ready(made, shell)),
                    Done::Scrub(scrubbed) => engine.scrub_done(scrubbed, shell),
                },
                _ = lease_scan.tick() => engine.expire_leases(shell),
                taken = self.requests.recv_many(&mut batch, REQUESTS_PER_TURN) => {
                    for request in batch.drain(..) {
                        or_die(engine.take(request, shell));
                    }
                    // Under full load the branch below never gets its turn.
                    for _ in 0..=taken / REQUESTS_PER_SLICE {
                        if engine.has_work(shell) {
                            engine.maintain(shell);
                        }
                    }
                }
                () = tokio::task::yield_now(), if engine.has_work(shell) => {
                    engine.maintain(shell);
                }
            }
        }
        self.stop.send_replace(true);
        while engine.is_flushing() {
            let group = shell.flusher.flushed().await;
            or_die(engine.group_flushed(group, shell));
        }
    }
}

fn or_die<T>(result: Result<T, Fatal>) -> T {
    match result {
        Ok(value) => value,
        Err(fatal) => die(&fatal),
    }
}
