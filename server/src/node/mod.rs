//! The consensus core of one member, sans-IO: no clock, thread, socket, file or
//! randomness of its own. Time is a count of [`Input::Tick`]s; durability is told
//! by [`Input::Persisted`].
//!
//! Owns: the Raft state machine (crate `raft`, etcd's message semantics) and the
//! entries that are not applied yet. Run by the core loop alone.
//!
//! Invariants:
//! - Every write is an entry of the log, also with one voter.
//! - At most one append is under way; entries proposed meanwhile form the next.
//! - `Persisted` names index and term, so that a late answer for a replaced
//!   suffix never acknowledges new entries at the same index.
//! - applied <= committed <= last index.

mod entry_store;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, Message};
use raft::{RawNode, StateRole};
use storage::raft_log::{EntryKind, HardState, LogEntry};
use storage::types::{LogIndex, MemberId, Term};

use entry_store::EntryStore;

/// Bytes of committed entries handed out in one [`Output`], so that one turn of
/// the core loop stays short even after a long flush.
const COMMITTED_BYTES_PER_OUTPUT: u64 = 4 << 20;

/// What a member knows when its node starts, from manifest and log.
#[derive(Debug)]
pub struct Restored {
    /// The last hard state in the log.
    pub hard_state: HardState,
    /// The last entry that the state machine holds, and its term.
    pub applied: (LogIndex, Term),
    /// All entries after `applied`, gapless.
    pub entries: Vec<LogEntry>,
    /// The members that vote.
    pub voters: Vec<MemberId>,
}

/// Timing of elections, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Ticks without a leader before a member campaigns.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
}

/// What the world tells the node.
#[derive(Debug)]
pub enum Input {
    /// One unit of time has passed.
    Tick,
    /// A request to become an entry; ignored (and reported by
    /// [`Node::is_leader`]) unless this member leads.
    Propose(Bytes),
    /// The append that ends at this entry is durable here.
    Persisted(AppendNumber, Option<(LogIndex, Term)>),
    /// The state machine holds every entry up to here.
    Applied(LogIndex),
    /// A message of another member.
    Message(Box<Message>),
}

/// The number of an append, rising by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppendNumber(u64);

/// What the node asks of the world, in this order: send `messages`, flush
/// `append`, send `messages_after_append` once it is durable, apply `committed`.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent at once.
    pub messages: Vec<Message>,
    /// To be made durable in one flush.
    pub append: Option<Append>,
    /// To be sent once `append` is durable.
    pub messages_after_append: Vec<Message>,
    /// To be applied, in order.
    pub committed: Vec<LogEntry>,
}

/// What one flush must make durable.
#[derive(Debug)]
pub struct Append {
    /// To be named in [`Input::Persisted`].
    pub number: AppendNumber,
    /// The hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// New entries; the first may replace a suffix.
    pub entries: Vec<LogEntry>,
}

impl Append {
    /// Index and term of the last entry, to be named in [`Input::Persisted`].
    #[must_use]
    pub fn last(&self) -> Option<(LogIndex, Term)> {
        self.entries.last().map(|entry| (entry.index, entry.term))
    }
}

/// The consensus core.
pub struct Node {
    raw: RawNode<EntryStore>,
    id: MemberId,
    /// The append that is being flushed. Invariant: at most one.
    flushing: Option<(AppendNumber, Option<(LogIndex, Term)>)>,
    /// A hard state that only moved the commit index; it rides with the next append.
    riding_hard_state: Option<HardState>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node {:x} in term {}", self.id.0, self.term().0)
    }
}

impl Node {
    /// Starts from what was restored. A single voter campaigns at once.
    ///
    /// # Panics
    /// When `restored` contradicts itself (gaps, commit beyond the log).
    #[must_use]
    pub fn new(id: MemberId, timing: Timing, restored: Restored) -> Node {
        let alone = restored.voters == [id];
        let config = raft::Config {
            id: id.0,
            election_tick: timing.election_ticks,
            heartbeat_tick: timing.heartbeat_ticks,
            applied: restored.applied.0.0,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_OUTPUT,
            max_inflight_msgs: 256,
            max_size_per_msg: 1 << 20,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let store = EntryStore::new(restored);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut raw = RawNode::new(&config, store, &logger)
            .expect("the configuration is valid by construction");
        if alone {
            raw.campaign()
                .expect("a voter of the configuration may campaign");
        }
        Node {
            raw,
            id,
            flushing: None,
            riding_hard_state: None,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => {
                self.raw.tick();
            }
            Input::Propose(data) => {
                if self.is_leader() {
                    self.raw
                        .propose(Vec::new(), data.into())
                        .expect("a leader that transfers nothing takes proposals");
                }
            }
            Input::Persisted(number, last) => self.persisted(number, last),
            Input::Applied(index) => {
                self.raw.advance_apply_to(index.0);
                self.raw.mut_store().forget_through(index);
            }
            Input::Message(message) => {
                // A message of a stranger or of an old term is refused by the
                // protocol; refusing it is all there is to do.
                if let Err(error) = self.raw.step(*message) {
                    tracing::debug!(%error, "refused a raft message");
                }
            }
        }
    }

    /// What is to be done now; None when nothing is, and while an append is
    /// being flushed (with one voter nothing could be).
    pub fn poll(&mut self) -> Option<Output> {
        if self.flushing.is_some() || !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let mut output = Output {
            messages: ready.take_messages(),
            append: None,
            messages_after_append: ready.take_persisted_messages(),
            committed: ready
                .take_committed_entries()
                .into_iter()
                .map(from_raft)
                .collect(),
        };
        assert!(ready.snapshot().is_empty(), "no member sends snapshots yet");

        let entries = ready.take_entries();
        if let Some(state) = ready.hs() {
            self.riding_hard_state = Some(HardState {
                term: Term(state.term),
                vote: MemberId(state.vote),
                commit: LogIndex(state.commit),
            });
            self.raw.mut_store().set_hard_state(state.clone());
        }
        let number = AppendNumber(ready.number());
        self.raw.mut_store().append(&entries);
        if ready.must_sync() || !entries.is_empty() {
            let append = Append {
                number,
                hard_state: self.riding_hard_state.take(),
                entries: entries.into_iter().map(from_raft).collect(),
            };
            self.flushing = Some((number, append.last()));
            output.append = Some(append);
        }
        let nothing_to_flush = output.append.is_none();
        self.raw.advance_append_async(ready);
        if nothing_to_flush {
            self.raw.on_persist_ready(number.0);
        }
        Some(output)
    }

    /// True while this member leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// True when a linearizable read may be answered from the applied state
    /// without asking anyone: a single voter that leads and has applied an entry
    /// of its own term (Raft thesis 6.4). Committed is not enough: after a start
    /// the entries of the terms before are applied over several turns, and an
    /// answered write may be among those that are left.
    #[must_use]
    pub fn reads_are_current(&self) -> bool {
        self.is_leader() && self.is_only_voter() && self.raw.raft.apply_to_current_term()
    }

    /// The leader known, if any.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        Some(MemberId(self.raw.raft.leader_id)).filter(|id| id.0 != 0)
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// The last committed position.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    fn is_only_voter(&self) -> bool {
        let voters = self.raw.raft.prs().conf().voters();
        voters.contains(self.id.0) && voters.ids().len() == 1
    }

    fn persisted(&mut self, number: AppendNumber, last: Option<(LogIndex, Term)>) {
        let flushing = self.flushing.take();
        assert_eq!(
            flushing,
            Some((number, last)),
            "an append was reported durable that is not the one under way"
        );
        if let Some((index, term)) = last {
            let held = self.raw.store().term_of(index);
            assert_eq!(
                held,
                Some(term),
                "the durable entry at {index:?} was replaced meanwhile"
            );
        }
        self.raw.on_persist_ready(number.0);
    }
}

fn from_raft(entry: Entry) -> LogEntry {
    LogEntry {
        term: Term(entry.term),
        index: LogIndex(entry.index),
        kind: match entry.entry_type {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange => EntryKind::ConfChange,
            EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
        },
        data: entry.data,
    }
}

fn to_raft(entry: &LogEntry) -> Entry {
    Entry {
        entry_type: match entry.kind {
            EntryKind::Normal => EntryType::EntryNormal,
            EntryKind::ConfChange => EntryType::EntryConfChange,
            EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
        },
        term: entry.term.0,
        index: entry.index.0,
        data: entry.data.clone(),
        ..Entry::default()
    }
}

fn conf_state(voters: &[MemberId]) -> ConfState {
    ConfState {
        voters: voters.iter().map(|id| id.0).collect(),
        ..ConfState::default()
    }
}
