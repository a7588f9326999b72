//! The engine's turns: let the node decide, hand one group to the log thread,
//! apply what is committed, publish, answer. The order for a write is durable,
//! applied, visible to watchers, visible to reads, answered.

use std::sync::Arc;
use std::time::Instant;

use storage::apply::command::Command;
use storage::apply::{EntryData, LeaseChange, Outcome, StateMachine, codec};
use storage::checkpoint::{Manifest, StoreScrub};
use storage::error::Fatal;
use storage::planted::{Bug, planted};
use storage::raft_log::{EntryKind, GroupNumber, LogEntry, RaftLog, Spare, Unprepared};
use storage::types::{LogIndex, MemberId, RecordMeta, Term};

use super::checkpoints::Checkpoints;
use super::host::{Host, Observation};
use super::lessor::Lessor;
use super::limits::IDLE_BEFORE_PROOF;
use super::maintenance::Maintenance;
use super::pins::Pins;
use super::proposals::Proposals;
use super::reads::PageCounts;
use super::room::Room;
use super::scrub::Scrub;
use super::sizes::Sizes;
use super::value_reader::ValueReader;
use crate::node::{Append, AppendNumber, Input, Node};

/// What the engine is made of; everything restored and ready.
#[derive(Debug)]
pub struct Parts {
    /// This member.
    pub member: MemberId,
    /// Its name, for the manifest.
    pub name: String,
    /// Its client URLs, for the manifest.
    pub client_urls: Vec<String>,
    /// The consensus core.
    pub node: Node,
    /// The log, open.
    pub log: RaftLog,
    /// The state machine at the node's applied position.
    pub machine: StateMachine,
    /// Reads values back.
    pub values: ValueReader,
    /// The manifest that the state machine was loaded from.
    pub published: Manifest,
    /// Reads back what is published.
    pub scrub: StoreScrub,
    /// When work is due and how much is done at once.
    pub sizes: Sizes,
}

/// What is being flushed, or waits for a segment to be written to.
#[derive(Debug)]
enum InFlight {
    Append(GroupNumber, AppendNumber, Option<(LogIndex, Term)>),
    Proof(GroupNumber),
    Held(Append),
}

/// See the head of the module.
#[derive(Debug)]
pub struct Engine<H: Host> {
    pub(super) member: MemberId,
    pub(super) node: Node,
    pub(super) log: RaftLog,
    pub(super) machine: StateMachine,
    pub(super) values: ValueReader,
    pub(super) proposals: Proposals<H>,
    pub(super) pins: Pins,
    pub(super) lessor: Lessor,
    pub(super) page_counts: PageCounts,
    pub(super) maintenance: Maintenance<H>,
    pub(super) checkpoints: Checkpoints,
    pub(super) scrub: Scrub,
    pub(super) sizes: Sizes,
    pub(super) room: Room,
    in_flight: Option<InFlight>,
    last_flush: Instant,
}

impl<H: Host> Engine<H> {
    /// Puts the engine together and publishes what was restored.
    ///
    /// # Errors
    /// A segment that a crash left behind cannot be retired.
    pub fn new(parts: Parts, host: &mut H) -> Result<Engine<H>, Fatal> {
        let now = host.now();
        let mut lessor = Lessor::default();
        for (lease, ttl_seconds) in parts.machine.leases().iter() {
            lessor.granted(lease, ttl_seconds, now);
        }
        let mut engine = Engine {
            member: parts.member,
            node: parts.node,
            log: parts.log,
            machine: parts.machine,
            values: parts.values,
            proposals: Proposals::default(),
            pins: Pins::new(parts.sizes.pin_grace),
            lessor,
            page_counts: PageCounts::default(),
            maintenance: Maintenance::default(),
            checkpoints: Checkpoints::new(parts.published, parts.name, parts.client_urls, now),
            scrub: Scrub::new(parts.scrub, now),
            sizes: parts.sizes,
            room: Room::default(),
            in_flight: None,
            last_flush: now,
        };
        let gathered_keys_max = engine.sizes.gathered_keys_max;
        engine.machine.set_gathered_keys_max(gathered_keys_max);
        engine.retire_left_over()?;
        host.publish(Vec::new(), engine.machine.mvcc());
        host.publish_alarms(engine.machine.alarms().iter().collect());
        Ok(engine)
    }

    /// The state machine, to look at.
    #[must_use]
    pub fn machine(&self) -> &StateMachine {
        &self.machine
    }

    /// The consensus core, to look at.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// True while a group is being flushed.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        matches!(
            self.in_flight,
            Some(InFlight::Append(..) | InFlight::Proof(_))
        )
    }

    /// Lets the node decide until it waits for a flush or for input.
    ///
    /// # Errors
    /// What ends the process.
    pub fn turn(&mut self, host: &mut H) -> Result<(), Fatal> {
        while self.in_flight.is_none() {
            let Some(output) = self.node.poll() else {
                break;
            };
            assert!(
                output.messages.is_empty() && output.messages_after_append.is_empty(),
                "a single voter has nobody to send to"
            );
            if let Some(append) = output.append {
                self.append(append, host)?;
            }
            self.apply(output.committed, host)?;
            if planted(Bug::AnswerBeforeFlush) {
                self.pretend_flushed(host)?;
            }
        }
        self.forget_lost_alarm(host);
        host.publish_turn(
            &self.node,
            self.machine.applied_index(),
            self.proposals.waiting(),
        );
        Ok(())
    }

    /// Hands one group over to be flushed; one that no segment has room for waits until
    /// the next one is prepared, which is nothing to do on this thread.
    fn append(&mut self, append: Append, host: &mut H) -> Result<(), Fatal> {
        let began = host.now();
        let bytes = RaftLog::group_bytes(append.hard_state, &append.entries);
        if !self.log.has_room(bytes) {
            self.in_flight = Some(InFlight::Held(append));
            self.prepare_next(host);
            return Ok(());
        }
        let group = self.log.append(append.hard_state, &append.entries)?;
        let flight = InFlight::Append(group.number(), append.number, append.last());
        self.in_flight = Some(flight);
        host.observe(Observation::Encoded(host.now() - began));
        self.checkpoints.appended(group.bytes().len() as u64);
        host.flush(group);
        self.prepare_next(host);
        Ok(())
    }

    /// At once what has not failed; what has is tried again at ticks.
    fn prepare_next(&mut self, host: &mut H) {
        if !self.room.has_failed() {
            self.prepare_segment(host);
        }
    }

    fn prepare_segment(&mut self, host: &mut H) {
        if let Some(job) = self.log.spare_job() {
            host.prepare(job);
        }
    }

    /// A job on a segment of the log has ended. One that failed is tried again at the
    /// next tick.
    ///
    /// # Errors
    /// What ends the process.
    pub fn spare_ready(
        &mut self,
        made: Result<Spare, Unprepared>,
        host: &mut H,
    ) -> Result<(), Fatal> {
        self.room.prepared(&made);
        let Ok(spare) = made else {
            return Ok(());
        };
        self.log.add_spare(spare);
        match self.in_flight.take() {
            Some(InFlight::Held(append)) => self.append(append, host)?,
            other => self.in_flight = other,
        }
        self.prepare_next(host);
        self.turn(host)
    }

    /// The planted bug: the group counts as durable while it waits to be flushed.
    fn pretend_flushed(&mut self, host: &mut H) -> Result<(), Fatal> {
        let Some(InFlight::Append(number, append, last)) = self.in_flight else {
            return Ok(());
        };
        self.node.step(Input::Persisted(append, last));
        self.in_flight = Some(InFlight::Proof(number));
        match self.node.poll() {
            Some(output) => self.apply(output.committed, host),
            None => Ok(()),
        }
    }

    /// The group is durable.
    ///
    /// # Errors
    /// What ends the process.
    pub fn group_flushed(&mut self, group: GroupNumber, host: &mut H) -> Result<(), Fatal> {
        self.log.flushed(group);
        self.last_flush = host.now();
        match self.in_flight.take() {
            Some(InFlight::Append(number, append, last)) => {
                assert_eq!(number, group, "groups are flushed in order");
                self.node.step(Input::Persisted(append, last));
            }
            Some(InFlight::Proof(number)) => assert_eq!(number, group, "one group at a time"),
            Some(InFlight::Held(_)) | None => {
                unreachable!("a group was flushed that nobody handed over")
            }
        }
        self.turn(host)
    }

    /// One unit of the node's time has passed.
    ///
    /// # Errors
    /// What ends the process.
    pub fn tick(&mut self, host: &mut H) -> Result<(), Fatal> {
        self.node.step(Input::Tick);
        self.prove_when_idle(host)?;
        self.checkpoint_when_due(host);
        self.prepare_segment(host);
        self.scrub_when_due(host);
        Ok(())
    }

    /// After some idle time an empty group proves that the last one is synced,
    /// so that a later flip in it is told from a torn tail.
    fn prove_when_idle(&mut self, host: &mut H) -> Result<(), Fatal> {
        let idle = host.now() - self.last_flush;
        let busy = self.in_flight.is_some() || idle < IDLE_BEFORE_PROOF;
        if busy || !self.log.has_room(RaftLog::group_bytes(None, &[])) {
            return Ok(());
        }
        if let Some(group) = self.log.proof_group()? {
            self.in_flight = Some(InFlight::Proof(group.number()));
            host.flush(group);
        }
        Ok(())
    }

    /// Applies committed entries and answers those who wait for them.
    fn apply(&mut self, committed: Vec<LogEntry>, host: &mut H) -> Result<(), Fatal> {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return Ok(());
        };
        // What a response of this group names was readable before the group.
        let pin = self.pins.pin(self.machine.mvcc().compacted_revision());
        let mut outcomes = Vec::with_capacity(committed.len());
        let mut events = Vec::new();
        for entry in committed {
            if let Some(mut outcome) = self.apply_entry(&entry, host)? {
                events.extend(outcome.events.take());
                outcomes.push(outcome);
            }
            host.entry_done(&entry, &self.machine);
        }
        self.node.step(Input::Applied(last));
        self.maintenance.written();
        host.publish(events, self.machine.mvcc());
        for outcome in outcomes {
            self.answer(outcome, &pin, host);
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &LogEntry, host: &mut H) -> Result<Option<Outcome>, Fatal> {
        if entry.kind != EntryKind::Normal || entry.data.is_empty() {
            self.machine.skip(entry.index, entry.term);
            return Ok(None);
        }
        let place = self
            .log
            .data_place(entry.index)
            .expect("an unapplied entry has its place");
        let envelope = codec::decode(&entry.data).map_err(|error| {
            Fatal::corruption(
                format!("log segment {}", place.segment.0),
                u64::from(place.offset),
                format!("entry {} cannot be decoded: {error}", entry.index.0),
            )
        })?;
        let began = host.now();
        self.bring_in(&envelope.command)?;
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
        let now = host.now();
        host.observe(Observation::Applied(
            &envelope.command,
            &outcome,
            now - began,
        ));
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
                self.compacted(entry.term == self.node.term(), host);
            }
            Command::Alarm { .. } => {
                host.publish_alarms(self.machine.alarms().iter().collect());
            }
            _ => {}
        }
        Ok(Some(outcome))
    }

    /// Fetches what a command looks at and is not in memory. Happens only while
    /// values warm up after a start, and blocks the loop for these reads.
    fn bring_in(&mut self, command: &Command) -> Result<(), Fatal> {
        loop {
            let missing = self.machine.needs(command);
            if missing.is_empty() {
                return Ok(());
            }
            self.install(&missing)?;
        }
    }

    pub(super) fn install(&mut self, missing: &[Arc<RecordMeta>]) -> Result<(), Fatal> {
        for meta in missing {
            let value = self.values.fetch(meta)?;
            self.machine.supply(meta, &value);
        }
        Ok(())
    }
}
