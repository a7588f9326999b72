//! Compaction and eviction, both in slices.
//!
//! `compact` is logical and immediate (contract 1.8). The purge walks the
//! timeline from the last purged revision to the new one: a record there makes
//! the put before it garbage, a tombstone below the target is garbage itself, a
//! tombstone at exactly the target stays until the next purge. So it costs what
//! was written in between, not what the store holds.
//!
//! Eviction walks the same way: a record it passes makes the value before it
//! leave memory, oldest supersession first, until the rest fits the budget. What
//! is packed counts against it too, down to a share that is always left: so the
//! history of a store that nobody compacts costs the same memory for long.

use super::records::RecordId;
use super::timeline::Item;
use super::{Mvcc, NEVER_COMPACTED, record_bytes};
use crate::error::Refusal;
use crate::limits::{HOT_SHARE_MIN, PACKED_RECORD_BYTES};
use crate::planted::{Bug, planted};
use crate::types::{Place, RecordMeta, Revision};

/// How far the purge has come.
#[derive(Debug)]
pub(super) struct Purge {
    /// Where the walk under way ends; what a finished one reached.
    target: i64,
    /// The first revision that the walk has not visited.
    next: Revision,
    /// True while a walk is under way.
    walking: bool,
    /// Bytes of records that are compacted and not purged.
    pending_bytes: u64,
}

impl Purge {
    pub(super) fn new() -> Self {
        Purge {
            target: NEVER_COMPACTED,
            next: Revision::default(),
            walking: false,
            pending_bytes: 0,
        }
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Nothing below this revision can be read any more.
    pub(super) fn reached(&self) -> i64 {
        self.target
    }
}

impl Mvcc {
    /// Compacts logically: from now on only `revision` and later ones may be read.
    pub fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.current {
            return Err(Refusal::FutureRevision);
        }
        let tombstones_at = |main| self.tombstone_bytes_at(main);
        let before = self.purge.pending_bytes + tombstones_at(self.compacted);
        let between =
            self.timeline
                .garbage_bytes(self.compacted, revision, &self.records, |item| {
                    self.garbage_bytes(&self.found(item))
                });
        // Tombstones at exactly the compacted revision are not garbage yet.
        let pending = (before + between).checked_sub(tombstones_at(revision));
        self.purge.pending_bytes = pending.expect("the tombstones at the end are in the sum");
        self.previous_compacted = self.compacted;
        self.compacted = revision;
        Ok(())
    }

    /// Everything that was compacted up to here is purged. While a walk is under
    /// way it is not told what the one before reached.
    #[must_use]
    pub fn purged_revision(&self) -> i64 {
        if self.purge.walking {
            NEVER_COMPACTED
        } else {
            self.purge.target
        }
    }

    /// Purges what is compacted, visiting at most `budget` records. `floor` is
    /// the oldest pinned revision (`i64::MAX` without one): what a reader at it
    /// or above sees stays. Appends what was dropped, in an order whose every
    /// prefix leaves no older version without its successor. True when there is
    /// more to do now.
    pub fn compact_slice(
        &mut self,
        floor: i64,
        budget: usize,
        dropped: &mut Vec<(Revision, Place)>,
    ) -> bool {
        if !self.purge.walking {
            let target = self.compacted.min(floor);
            if target <= self.purge.target {
                return false;
            }
            // The tombstones at the end of the walk before are garbage now.
            self.purge.next = Revision::new(self.purge.target, 0);
            self.purge.target = target;
            self.purge.walking = true;
        }
        let target = self.purge.target;
        assert!(
            floor >= target,
            "a revision that is being purged cannot be pinned any more"
        );
        let batch = self.batch(self.purge.next, target, budget);
        for &visited in &batch {
            self.purge.next = after(visited.revision(&self.records));
            self.purge_at(visited, dropped);
        }
        if batch.len() < budget {
            self.purge.walking = false;
            if target == self.compacted {
                assert_eq!(
                    self.purge.pending_bytes, 0,
                    "a finished purge leaves nothing over"
                );
            }
        }
        self.purge.walking || self.compacted.min(floor) > target
    }

    /// Lets superseded values leave memory until those left fit the budget,
    /// looking at no more than `budget` records. True when there is more to do.
    pub fn evict_slice(&mut self, budget: usize) -> bool {
        let hot_bytes_max = self.hot_bytes_max();
        if self.superseded_bytes <= hot_bytes_max {
            return false;
        }
        let batch = self.batch(self.evicted_before, i64::MAX, budget);
        for &visited in &batch {
            if self.superseded_bytes <= hot_bytes_max {
                return false;
            }
            let Item::Slab(visited) = visited else {
                panic!("what is packed was evicted before");
            };
            let record = self.records.get(visited);
            self.evicted_before = after(record.revision());
            let previous = record.previous;
            if previous.exists() {
                assert!(previous.is_slot(), "what is packed was evicted before");
                self.packing.waiting += 1;
                let older = self.records.get_mut(previous);
                self.superseded_bytes -= older.resident_bytes();
                older.resident = None;
            }
        }
        assert!(
            batch.len() == budget || self.superseded_bytes == 0,
            "what is superseded has a successor in the timeline"
        );
        self.superseded_bytes > hot_bytes_max
    }

    /// Superseded bytes that may stay in memory beside those that are packed.
    fn hot_bytes_max(&self) -> u64 {
        let packed = u64::try_from(self.packing.packed).expect("a count fits 64 bits");
        let left = self
            .hot_bytes_max
            .saturating_sub(packed * PACKED_RECORD_BYTES);
        left.max(self.hot_bytes_max / HOT_SHARE_MIN)
    }

    /// Makes a fetched value resident, if the record of that revision is still
    /// the newest of its key and lacks it. The bytes are those of its place
    /// (length and CRC are asserted). True when it was installed.
    pub fn install_value(&mut self, revision: Revision, value: &[u8]) -> bool {
        let Some(found) = self.timeline.find(revision, &self.records) else {
            return false;
        };
        let record = self.records.get(found);
        if record.next.exists() || record.tombstone || record.resident.is_some() {
            return false;
        }
        assert_eq!(
            record.value_length(),
            value.len(),
            "a value has the length of its place"
        );
        if !value.is_empty() {
            assert_eq!(
                record.place.crc,
                crc32fast::hash(value),
                "a value has its place's CRC"
            );
        }
        let encoded = super::write::encode(record, value, &mut self.scratch);
        self.records.get_mut(found).resident = Some(encoded);
        true
    }

    /// Newest values that are not in memory, by revision after `after`, out of
    /// the next `scan_limit` records; and where to go on (None: that was all).
    #[must_use]
    pub fn missing_values_slice(
        &self,
        after_revision: Revision,
        scan_limit: usize,
    ) -> (Vec<RecordMeta>, Option<Revision>) {
        let (mut metas, mut seen, mut last) = (Vec::new(), 0, None);
        for found in self.walk(after(after_revision)).take(scan_limit) {
            seen += 1;
            last = Some(found.revision());
            let newest = self.superseded_at(&found).is_none();
            if newest && found.place.length > 0 && found.resident.is_none() {
                metas.push(found.meta());
            }
        }
        (metas, last.filter(|_| seen == scan_limit))
    }

    fn purge_at(&mut self, visited: Item, dropped: &mut Vec<(Revision, Place)>) {
        let record = self.found(visited);
        let older = self.previous_item(&record);
        let at_target = planted(Bug::DropTombstone) && record.main() == self.purge.target;
        let ends = record.tombstone && (record.main() < self.purge.target || at_target);
        if let Some(older) = older
            && !self.found(older).tombstone
        {
            self.drop_record(older, dropped);
        }
        if ends {
            self.drop_record(visited, dropped);
        }
    }

    fn drop_record(&mut self, doomed: Item, dropped: &mut Vec<(Revision, Place)>) {
        let revision = doomed.revision(&self.records);
        assert!(
            revision.main <= self.compacted,
            "only what is compacted is purged"
        );
        let (place, bytes) = match doomed {
            Item::Slab(id) => self.drop_from_slab(revision, id),
            Item::Packed(_) => self.drop_packed(revision),
        };
        self.usage.subtract(place);
        self.total_bytes -= bytes;
        let pending = self.purge.pending_bytes.checked_sub(bytes);
        self.purge.pending_bytes = pending.expect("what is purged was counted at the compaction");
        dropped.push((revision, place));
    }

    fn drop_from_slab(&mut self, revision: Revision, doomed: RecordId) -> (Place, u64) {
        let record = self.records.remove(doomed);
        self.timeline.remove(revision, doomed);
        if let Some(chain) = record.previous.chain() {
            self.chains.get_mut(chain).above = record.next;
            assert!(record.next.exists(), "a packed record is purged before");
        }
        if record.next.exists() {
            self.superseded_bytes -= record.resident_bytes();
        } else {
            assert!(record.tombstone, "the newest put of a key is never purged");
            assert!(
                !record.previous.exists(),
                "what a tombstone ended is purged before it"
            );
            self.keys.remove(&record.key);
        }
        (record.place, record_bytes(&record))
    }

    /// The next records from `start` on, up to main revision `upto`.
    fn batch(&self, start: Revision, upto: i64, limit: usize) -> Vec<Item> {
        let items = self.timeline.from(start, &self.records);
        items
            .take_while(|item| item.revision(&self.records).main <= upto)
            .take(limit)
            .collect()
    }

    fn tombstone_bytes_at(&self, main: i64) -> u64 {
        let records = self.walk(Revision::new(main, 0));
        let records = records.take_while(|record| record.main() == main);
        let tombstones = records.filter(|record| record.tombstone);
        tombstones.map(|record| record_bytes(&record)).sum()
    }
}

/// The smallest revision above this one.
pub(super) fn after(revision: Revision) -> Revision {
    match revision.sub.checked_add(1) {
        Some(sub) => Revision::new(revision.main, sub),
        None => Revision::new(revision.main + 1, 0),
    }
}
