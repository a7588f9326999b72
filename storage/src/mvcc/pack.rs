//! Packing: superseded records whose values are evicted leave their slots in the
//! slab for blocks of the timeline (112 bytes and more become about 20).
//!
//! It goes in passes over the timeline, oldest records first. A pass takes what
//! was superseded and evicted when it began. So of each key the packed records
//! are always its oldest ones: an older record was superseded earlier, and its
//! chunk was passed before. A pass begins when enough records wait, so that its
//! cost is shared by many; the last chunk, which is written to, stays as it is.
//!
//! Invariants: packing changes no answer, size, hash or segment usage; a packed
//! record is superseded, not resident, and stays packed until it is purged.

use super::block::Entry;
use super::records::RecordId;
use super::{Mvcc, MvccOptions, record_bytes};
use crate::types::{Key, Place, Revision};

/// How far packing has come.
#[derive(Debug)]
pub(super) struct Packing {
    /// The pass under way.
    pass: Option<Pass>,
    /// Records evicted since the last pass began (some may be purged again).
    pub(super) waiting: usize,
    waiting_min: usize,
    waiting_share: usize,
    /// Packed records.
    pub(super) packed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pass {
    /// Where the next chunk starts.
    next: Revision,
    /// Predecessors of records before this revision are packed.
    before: Revision,
}

impl Packing {
    pub(super) fn new(options: MvccOptions) -> Self {
        assert!(options.pack_waiting_share > 0, "a part of the records");
        Packing {
            pass: None,
            waiting: 0,
            waiting_min: options.pack_waiting_min,
            waiting_share: options.pack_waiting_share,
            packed: 0,
        }
    }
}

impl Mvcc {
    /// Packs evicted records, looking at no more than `budget` of them and those
    /// of one chunk. True when there is more to do.
    pub fn pack_slice(&mut self, budget: usize) -> bool {
        let share = self.records.count() / self.packing.waiting_share;
        let enough = self.packing.waiting_min + share;
        let Some(mut pass) = self.packing.pass.take().or_else(|| {
            (self.packing.waiting >= enough).then(|| {
                self.packing.waiting = 0;
                Pass {
                    next: Revision::default(),
                    before: self.evicted_before,
                }
            })
        }) else {
            return false;
        };
        let mut seen = 0;
        while seen < budget {
            let Some((ids, behind)) = self.timeline.chunk_to_pack(pass.next) else {
                return false;
            };
            if pass.next >= pass.before {
                return false;
            }
            seen += 1 + ids.len();
            self.pack_chunk(pass);
            assert!(pass.next < behind, "a pass goes forward");
            pass.next = behind;
        }
        self.packing.pass = Some(pass);
        true
    }

    fn pack_chunk(&mut self, pass: Pass) {
        let chunk = self.timeline.chunk_to_pack(pass.next);
        let (ids, _) = chunk.expect("the caller has seen it");
        let (packable, left): (Vec<_>, Vec<_>) = ids
            .iter()
            .partition(|&&id| self.is_packable(id, pass.before));
        if packable.is_empty() {
            return;
        }
        let entries: Vec<Entry> = packable
            .into_iter()
            .map(|id| self.pack_record(id))
            .collect();
        self.packing.packed += entries.len();
        self.timeline.pack(pass.next, left, &entries);
    }

    fn is_packable(&self, id: RecordId, before: Revision) -> bool {
        let next = self.records.get(id).next;
        next.exists() && self.records.get(next).revision() < before
    }

    /// Takes a record out of the slab, to the newer end of its key's chain.
    fn pack_record(&mut self, id: RecordId) -> Entry {
        let record = self.records.remove(id);
        assert!(record.resident.is_none(), "only evicted records are packed");
        assert!(
            !record.previous.is_slot(),
            "a key's older records are packed before"
        );
        let (chain, previous) = match record.previous.chain() {
            Some(chain) => (chain, Some(self.chains.get(chain).head)),
            None => {
                let key = Key::clone(&record.key);
                (self.chains.begin(key, record.create_revision), None)
            }
        };
        let next = self.records.get_mut(record.next);
        next.previous = RecordId::of_chain(chain);
        let superseded = next.main();
        self.chains.push(chain, record.revision(), record.next);
        let same = record.tombstone || record.create_revision == self.chains.get(chain).base;
        let age = record.main() - record.create_revision + 1;
        let age = u64::try_from(age).expect("a generation begins before its changes");
        Entry {
            revision: record.revision(),
            tombstone: record.tombstone,
            chain,
            age: if same { 0 } else { age },
            version: record.version,
            lease: record.lease,
            place: record.place,
            previous,
            superseded,
        }
    }

    /// Purges a packed record; answers its place and what it counted, bytes.
    pub(super) fn drop_packed(&mut self, revision: Revision) -> (Place, u64) {
        let entry = self.timeline.remove_packed(revision);
        let record = self.record_of(&entry);
        self.packing.packed -= 1;
        let ended = self.chains.take(entry.chain, revision, entry.previous);
        if let Some(above) = ended {
            let above = self.records.get_mut(above);
            assert_eq!(
                above.previous.chain(),
                Some(entry.chain),
                "a chain and the record above it name each other"
            );
            above.previous = RecordId::NONE;
        }
        (entry.place, record_bytes(&record))
    }
}
