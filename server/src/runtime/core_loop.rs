//! The core loop: one task on one thread that owns consensus, the log's writing
//! end, the state machine, the lessor and the pins (design, sixth idea).
//!
//! Each turn: take what was asked, let the node decide, hand one group to the log
//! thread, apply what is committed, publish, answer. The order for a write is
//! durable, applied, visible to watchers, visible to reads, answered.
//!
//! Invariants: at most one group is being flushed; nothing is answered before its
//! entry is applied; nothing in here waits for a client or a disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use storage::apply::command::{Alarm, Command, Envelope};
use storage::apply::{EntryData, LeaseChange, Outcome, StateMachine, codec};
use storage::checkpoint::Checkpointer;
use storage::error::{Fatal, Refusal};
use storage::raft_log::{EntryKind, GroupNumber, LogEntry, RaftLog};
use storage::types::{LogIndex, RevisionEvents, Term};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::checkpoints::Checkpoints;
use super::die;
use super::flush::Flusher;
use super::handle::{Handle, Rejected};
use super::lessor::Lessor;
use super::limits::{
    EXPIRED_LEASES_PER_SCAN, IDLE_BEFORE_PROOF, LEASE_SCAN_INTERVAL, REQUESTS_PER_TURN,
    REQUESTS_WAITING_MAX,
};
use super::maintenance::Maintenance;
use super::meters::Meters;
use super::pins::{Pin, Pins};
use super::proposals::Proposals;
use super::reads::PageCounts;
use super::requests::{Applied, Reply, Request};
use super::values::Values;
use super::view::{Identity, View};
use crate::metrics::Metrics;
use crate::node::{AppendNumber, Input, Node};
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
}

/// What is being flushed.
#[derive(Debug)]
enum InFlight {
    Append(GroupNumber, AppendNumber, Option<(LogIndex, Term)>),
    Proof(GroupNumber),
}

/// See the head of the file.
#[derive(Debug)]
pub struct Core {
    pub(super) node: Node,
    pub(super) log: RaftLog,
    pub(super) machine: StateMachine,
    pub(super) values: Values,
    pub(super) view: Arc<View>,
    pub(super) hub: Arc<Hub>,
    pub(super) proposals: Proposals,
    pub(super) pins: Pins,
    pub(super) lessor: Lessor,
    pub(super) page_counts: PageCounts,
    pub(super) maintenance: Maintenance,
    pub(super) meters: Meters,
    pub(super) checkpoints: Checkpoints,
    requests: mpsc::Receiver<Request>,
    flusher: Flusher,
    in_flight: Option<InFlight>,
    last_flush: Instant,
    tick: Duration,
    stop: watch::Sender<bool>,
    pub(super) handle: Handle,
}

impl Core {
    /// Puts the loop together; [`Core::run`] runs it.
    #[must_use]
    pub fn new(parts: Parts) -> (Core, Handle) {
        let Parts {
            identity,
            node,
            log,
            machine,
            values,
            checkpointer,
            tick,
            election_timeout,
            metrics,
            slow_apply,
        } = parts;
        let view = Arc::new(View::new(identity));
        let hub = Arc::new(Hub::new(machine.mvcc().current_revision()));
        let (sender, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (stop, stopping) = watch::channel(false);
        let handle = Handle::new(
            sender,
            Arc::clone(&view),
            Arc::clone(&hub),
            values.clone(),
            stopping,
            election_timeout,
            Arc::clone(&metrics),
        );
        let mut lessor = Lessor::default();
        let now = Instant::now();
        for (lease, ttl_seconds) in machine.leases().iter() {
            lessor.granted(lease, ttl_seconds, now);
        }
        let mut core = Core {
            node,
            log,
            machine,
            values,
            view,
            hub,
            proposals: Proposals::default(),
            pins: Pins::default(),
            lessor,
            page_counts: PageCounts::default(),
            maintenance: Maintenance::default(),
            meters: Meters::new(Arc::clone(&metrics), slow_apply),
            checkpoints: Checkpoints::new(checkpointer, Arc::clone(&metrics)),
            requests,
            flusher: Flusher::start(metrics),
            in_flight: None,
            last_flush: now,
            tick,
            stop,
            handle: handle.clone(),
        };
        core.retire_left_over();
        core.publish();
        core.view
            .publish_alarms(core.machine.alarms().iter().collect());
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
        tokio::pin!(stopping, shutdown);
        loop {
            self.turn();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = &mut stopping, if !*self.stop.borrow() => {
                    self.stop.send_replace(true);
                }
                group = self.flusher.flushed(), if self.in_flight.is_some() => {
                    self.group_flushed(group);
                }
                _ = ticks.tick() => {
                    self.node.step(Input::Tick);
                    self.prove_when_idle();
                    self.checkpoint_when_due();
                    self.prepare_spare();
                }
                done = self.checkpoints.done() => self.background_done(done),
                _ = lease_scan.tick() => self.expire_leases(),
                _ = self.requests.recv_many(&mut batch, REQUESTS_PER_TURN) => {
                    for request in batch.drain(..) {
                        self.take(request);
                    }
                    // Under full load the branch below never gets its turn.
                    if self.has_work() {
                        self.maintain();
                    }
                }
                () = tokio::task::yield_now(), if self.has_work() => {
                    self.maintain();
                }
            }
        }
        self.stop.send_replace(true);
        while self.in_flight.is_some() {
            let group = self.flusher.flushed().await;
            self.group_flushed(group);
        }
    }

    /// Lets the node decide until it waits for a flush or for input.
    fn turn(&mut self) {
        while self.in_flight.is_none() {
            let Some(output) = self.node.poll() else {
                break;
            };
            assert!(
                output.messages.is_empty() && output.messages_after_append.is_empty(),
                "a single voter has nobody to send to"
            );
            if let Some(append) = output.append {
                let began = Instant::now();
                let group = match self.log.append(append.hard_state, &append.entries) {
                    Ok(group) => group,
                    Err(fatal) => die(&fatal),
                };
                let flight = InFlight::Append(group.number(), append.number, append.last());
                self.in_flight = Some(flight);
                self.meters.encoded(began);
                self.checkpoints.appended(group.bytes().len() as u64);
                self.flusher.submit(group);
            }
            self.apply(output.committed);
        }
        self.view
            .publish_consensus(&self.node, self.machine.applied_index());
        self.meters.turn(&self.node, self.proposals.waiting());
    }

    fn group_flushed(&mut self, group: GroupNumber) {
        self.log.flushed(group);
        self.last_flush = Instant::now();
        match self.in_flight.take() {
            Some(InFlight::Append(number, append, last)) => {
                assert_eq!(number, group, "groups are flushed in order");
                self.node.step(Input::Persisted(append, last));
            }
            Some(InFlight::Proof(number)) => assert_eq!(number, group, "one group at a time"),
            None => unreachable!("a group was flushed that nobody handed over"),
        }
        self.turn();
    }

    /// After some idle time an empty group proves that the last one is synced,
    /// so that a later flip in it is told from a torn tail.
    fn prove_when_idle(&mut self) {
        if self.in_flight.is_some() || self.last_flush.elapsed() < IDLE_BEFORE_PROOF {
            return;
        }
        match self.log.proof_group() {
            Ok(Some(group)) => {
                self.in_flight = Some(InFlight::Proof(group.number()));
                self.flusher.submit(group);
            }
            Ok(None) => {}
            Err(fatal) => die(&fatal),
        }
    }

    /// Applies committed entries and answers those who wait for them.
    fn apply(&mut self, committed: Vec<LogEntry>) {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return;
        };
        // What a response of this group names was readable before the group.
        let pin = self.pins.pin(self.machine.mvcc().compacted_revision());
        let mut outcomes = Vec::with_capacity(committed.len());
        let mut events = Vec::new();
        for entry in committed {
            if let Some(mut outcome) = self.apply_entry(&entry) {
                events.extend(outcome.events.take());
                outcomes.push(outcome);
            }
        }
        self.node.step(Input::Applied(last));
        self.make_visible(events);
        for outcome in outcomes {
            self.answer(outcome, &pin);
        }
    }

    fn apply_entry(&mut self, entry: &LogEntry) -> Option<Outcome> {
        if entry.kind != EntryKind::Normal || entry.data.is_empty() {
            self.machine.skip(entry.index, entry.term);
            return None;
        }
        let place = self
            .log
            .data_place(entry.index)
            .expect("an unapplied entry has its place");
        let envelope = match codec::decode(&entry.data) {
            Ok(envelope) => envelope,
            Err(error) => die(&Fatal::corruption(
                format!("log segment {}", place.segment.0),
                u64::from(place.offset),
                format!("entry {} cannot be decoded: {error}", entry.index.0),
            )),
        };
        let began = Instant::now();
        self.bring_in(&envelope.command);
        let data = EntryData {
            bytes: entry.data.clone(),
            segment: place.segment,
            offset: place.offset,
        };
        let outcome = self
            .machine
            .apply(entry.index, entry.term, &data, &envelope);
        if !outcome.inherited.is_empty() {
            self.checkpoints.inherited();
        }
        let now = Instant::now();
        self.meters
            .applied(&envelope.command, &outcome, now - began);
        for change in &outcome.lease_changes {
            match *change {
                LeaseChange::Granted { lease, ttl_seconds } => {
                    self.lessor.granted(lease, ttl_seconds, now);
                }
                LeaseChange::Revoked { lease } => self.lessor.revoked(lease),
            }
        }
        match envelope.command {
            Command::Compact { .. } if outcome.result.is_ok() => {
                // An entry of an earlier boot has an earlier term.
                self.compacted(entry.term == self.node.term());
            }
            Command::Alarm { .. } => {
                self.view
                    .publish_alarms(self.machine.alarms().iter().collect());
            }
            _ => {}
        }
        Some(outcome)
    }

    /// Fetches what a command looks at and is not in memory. Happens only while
    /// values warm up after a start, and blocks the loop for these reads.
    pub(super) fn bring_in(&mut self, command: &Command) {
        loop {
            let missing = self.machine.needs(command);
            if missing.is_empty() {
                return;
            }
            self.install(&missing);
        }
    }

    pub(super) fn install(&mut self, missing: &[Arc<storage::types::RecordMeta>]) {
        for meta in missing {
            match self.values.fetch(meta) {
                Ok(value) => {
                    self.machine.supply(meta, &value);
                }
                Err(fatal) => die(&fatal),
            }
        }
    }

    /// True when a slice of background work is due.
    fn has_work(&self) -> bool {
        self.checkpoints.is_collecting()
            || self.maintenance.has_work(self.checkpoints.holds_eviction())
    }

    fn make_visible(&mut self, events: Vec<RevisionEvents>) {
        self.maintenance.written();
        self.hub.publish(events);
        self.publish();
    }

    fn publish(&self) {
        self.view.publish_store(self.machine.mvcc());
    }

    fn answer(&mut self, outcome: Outcome, pin: &Pin) {
        if outcome.over_quota {
            self.raise_no_space();
        }
        let Some(reply) = self.proposals.take(outcome.request_id) else {
            return;
        };
        let result = match outcome.result {
            // Applied and refused at once: contract 1.13, trap 15.
            Ok(_) if outcome.over_quota => Err(Rejected::Refusal(Refusal::NoSpace)),
            Ok(response) => Ok(Applied {
                revision: outcome.revision,
                response,
                pin: pin.clone(),
            }),
            Err(refusal) => Err(Rejected::Refusal(refusal)),
        };
        send(reply, result);
    }

    /// Takes a write on, or refuses it before it becomes an entry.
    pub(super) fn propose(&mut self, command: Command, reply: Reply<Applied>) {
        if let Err(rejected) = self.admit(&command) {
            return send(reply, Err(rejected));
        }
        let request_id = self.proposals.next_id(self.node.term());
        match codec::encode(&Envelope {
            request_id,
            command,
        }) {
            Ok(data) => {
                self.proposals.wait(request_id, reply);
                self.node.step(Input::Propose(data));
            }
            Err(_) => send(reply, Err(Rejected::TooDeep)),
        }
    }

    fn admit(&mut self, command: &Command) -> Result<(), Rejected> {
        if !self.node.is_leader() {
            return Err(Rejected::NoLeader);
        }
        if self.proposals.is_full() {
            return Err(Rejected::TooManyRequests);
        }
        if matches!(command, Command::Alarm { .. }) {
            return Ok(());
        }
        let active = |wanted| {
            self.machine
                .alarms()
                .iter()
                .any(|(_, alarm)| alarm == wanted)
        };
        if active(Alarm::Corrupt) {
            return Err(Rejected::Refusal(Refusal::Corrupt));
        }
        let takes_space = storage::apply::space::cost_bytes(command) > 0;
        if takes_space && active(Alarm::NoSpace) {
            return Err(Rejected::Refusal(Refusal::NoSpace));
        }
        if !self.machine.has_space(command) {
            self.raise_no_space();
            return Err(Rejected::Refusal(Refusal::NoSpace));
        }
        Ok(())
    }

    fn raise_no_space(&mut self) {
        let member = self.view.identity().member_id;
        let raised = self
            .machine
            .alarms()
            .iter()
            .any(|entry| entry == (member, Alarm::NoSpace));
        if !raised {
            tracing::warn!(
                quota = "backend quota is used up",
                "raising alarm NOSPACE: compact, then disarm the alarm"
            );
            let alarm = Alarm::NoSpace;
            self.propose_unattended(Command::Alarm {
                activate: true,
                member,
                alarm,
            });
        }
    }

    /// Proposes something that nobody waits for.
    fn propose_unattended(&mut self, command: Command) {
        if self.node.is_leader() {
            let request_id = self.proposals.next_id(self.node.term());
            let data = codec::encode(&Envelope {
                request_id,
                command,
            });
            let data = data.expect("what the loop proposes by itself is not nested");
            self.node.step(Input::Propose(data));
        }
    }

    fn expire_leases(&mut self) {
        if !self.node.is_leader() {
            return;
        }
        let expired = self
            .lessor
            .take_expired(Instant::now(), EXPIRED_LEASES_PER_SCAN);
        self.meters.leases_expired(expired.len());
        for lease in expired {
            self.propose_unattended(Command::LeaseRevoke { lease });
        }
    }
}

/// Answers; a caller that has gone is no error.
pub(super) fn send<T>(reply: Reply<T>, answer: Result<T, Rejected>) {
    drop(reply.send(answer));
}
