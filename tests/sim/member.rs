//! The member: production node, log, state machine, pins and lessor, with the
//! calls of the server's core loop (`runtime/core_loop.rs`, `maintenance.rs`,
//! `take.rs`) in the same order. What the server gives to threads is held here
//! as a job that a later step performs.
//!
//! Invariant, as there: nothing is answered before its entry is applied, nothing
//! applied before it is flushed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::production::node::{AppendNumber, Input, Node};
use bytes::Bytes;
use storage::apply::command::{Command, Envelope};
use storage::apply::{EntryData, LeaseChange, MachineHash, Outcome, StateMachine, codec};
use storage::checkpoint::ColdReader;
use storage::error::Fatal;
use storage::raft_log::{
    EntryKind, GroupNumber, GroupWrite, LogEntry, LogReader, RaftLog, Spare, SpareJob,
};
use storage::types::{
    KeyValueRef, LeaseId, LogIndex, Place, RecordMeta, RequestId, Revision, RevisionEvents, Term,
};

use crate::bugs::{self, Bug};
use crate::checkpoints::Checkpoints;
use crate::production::{IDLE_BEFORE_PROOF, Lessor, Pin, Pins};
use crate::settings::Settings;

/// Reads values back, as `runtime/values.rs` does.
#[derive(Clone, Debug)]
pub struct Values {
    pub log: LogReader,
    pub cold: ColdReader,
}

impl Values {
    pub fn find(&self, revision: Revision, place: Place) -> Result<Option<Bytes>, Fatal> {
        if place.length == 0 {
            return Ok(Some(Bytes::new()));
        }
        if let Some(value) = self.log.read_value(place)? {
            return Ok(Some(value.into()));
        }
        self.cold.read_value(revision)
    }

    pub fn fetch_at(&self, revision: Revision, place: Place) -> Result<Bytes, Fatal> {
        match self.find(revision, place)? {
            Some(value) => Ok(value),
            None => Err(Fatal::corruption(
                "checkpoint",
                0,
                format!("the value of revision {revision:?} is nowhere"),
            )),
        }
    }

    pub fn fetch(&self, meta: &RecordMeta) -> Result<Bytes, Fatal> {
        self.fetch_at(meta.revision, meta.place)
    }
}

#[derive(Debug)]
enum InFlight {
    Append(GroupNumber, AppendNumber, Option<(LogIndex, Term)>),
    Proof(GroupNumber),
}

/// The log thread.
#[derive(Debug)]
pub enum Flush {
    Idle,
    Submitted(GroupWrite),
    Done(GroupNumber),
}

/// The segment thread.
#[derive(Debug)]
pub enum SpareWork {
    Idle,
    Submitted(SpareJob),
    Done(Option<Spare>),
}

/// What the loop would send to whoever waits.
#[derive(Debug)]
pub struct Answered {
    pub outcome: Outcome,
    pub pin: Pin,
}

/// One entry applied: where, and the hash of the state after it.
#[derive(Clone, Copy, Debug)]
pub struct AppliedEntry {
    pub index: LogIndex,
    pub term: Term,
    pub hash: MachineHash,
}

#[derive(Debug)]
pub struct Member {
    pub settings: Settings,
    pub node: Node,
    pub log: RaftLog,
    pub machine: StateMachine,
    pub values: Values,
    pub pins: Pins,
    pub lessor: Lessor,
    pub checkpoints: Checkpoints,
    pub flush: Flush,
    pub spare_work: SpareWork,
    pub now: Instant,
    in_flight: Option<InFlight>,
    last_flush: Instant,
    purging: bool,
    evicting: bool,
    sequence: u64,
    /// For the run to take: answers, published events, applied entries.
    pub answers: Vec<Answered>,
    pub published: Vec<Arc<RevisionEvents>>,
    pub applied: Vec<AppliedEntry>,
    warm_after: Option<Revision>,
}

impl Member {
    pub fn new(
        settings: Settings,
        (node, log, machine): (Node, RaftLog, StateMachine),
        values: Values,
        checkpoints: Checkpoints,
        now: Instant,
    ) -> Result<Member, Fatal> {
        let mut lessor = Lessor::default();
        for (lease, ttl_seconds) in machine.leases().iter() {
            lessor.granted(lease, ttl_seconds, now);
        }
        let mut member = Member {
            settings,
            node,
            log,
            machine,
            values,
            pins: Pins::default(),
            lessor,
            checkpoints,
            flush: Flush::Idle,
            spare_work: SpareWork::Idle,
            now,
            in_flight: None,
            last_flush: now,
            purging: false,
            evicting: false,
            sequence: 0,
            answers: Vec::new(),
            published: Vec::new(),
            applied: Vec::new(),
            warm_after: Some(Revision::default()),
        };
        member.retire_left_over()?;
        Ok(member)
    }

    /// True once reads and writes are taken.
    pub fn serves(&self) -> bool {
        self.node.reads_are_current()
    }

    pub fn turn(&mut self) -> Result<(), Fatal> {
        while self.in_flight.is_none() {
            let Some(output) = self.node.poll() else {
                break;
            };
            if let Some(append) = output.append {
                let group = self.log.append(append.hard_state, &append.entries)?;
                self.in_flight = Some(InFlight::Append(
                    group.number(),
                    append.number,
                    append.last(),
                ));
                self.checkpoints.appended(group.bytes().len() as u64);
                self.flush = Flush::Submitted(group);
            }
            self.apply(output.committed)?;
            if bugs::planted(Bug::AnswerBeforeFlush) {
                self.pretend_flushed()?;
            }
        }
        Ok(())
    }

    /// The bug: the group counts as durable while it waits for the log thread.
    fn pretend_flushed(&mut self) -> Result<(), Fatal> {
        let Some(InFlight::Append(number, append, last)) = self.in_flight.take() else {
            return Ok(());
        };
        self.node.step(Input::Persisted(append, last));
        self.in_flight = Some(InFlight::Proof(number));
        match self.node.poll() {
            Some(output) => self.apply(output.committed),
            None => Ok(()),
        }
    }

    /// The log thread's turn.
    pub fn perform_flush(&mut self) -> Result<(), Fatal> {
        if let Flush::Submitted(group) = &self.flush {
            group.perform()?;
            self.flush = Flush::Done(group.number());
        }
        Ok(())
    }

    pub fn report_flush(&mut self) -> Result<(), Fatal> {
        let Flush::Done(group) = self.flush else {
            return Ok(());
        };
        self.flush = Flush::Idle;
        self.log.flushed(group);
        self.last_flush = self.now;
        match self.in_flight.take() {
            Some(InFlight::Append(number, append, last)) => {
                assert_eq!(number, group, "groups are flushed in order");
                self.node.step(Input::Persisted(append, last));
            }
            Some(InFlight::Proof(number)) => assert_eq!(number, group, "one group at a time"),
            None => unreachable!("a group was flushed that nobody handed over"),
        }
        self.turn()
    }

    pub fn tick(&mut self) -> Result<(), Fatal> {
        self.node.step(Input::Tick);
        self.prove_when_idle()?;
        self.checkpoint_when_due();
        if matches!(self.spare_work, SpareWork::Idle)
            && let Some(job) = self.log.spare_job()
        {
            self.spare_work = SpareWork::Submitted(job);
        }
        Ok(())
    }

    fn prove_when_idle(&mut self) -> Result<(), Fatal> {
        let idle = self.now.duration_since(self.last_flush) >= IDLE_BEFORE_PROOF;
        if self.in_flight.is_none()
            && idle
            && let Some(group) = self.log.proof_group()?
        {
            self.in_flight = Some(InFlight::Proof(group.number()));
            self.flush = Flush::Submitted(group);
        }
        Ok(())
    }

    /// The segment thread's turn; a failure is no harm.
    pub fn perform_spare(&mut self) {
        match std::mem::replace(&mut self.spare_work, SpareWork::Idle) {
            SpareWork::Submitted(job) => self.spare_work = SpareWork::Done(job.perform().ok()),
            other => self.spare_work = other,
        }
    }

    pub fn report_spare(&mut self) {
        match std::mem::replace(&mut self.spare_work, SpareWork::Idle) {
            SpareWork::Done(spare) => {
                if let Some(spare) = spare {
                    self.log.add_spare(spare);
                }
            }
            other => self.spare_work = other,
        }
    }

    fn apply(&mut self, committed: Vec<LogEntry>) -> Result<(), Fatal> {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return Ok(());
        };
        let pin = self.pins.pin(self.machine.mvcc().compacted_revision());
        for entry in committed {
            if let Some(mut outcome) = self.apply_entry(&entry)? {
                self.published.extend(outcome.events.take().map(Arc::new));
                let pin = pin.clone();
                self.answers.push(Answered { outcome, pin });
            }
            self.applied.push(AppliedEntry {
                index: entry.index,
                term: entry.term,
                hash: self.machine.state_hash(),
            });
        }
        self.node.step(Input::Applied(last));
        self.evicting = true;
        Ok(())
    }

    fn apply_entry(&mut self, entry: &LogEntry) -> Result<Option<Outcome>, Fatal> {
        if entry.kind != EntryKind::Normal || entry.data.is_empty() {
            self.machine.skip(entry.index, entry.term);
            return Ok(None);
        }
        let place = self.log.data_place(entry.index).unwrap();
        let envelope = codec::decode(&entry.data).map_err(|error| {
            Fatal::corruption("log", u64::from(place.offset), error.to_string())
        })?;
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
        for change in &outcome.lease_changes {
            match *change {
                LeaseChange::Granted { lease, ttl_seconds } => {
                    self.lessor.granted(lease, ttl_seconds, self.now);
                }
                LeaseChange::Revoked { lease } => self.lessor.revoked(lease),
            }
        }
        if matches!(envelope.command, Command::Compact { .. }) && outcome.result.is_ok() {
            self.purging = true;
        }
        Ok(Some(outcome))
    }

    fn bring_in(&mut self, command: &Command) -> Result<(), Fatal> {
        loop {
            let missing = self.machine.needs(command);
            if missing.is_empty() {
                return Ok(());
            }
            self.install(&missing)?;
        }
    }

    pub fn install(&mut self, missing: &[Arc<RecordMeta>]) -> Result<(), Fatal> {
        for meta in missing {
            let value = self.values.fetch(meta)?;
            self.machine.supply(meta, &value);
        }
        Ok(())
    }

    /// One slice of background work: `Core::maintain`.
    pub fn maintain(&mut self) {
        if self.checkpoints.is_collecting() {
            self.collect_slice();
            return;
        }
        let budget = self.settings.purge_slice_records;
        if self.evicting && !self.checkpoints.holds_eviction() {
            self.evicting = self.machine.mvcc_mut().evict_slice(budget);
        }
        if !self.purging {
            return;
        }
        let compacted = self.machine.mvcc().compacted_revision();
        let floor = self.pins.floor(compacted, self.now);
        let mut dropped = Vec::new();
        let more = self
            .machine
            .mvcc_mut()
            .compact_slice(floor, budget, &mut dropped);
        self.checkpoints.purged(dropped);
        if !more && floor >= compacted {
            self.purging = false;
        }
    }

    /// One slice of the warm-up after a start; true when there is more.
    pub fn warm_up(&mut self) -> Result<bool, Fatal> {
        let Some(after) = self.warm_after else {
            return Ok(false);
        };
        let (missing, next) = self.machine.mvcc().missing_values_slice(after, 5);
        for meta in missing {
            let value = self.values.fetch(&meta)?;
            self.machine.mvcc_mut().install_value(meta.revision, &value);
        }
        self.warm_after = next;
        Ok(self.warm_after.is_some())
    }

    /// Takes a write on.
    pub fn propose(&mut self, command: &Command) -> Option<RequestId> {
        if !self.node.is_leader() {
            return None;
        }
        self.sequence += 1;
        let request_id = RequestId(self.node.term().0 << 40 | self.sequence);
        let envelope = Envelope {
            request_id,
            command: command.clone(),
        };
        let data = codec::encode(&envelope).unwrap();
        self.node.step(Input::Propose(data));
        Some(request_id)
    }

    /// Leases that have ended, for the run to propose their revocation.
    pub fn expired_leases(&mut self) -> Vec<LeaseId> {
        if !self.serves() {
            return Vec::new();
        }
        let early = if bugs::planted(Bug::LeaseEarly) { 1 } else { 0 };
        self.lessor
            .take_expired(self.now + Duration::from_secs(early))
    }

    /// The value of a reference, as whoever encodes fetches it.
    pub fn encoded(
        &self,
        reference: &KeyValueRef,
    ) -> Result<storage::types::EncodedKeyValue, Fatal> {
        match reference {
            KeyValueRef::Resident(encoded) => Ok(encoded.clone()),
            KeyValueRef::Stored(meta) => Ok(meta.encode(&self.values.fetch(meta)?)),
        }
    }
}
