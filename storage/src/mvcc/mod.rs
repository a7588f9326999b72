//! The multi-version store: keys, revisions, generations, compaction.
//!
//! One writer owns an [`Mvcc`]; nothing in it is shared behind a lock. Records
//! live in a slab (`records`), linked per key; the key tree orders the keys and
//! counts the live ones; the timeline orders the records by revision. Old ones
//! leave the slab for blocks of the timeline (`pack`); `found` looks across.
//!
//! Invariants: revisions only rise; a live key's newest record is a put and not
//! packed; the newest of a key is what the tree names; a key without one is not
//! in the tree; values of newest records are resident but for what a checkpoint
//! load has not warmed yet.
//!
//! Rules of revisions: contract 1.4 to 1.9; HashKV: contract 1.12.

use crate::error::Refusal;
use crate::limits::{
    HOT_SUPERSEDED_BYTES, PACK_WAITING_RECORDS_MIN, PACK_WAITING_SHARE, RECORD_OVERHEAD_BYTES,
    TIMELINE_CHUNK_RECORDS,
};
use crate::types::{Place, RecordMeta, Revision};

mod as_of;
mod block;
mod bounds;
mod chains;
mod compaction;
mod found;
mod hash_kv;
mod history;
mod key_tree;
pub mod key_value;
mod pack;
mod read;
mod records;
mod state_hash;
mod timeline;
mod usage;
mod write;

pub use as_of::AsOf;
pub use bounds::Bounds;
pub use hash_kv::{HashKv, HashKvDigest, HashKvRecord, HashKvResult, HashKvStart};
pub use history::RecordView;
pub use read::{Measured, Visible};
pub use state_hash::StateHash;
pub use usage::{DatabaseSize, SegmentUsage};
pub use write::{NewValue, Replaced, Write};

use chains::Chains;
use compaction::Purge;
use found::Found;
use hash_kv::CompactionHashes;
use key_tree::KeyTree;
use pack::Packing;
use records::{Record, RecordId, Records};
use timeline::Timeline;

/// The revision of an empty store (contract 1.4).
const EMPTY_REVISION: i64 = 1;

/// The compacted revision before the first compaction (contract 1.12).
const NEVER_COMPACTED: i64 = -1;

/// The store. See the head of the module.
#[derive(Debug)]
pub struct Mvcc {
    keys: KeyTree,
    records: Records,
    timeline: Timeline,
    chains: Chains,
    packing: Packing,
    current: i64,
    compacted: i64,
    /// The compacted revision before the newest compaction.
    previous_compacted: i64,
    purge: Purge,
    /// Sum over records of encoded length + 34.
    total_bytes: u64,
    usage: SegmentUsage,
    hash: StateHash,
    /// What superseded records cost whose encoding is in memory.
    superseded_bytes: u64,
    /// Superseded bytes that may stay in memory, those of packed records included.
    hot_bytes_max: u64,
    /// Predecessors of all records before this revision are evicted.
    evicted_before: Revision,
    compaction_hashes: CompactionHashes,
    /// Where a KeyValue is encoded before it gets its one allocation.
    scratch: Vec<u8>,
}

/// What a store keeps how. The default is for production; tests make it small.
#[derive(Clone, Copy, Debug)]
pub struct MvccOptions {
    /// Superseded bytes that stay in memory (after `evict_slice` has run), those of
    /// packed records included.
    pub hot_bytes_max: u64,
    /// Records per chunk of the timeline, which are packed in one go; 1 to 32,768.
    pub chunk_records: usize,
    /// Packing waits until so many evicted records are there.
    pub pack_waiting_min: usize,
    /// And this part of the records that are not packed (1: all, 2: half, ...).
    pub pack_waiting_share: usize,
}

impl Default for MvccOptions {
    fn default() -> Self {
        MvccOptions {
            hot_bytes_max: HOT_SUPERSEDED_BYTES,
            chunk_records: TIMELINE_CHUNK_RECORDS,
            pack_waiting_min: PACK_WAITING_RECORDS_MIN,
            pack_waiting_share: PACK_WAITING_SHARE,
        }
    }
}

impl Default for Mvcc {
    fn default() -> Self {
        Self::new()
    }
}

impl Mvcc {
    /// An empty store: current revision 1, never compacted.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(MvccOptions::default())
    }

    /// An empty store that keeps at most so many bytes of superseded values in
    /// memory (after `evict_slice` has run).
    #[must_use]
    pub fn with_hot_bytes_max(hot_bytes_max: u64) -> Self {
        Self::with_options(MvccOptions {
            hot_bytes_max,
            ..MvccOptions::default()
        })
    }

    /// An empty store with these options.
    #[must_use]
    pub fn with_options(options: MvccOptions) -> Self {
        assert!(
            options.chunk_records <= 1 << 15,
            "a block counts in 16 bits"
        );
        Mvcc {
            keys: KeyTree::default(),
            records: Records::new(),
            timeline: Timeline::new(options.chunk_records),
            chains: Chains::default(),
            packing: Packing::new(options),
            current: EMPTY_REVISION,
            compacted: NEVER_COMPACTED,
            previous_compacted: NEVER_COMPACTED,
            purge: Purge::new(),
            total_bytes: 0,
            usage: SegmentUsage::default(),
            hash: StateHash::default(),
            superseded_bytes: 0,
            hot_bytes_max: options.hot_bytes_max,
            evicted_before: Revision::default(),
            compaction_hashes: CompactionHashes::default(),
            scratch: Vec::new(),
        }
    }

    /// Adds a record from a checkpoint, without its value. Records come in
    /// revision order into an empty store; `finish_load` ends the load.
    pub fn load(&mut self, record: RecordMeta) {
        assert_eq!(
            self.current, EMPTY_REVISION,
            "records are loaded into an empty store only"
        );
        assert!(
            record.revision.main > EMPTY_REVISION,
            "the first change has revision 2"
        );
        assert!(!record.key.is_empty(), "a key is never empty");
        let mut record = Record::new(record);
        if let Some(previous) = self.keys.find(&record.key) {
            let older = self.records.get(previous);
            record.key = older.key.clone();
            record.previous = previous;
            self.packing.waiting += 1;
        }
        let revision = record.revision();
        self.append(record);
        // No value is in memory yet. A long history is packed as it comes, so that a
        // start takes no more memory than the member did.
        self.evicted_before = compaction::after(revision);
        self.pack_slice(1);
    }

    /// Ends a load: sets the revisions and the chain of the state hash, and
    /// purges all that is compacted (the checkpoint may still hold some of it).
    /// Returns what it purged, as `compact_slice` does: the next checkpoint has
    /// to remove it, else a later load could see a put without its tombstone.
    pub fn finish_load(
        &mut self,
        current: i64,
        compacted: i64,
        chain: u128,
    ) -> Vec<(Revision, Place)> {
        let last = self
            .timeline
            .last()
            .map_or(EMPTY_REVISION, |last| last.main);
        assert!(
            current >= last,
            "no record is newer than the current revision"
        );
        assert!(compacted <= current, "the future is not compacted");
        self.current = current;
        self.hash.chain = chain;
        if compacted > NEVER_COMPACTED {
            self.compact(compacted)
                .expect("a fresh store compacts to any revision it has");
        }
        self.previous_compacted = compacted;
        let mut dropped = Vec::new();
        while self.compact_slice(i64::MAX, usize::MAX, &mut dropped) {}
        self.evicted_before = Revision::new(current + 1, 0);
        self.packing.waiting = self.records.count() - self.keys.len();
        let size = self.size();
        assert_eq!(
            size.total_bytes, size.in_use_bytes,
            "a load leaves nothing to purge"
        );
        let live = usize::try_from(self.keys.live()).expect("fewer keys than records");
        assert!(live <= self.keys.len(), "a live key is a key of the tree");
        dropped
    }

    /// The revision of the newest change; 1 when there was none.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.current
    }

    /// The revision of the newest logical compaction; -1 before the first.
    #[must_use]
    pub fn compacted_revision(&self) -> i64 {
        self.compacted
    }

    /// The revision a read means: 0 or less is the current one (contract 1.5).
    pub fn check_revision(&self, revision: i64) -> Result<i64, Refusal> {
        if revision <= 0 {
            return Ok(self.current);
        }
        if revision > self.current {
            return Err(Refusal::FutureRevision);
        }
        if revision < self.compacted {
            return Err(Refusal::Compacted);
        }
        Ok(revision)
    }

    /// What the records cost, for the quota and Status.
    #[must_use]
    pub fn size(&self) -> DatabaseSize {
        let pending = self.purge.pending_bytes();
        let in_use = self.total_bytes.checked_sub(pending);
        DatabaseSize {
            total_bytes: self.total_bytes,
            in_use_bytes: in_use.expect("what is to be purged is part of the total"),
        }
    }

    /// Live bytes per log segment.
    #[must_use]
    pub fn segment_usage(&self) -> &SegmentUsage {
        &self.usage
    }

    /// The hash of what the store holds at its current revision.
    #[must_use]
    pub fn state_hash(&self) -> StateHash {
        self.hash
    }

    /// Keys that have a live version now.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.keys.live()
    }

    /// Unreclaimed records, tombstones included.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.records.count() + self.packing.packed
    }

    /// Records that are packed.
    #[must_use]
    pub fn packed_count(&self) -> usize {
        self.packing.packed
    }

    /// What superseded records cost whose values are in memory, bytes.
    #[must_use]
    pub fn superseded_resident_bytes(&self) -> u64 {
        self.superseded_bytes
    }

    /// Adds the newest record of a key to all structures but the chain of the
    /// state hash. `record.previous` names the key's newest record until now.
    fn append(&mut self, record: Record) -> RecordId {
        let previous = record.previous;
        let live = !record.tombstone;
        let (key, revision, place) = (record.key.clone(), record.revision(), record.place);
        if live {
            self.hash.add(&record);
        }
        let bytes = record_bytes(&record);
        // What a tombstone ended may be purged already when a checkpoint is loaded.
        let loading = self.current == EMPTY_REVISION;
        if previous.exists() {
            assert!(previous.is_slot(), "the newest record is never packed");
            let older = self.records.get(previous);
            assert!(
                live || loading || !older.tombstone,
                "a deletion ends a live generation"
            );
            self.superseded_bytes += older.resident_bytes();
            if !older.tombstone {
                self.hash.subtract(older);
            }
        } else {
            assert!(live || loading, "a deletion ends a live generation");
        }
        let record_id = self.records.insert(record);
        self.timeline.append(
            revision,
            record_id,
            self.garbage_bytes(&self.slab(record_id)),
        );
        self.keys.set(&key, record_id, live);
        self.usage.add(place);
        self.total_bytes += bytes;
        record_id
    }

    /// Takes the newest record of all back: what `append` did, undone.
    /// `last` is the newest revision before it.
    fn retract(&mut self, record_id: RecordId, last: Option<Revision>) {
        self.timeline
            .retract(record_id, self.garbage_bytes(&self.slab(record_id)), last);
        let record = self.records.remove(record_id);
        let previous = record.previous;
        if previous.exists() {
            assert!(previous.is_slot(), "nothing is packed inside a request");
            let older = self.records.get(previous);
            self.keys.set(&older.key, previous, !older.tombstone);
            self.superseded_bytes -= older.resident_bytes();
            if !older.tombstone {
                self.hash.add(older);
            }
        } else {
            self.keys.remove(&record.key);
        }
        if !record.tombstone {
            self.hash.subtract(&record);
        }
        self.usage.subtract(record.place);
        self.total_bytes -= record_bytes(&record);
    }

    /// What a compaction past this record frees: the put that it superseded,
    /// and itself if it is a tombstone. Fixed from the moment it is written
    /// until its predecessor is purged.
    fn garbage_bytes(&self, record: &Found<'_>) -> u64 {
        let own = if record.tombstone {
            record_bytes(record)
        } else {
            0
        };
        let older = self.previous_of(record);
        let older = older.filter(|older| !older.tombstone);
        own + older.map_or(0, |older| record_bytes(&older))
    }
}

/// What one record adds to the size of the database, bytes.
fn record_bytes(record: &Record) -> u64 {
    u64::try_from(record.encoded_len()).expect("a length fits 64 bits") + RECORD_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
