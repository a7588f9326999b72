//! What the crate `raft` reads back: the entries that are not applied yet, in
//! memory, unflushed ones included (the crate takes an appended entry for
//! readable at once).
//!
//! Invariant: holds exactly the entries after `base`, gapless; `base` is applied.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use storage::types::{LogIndex, Term};

use super::{Restored, conf_state, to_raft};

pub(super) struct EntryStore {
    hard_state: HardState,
    conf_state: ConfState,
    base: (u64, u64),
    entries: VecDeque<Entry>,
}

impl EntryStore {
    pub(super) fn new(restored: Restored) -> EntryStore {
        let (applied, applied_term) = restored.applied;
        let entries: VecDeque<Entry> = restored.entries.iter().map(to_raft).collect();
        let mut last = applied.0;
        for entry in &entries {
            assert_eq!(entry.index, last + 1, "restored entries have a gap");
            last = entry.index;
        }
        // The log proves the commit index of its last hard state; the manifest
        // proves that `applied` was committed.
        let commit = restored.hard_state.commit.0.max(applied.0);
        assert!(
            commit <= last,
            "committed {commit} beyond the log's end {last}"
        );
        let hard_state = HardState {
            term: restored.hard_state.term.0.max(applied_term.0),
            vote: restored.hard_state.vote.0,
            commit,
            ..HardState::default()
        };
        EntryStore {
            hard_state,
            conf_state: conf_state(&restored.voters),
            base: (applied.0, applied_term.0),
            entries,
        }
    }

    pub(super) fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    /// Adds entries; the first may replace a suffix, never an applied entry.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.base.0,
            "an applied entry would be replaced"
        );
        let keep = first.index - self.base.0 - 1;
        assert!(
            keep <= self.entries.len() as u64,
            "appended entries leave a gap"
        );
        self.entries
            .truncate(usize::try_from(keep).expect("bounded by the length"));
        self.entries.extend(entries.iter().cloned());
    }

    /// Drops applied entries.
    pub(super) fn forget_through(&mut self, index: LogIndex) {
        while let Some(first) = self.entries.front() {
            if first.index > index.0 {
                break;
            }
            self.base = (first.index, first.term);
            self.entries.pop_front();
        }
    }

    pub(super) fn term_of(&self, index: LogIndex) -> Option<Term> {
        self.term(index.0).ok().map(Term)
    }

    fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.base.0 - 1).expect("a position in memory")
    }
}

impl Storage for EntryStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last() + 1,
            "entries are asked beyond the log's end"
        );
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let mut taken = Vec::new();
        for entry in self.entries.range(self.position(low)..self.position(high)) {
            let size = entry.data.len() as u64;
            if !taken.is_empty() && size > room {
                break;
            }
            room = room.saturating_sub(size);
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get(self.position(index)) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Nobody asks with one voter; a peer's snapshot is installed by the path
        // that a start takes (design, "start").
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
