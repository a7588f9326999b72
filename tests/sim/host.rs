//! The engine's host in the simulation: time is a number, what the server gives
//! to threads is held here as a job that a later step performs, and what the
//! engine gives out is kept for the run to judge.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Instant;

use storage::apply::command::{Alarm, Command};
use storage::apply::{MachineHash, Outcome, StateMachine};
use storage::checkpoint::Manifest;
use storage::mvcc::Mvcc;
use storage::raft_log::{GroupNumber, GroupWrite, LogEntry, Spare, SpareJob, Unprepared};
use storage::types::{LogIndex, MemberId, RevisionEvents};

use crate::engine::{
    self, CheckpointWork, HashKvWalk, Host, Observation, Rejected, ScrubWork, Scrubbed,
};
use crate::node::Node;
use crate::watch::Hub;

/// Bytes of events that the ring keeps: streams fall behind often.
const RING_BYTES: usize = 4_000;

pub type Request = engine::Request<SimHost>;

/// Where the answer to one request will lie.
#[derive(Debug)]
pub struct Slot<T>(Rc<RefCell<Option<Result<T, Rejected>>>>);

impl<T> Slot<T> {
    /// Both ends of one.
    pub fn pair() -> (Slot<T>, Slot<T>) {
        let answer = Rc::new(RefCell::new(None));
        (Slot(Rc::clone(&answer)), Slot(answer))
    }

    /// The answer, once.
    pub fn take(&self) -> Option<Result<T, Rejected>> {
        self.0.borrow_mut().take()
    }
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
    Done(Result<Spare, Unprepared>),
}

/// The checkpoint thread.
#[derive(Debug)]
pub enum Checkpoint {
    Idle,
    Submitted(Box<CheckpointWork>),
    Done(Box<Manifest>),
}

/// The scrub thread.
#[derive(Debug)]
pub enum Scrub {
    Idle,
    Submitted(Box<ScrubWork>),
    Done(Scrubbed),
}

/// One entry applied: where, and the hash of the state after it.
#[derive(Clone, Copy, Debug)]
pub struct AppliedEntry {
    pub index: LogIndex,
    pub term: u64,
    pub hash: MachineHash,
}

/// One command applied.
#[derive(Debug)]
pub struct AppliedCommand {
    pub command: Command,
    pub revision: i64,
}

#[derive(Debug)]
pub struct SimHost {
    pub now: Instant,
    pub flush: Flush,
    pub spare: SpareWork,
    pub checkpoint: Checkpoint,
    pub scrub: Scrub,
    pub hash_walks: VecDeque<Box<HashKvWalk>>,
    /// For the run to take.
    pub entries: Vec<AppliedEntry>,
    pub commands: Vec<AppliedCommand>,
    pub unasked: Vec<Command>,
    /// Writes that were refused and wait for an alarm.
    pub refused: u64,
    /// Where streams find what is published.
    pub hub: Hub,
    /// How many values were handed over to be moved.
    pub moved: u64,
}

impl SimHost {
    pub fn new(now: Instant, current_revision: i64) -> SimHost {
        SimHost {
            now,
            flush: Flush::Idle,
            spare: SpareWork::Idle,
            checkpoint: Checkpoint::Idle,
            scrub: Scrub::Idle,
            hash_walks: VecDeque::new(),
            entries: Vec::new(),
            commands: Vec::new(),
            unasked: Vec::new(),
            refused: 0,
            hub: Hub::with_ring_bytes_max(current_revision, RING_BYTES),
            moved: 0,
        }
    }

    fn applied(&mut self, command: &Command, outcome: &Outcome) {
        self.commands.push(AppliedCommand {
            command: command.clone(),
            revision: outcome.revision,
        });
    }
}

impl Host for SimHost {
    type Reply<T: Debug> = Slot<T>;

    fn now(&self) -> Instant {
        self.now
    }

    fn answer<T: Debug>(&mut self, reply: Slot<T>, answer: Result<T, Rejected>) {
        let before = reply.0.borrow_mut().replace(answer);
        assert!(before.is_none(), "a request is answered once");
    }

    fn flush(&mut self, group: GroupWrite) {
        assert!(matches!(self.flush, Flush::Idle), "one flush at a time");
        self.flush = Flush::Submitted(group);
    }

    fn checkpoint(&mut self, work: CheckpointWork) {
        let idle = matches!(self.checkpoint, Checkpoint::Idle);
        assert!(idle, "one checkpoint at a time");
        self.moved += work.moves() as u64;
        self.checkpoint = Checkpoint::Submitted(Box::new(work));
    }

    fn prepare(&mut self, job: SpareJob) {
        let idle = matches!(self.spare, SpareWork::Idle);
        assert!(idle, "one spare at a time");
        self.spare = SpareWork::Submitted(job);
    }

    fn scrub(&mut self, work: ScrubWork) {
        assert!(matches!(self.scrub, Scrub::Idle), "one pass at a time");
        self.scrub = Scrub::Submitted(Box::new(work));
    }

    fn hash_compaction(&mut self, walk: Box<HashKvWalk>) {
        self.hash_walks.push_back(walk);
    }

    fn publish(&mut self, events: Vec<RevisionEvents>, _store: &Mvcc) {
        self.hub.publish(events);
    }

    fn publish_alarms(&mut self, _alarms: Vec<(MemberId, Alarm)>) {}

    fn publish_turn(&mut self, _node: &Node, _applied: LogIndex, _waiting: usize) {}

    fn observe(&mut self, what: Observation<'_>) {
        match what {
            Observation::Applied(command, outcome, _) => self.applied(command, outcome),
            Observation::ProposedUnasked(command) => self.unasked.push(command.clone()),
            Observation::WaitsForAlarm => self.refused += 1,
            _ => {}
        }
    }

    fn entry_done(&mut self, entry: &LogEntry, machine: &StateMachine) {
        self.entries.push(AppliedEntry {
            index: entry.index,
            term: entry.term.0,
            hash: machine.state_hash(),
        });
    }
}
