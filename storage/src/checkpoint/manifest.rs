//! The manifest: one small file that says what the last checkpoint holds. Its
//! publication is the only commit point of a checkpoint; whatever lies on disk
//! beyond it is ignored and overwritten (docs/format.md, "Manifest").
//!
//! Published by: write a temporary file, sync it, rename it over the old one,
//! sync the directory. Read by the start and by `check`, once.
//!
//! Limits: [`MANIFEST_BYTES_MAX`].

use std::path::Path;

use crate::apply::command::Alarm;
use crate::apply::{Restart, StateMachine};
use crate::error::Fatal;
use crate::planted::{Bug, planted};
use crate::types::{LeaseId, LogIndex, MemberId, Revision, SegmentNumber, Term};
use crate::vfs::Vfs;

use super::codec::Malformed;
use super::digest::SetDigest;
use super::layout;
use super::manifest_codec;

/// Largest manifest that is read or written, bytes. Its size is dominated by
/// 16 bytes per lease and about 3 per removed record; this is room for tens of
/// millions of either.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// Who this directory belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: MemberId,
}

/// What the cluster knows of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: MemberId,
    /// Its name; empty until the member has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until the member has started.
    pub client_urls: Vec<String>,
}

/// The Raft configuration (etcd's ConfState). Outside a joint change the last
/// two lists are empty. Every list ascends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Voters of the present (in a joint change: incoming) configuration.
    pub voters: Vec<MemberId>,
    /// Learners.
    pub learners: Vec<MemberId>,
    /// Voters of the outgoing configuration of a joint change.
    pub voters_outgoing: Vec<MemberId>,
    /// Outgoing voters that become learners when the joint change ends.
    pub learners_next: Vec<MemberId>,
    /// True when the joint change ends by itself.
    pub auto_leave: bool,
}

/// Everything a start needs besides the records and the log's tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Number of this manifest; rises by one with each. Set by the checkpointer.
    pub sequence: u64,
    /// Whose directory this is.
    pub identity: Identity,
    /// All members, this one included, ascending by identity.
    pub members: Vec<Member>,
    /// The Raft configuration at `applied_index`.
    pub membership: Membership,
    /// The cluster version, such as "3.7.0"; empty until it was decided.
    pub cluster_version: String,
    /// Last entry whose effects are in this checkpoint.
    pub applied_index: LogIndex,
    /// Term of that entry.
    pub applied_term: Term,
    /// First entry that replay needs. Invariant: `applied_index + 1`.
    pub first_needed_index: LogIndex,
    /// The segments that exist and may hold values of retained records,
    /// ascending. A value whose segment is not in here lies in the cold store.
    pub segments: Vec<SegmentNumber>,
    /// Current main revision; 1 for an empty store.
    pub current_revision: i64,
    /// Compacted main revision; -1 before the first compaction.
    pub compacted_revision: i64,
    /// Last revision that was ingested. The store's records above it are ignored.
    pub bound: Revision,
    /// What the index checkpoint holds up to `bound`, without `removed`. Set by
    /// the checkpointer.
    pub index: SetDigest,
    /// Those of the above whose value lies in the cold store. Set by the checkpointer.
    pub cold: SetDigest,
    /// Records that compaction dropped and that the store may still hold: they
    /// are no part of the state. Ascending, none above `bound`. Set by the
    /// checkpointer, which removes them after this manifest is durable.
    pub removed: Vec<Revision>,
    /// The state hash at `applied_index`: sum over the newest live versions.
    pub live_hash: u128,
    /// The state hash at `applied_index`: chain over the revisions.
    pub chain_hash: u128,
    /// Leases and their granted time to live in seconds, ascending by lease.
    pub leases: Vec<(LeaseId, i64)>,
    /// Active alarms, ascending.
    pub alarms: Vec<(MemberId, Alarm)>,
}

impl Manifest {
    /// The manifest of a member that has applied nothing yet.
    #[must_use]
    pub fn empty(identity: Identity) -> Self {
        Manifest {
            sequence: 0,
            identity,
            members: Vec::new(),
            membership: Membership::default(),
            cluster_version: String::new(),
            applied_index: LogIndex(0),
            applied_term: Term(0),
            first_needed_index: LogIndex(1),
            segments: Vec::new(),
            current_revision: 1,
            compacted_revision: -1,
            bound: Revision::new(0, 0),
            index: SetDigest::default(),
            cold: SetDigest::default(),
            removed: Vec::new(),
            live_hash: 0,
            chain_hash: 0,
            leases: Vec::new(),
            alarms: Vec::new(),
        }
    }

    /// Takes over what the state machine knows: position, revisions, state hash,
    /// leases, alarms, and with the current revision the bound of the index
    /// checkpoint.
    pub fn describe(&mut self, machine: &StateMachine) {
        let restart = machine.restart();
        self.applied_index = restart.applied_index;
        self.applied_term = restart.applied_term;
        if planted(Bug::ApplyTwice) && self.applied_index.0 > 1 {
            self.applied_index.0 -= 1;
        }
        self.first_needed_index = LogIndex(self.applied_index.0 + 1);
        self.current_revision = restart.current_revision;
        self.compacted_revision = restart.compacted_revision;
        self.bound = Revision::new(restart.current_revision, u32::MAX);
        if planted(Bug::IndexWithoutEffects) && self.bound.main > 1 {
            self.bound.main -= 1;
        }
        self.leases = restart.leases;
        self.alarms = restart.alarms;
        self.live_hash = machine.state_hash().store.live;
        self.chain_hash = restart.hash_chain;
    }

    /// What the state machine needs to go on from here, besides the records.
    #[must_use]
    pub fn restart(&self) -> Restart {
        Restart {
            applied_index: self.applied_index,
            applied_term: self.applied_term,
            current_revision: self.current_revision,
            compacted_revision: self.compacted_revision,
            hash_chain: self.chain_hash,
            leases: self.leases.clone(),
            alarms: self.alarms.clone(),
        }
    }

    /// True while no record was ever checkpointed: nothing in the store counts.
    #[must_use]
    pub fn names_nothing(&self) -> bool {
        self.index.count == 0 && self.removed.is_empty() && self.bound == Revision::default()
    }

    /// True for a segment whose values all went cold or died: this manifest
    /// knows newer ones and does not list it. Its file may still lie in the log's
    /// directory after a crash; it is never read again, and a start retires it.
    #[must_use]
    pub fn left_out(&self, segment: SegmentNumber) -> bool {
        let newest = self.segments.last();
        newest.is_some_and(|newest| segment < *newest) && !self.segments.contains(&segment)
    }

    /// The byte form (docs/format.md, "Manifest").
    ///
    /// # Panics
    /// When the content breaks an invariant of a field.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if let Err(detail) = self.check_invariants() {
            panic!("a manifest that must never be written: {detail}");
        }
        let bytes = manifest_codec::encode(self);
        assert!(
            bytes.len() as u64 <= MANIFEST_BYTES_MAX,
            "the manifest has grown to {} bytes",
            bytes.len()
        );
        bytes
    }

    /// Reads the byte form of the manifest at `path` (used in errors only).
    ///
    /// # Errors
    /// `Corruption` with the offset of the first bad byte known; `Refused` for
    /// a format that is newer than this binary.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self, Fatal> {
        let corrupt = |bad: Malformed| Fatal::corruption(path, bad.offset, bad.detail);
        if let Some(newer) = manifest_codec::newer_version(bytes) {
            return Err(layout::newer_format(path, newer, manifest_codec::VERSION));
        }
        let manifest = manifest_codec::decode(bytes).map_err(corrupt)?;
        match manifest.check_invariants() {
            Ok(()) => Ok(manifest),
            Err(detail) => Err(Fatal::corruption(path, 0, detail)),
        }
    }

    /// Reads the published manifest of a data directory, None when there is none.
    ///
    /// The directory is synced before the answer: a process that was killed
    /// between rename and sync leaves a manifest that only the page cache
    /// knows, and what is done because of it must not outlive it.
    ///
    /// # Errors
    /// As [`Manifest::decode`], and I/O errors.
    pub fn read(vfs: &dyn Vfs, directory: &Path) -> Result<Option<Self>, Fatal> {
        let manifest = Self::read_unsynced(vfs, directory)?;
        if manifest.is_some() {
            layout::sync_dir(vfs, directory)?;
        }
        Ok(manifest)
    }

    /// As [`Manifest::read`] for who only looks: nothing is synced, nothing may
    /// be done because of it.
    pub(crate) fn read_unsynced(vfs: &dyn Vfs, directory: &Path) -> Result<Option<Self>, Fatal> {
        let path = directory.join(layout::MANIFEST);
        let bytes = layout::read_whole(vfs, &path, MANIFEST_BYTES_MAX)?;
        bytes.map(|bytes| Self::decode(&bytes, &path)).transpose()
    }

    /// Makes this the published manifest. When it returns, it is durable; when
    /// it fails or the process ends before, either this or the former one is.
    ///
    /// # Errors
    /// I/O errors. They end the process: nothing is retried.
    pub fn publish(&self, vfs: &dyn Vfs, directory: &Path) -> Result<(), Fatal> {
        layout::replace_file(vfs, directory, layout::MANIFEST, &self.encode())
    }

    /// What each field promises, for what is written and for what is read.
    fn check_invariants(&self) -> Result<(), String> {
        let membership = &self.membership;
        let ascending = self.members.is_sorted_by(|a, b| a.id < b.id)
            && strictly_ascending(&membership.voters)
            && strictly_ascending(&membership.learners)
            && strictly_ascending(&membership.voters_outgoing)
            && strictly_ascending(&membership.learners_next)
            && strictly_ascending(&self.segments)
            && strictly_ascending(&self.removed)
            && self.leases.is_sorted_by(|a, b| a.0 < b.0)
            && strictly_ascending(&self.alarms);
        let rules = [
            (ascending, "a list is not in ascending order"),
            (
                self.first_needed_index.0.checked_sub(1) == Some(self.applied_index.0),
                "the first needed entry does not follow the applied one",
            ),
            (
                self.current_revision >= 1,
                "the current revision is below 1",
            ),
            (
                (-1..=self.current_revision).contains(&self.compacted_revision),
                "the compacted revision is not between -1 and the current one",
            ),
            (
                (0..=self.current_revision).contains(&self.bound.main),
                "the bound of the index checkpoint is above the current revision",
            ),
            (
                self.removed.last().is_none_or(|last| *last <= self.bound),
                "a removed record lies above the bound",
            ),
            (
                self.removed.first().is_none_or(|first| first.main >= 0),
                "a removed record has a negative revision",
            ),
            (
                self.cold.count <= self.index.count,
                "more cold values than records",
            ),
            (
                self.leases.iter().all(|(lease, _)| !lease.is_none()),
                "a lease has the identity 0",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, broken)) => Err((*broken).to_owned()),
        }
    }
}

fn strictly_ascending<T: PartialOrd>(items: &[T]) -> bool {
    items.is_sorted_by(|a, b| a < b)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
