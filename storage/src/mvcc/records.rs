//! The slab of records: every put and every tombstone that is not purged yet,
//! in chunks that never move, with the links between the records of one key.
//!
//! Limit: 2^31 - 1 records at a time. Invariant: `previous` and `next` of
//! neighbours point at each other, and revisions rise along `next`.
//!
//! A record takes a whole slot (112 bytes) until it is packed (`pack`). The
//! oldest record of a key in the slab then names the chain of its packed ones in
//! place of a previous record. What follows links across that border is in `found`.

#![expect(
    clippy::indexing_slicing,
    reason = "slots are addressed by arithmetic on record ids"
)]

use std::sync::Arc;

use super::key_value::Fields;
use crate::limits::{HOT_RECORD_BYTES, HOT_ROUNDING_SHARE};
use crate::types::{EncodedKeyValue, Key, KeyValueRef, LeaseId, Place, RecordMeta, Revision};

/// Records per chunk: a chunk is 448 KiB, so that growing the slab never moves
/// what it holds and an empty store stays small.
const CHUNK_RECORDS: usize = 4096;

/// Where the numbers of chains begin among those of slots.
const CHAINS_FROM: u32 = 1 << 31;

/// The slot of a record, or in place of one the chain of packed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordId(u32);

impl RecordId {
    /// "No record."
    pub(super) const NONE: RecordId = RecordId(u32::MAX);

    pub(super) fn exists(self) -> bool {
        self != Self::NONE
    }

    /// The link to a chain of packed records.
    pub(super) fn of_chain(number: u32) -> Self {
        assert!(number < CHAINS_FROM - 1, "at most 2^31 - 1 chains");
        RecordId(CHAINS_FROM + number)
    }

    /// The chain that this links to, if it is one.
    pub(super) fn chain(self) -> Option<u32> {
        let number = self.0.checked_sub(CHAINS_FROM);
        number.filter(|_| self.exists())
    }

    /// True when this is a record in the slab.
    pub(super) fn is_slot(self) -> bool {
        self.0 < CHAINS_FROM
    }

    fn slot(self) -> (usize, usize) {
        debug_assert!(self.is_slot(), "neither NONE nor a chain has a slot");
        let number = usize::try_from(self.0).expect("32 bits fit");
        (number / CHUNK_RECORDS, number % CHUNK_RECORDS)
    }
}

#[cfg(test)]
impl From<u32> for RecordId {
    fn from(number: u32) -> Self {
        RecordId(number)
    }
}

/// One change of one key.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) key: Key,
    main: i64,
    sub: u32,
    pub(super) tombstone: bool,
    pub(super) create_revision: i64,
    pub(super) version: i64,
    pub(super) lease: LeaseId,
    pub(super) place: Place,
    /// The encoded KeyValue while it is in memory. Never set for a tombstone,
    /// which is encoded from its key when asked for.
    pub(super) resident: Option<EncodedKeyValue>,
    /// The older record of the same key, or the chain of its packed ones.
    pub(super) previous: RecordId,
    /// The newer record of the same key. It is never packed before this one.
    pub(super) next: RecordId,
}

impl Record {
    /// A record without links and not resident.
    pub(super) fn new(meta: RecordMeta) -> Self {
        Record {
            key: meta.key,
            main: meta.revision.main,
            sub: meta.revision.sub,
            tombstone: meta.tombstone,
            create_revision: meta.create_revision,
            version: meta.version,
            lease: meta.lease,
            place: meta.place,
            resident: None,
            previous: RecordId::NONE,
            next: RecordId::NONE,
        }
    }

    pub(super) fn main(&self) -> i64 {
        self.main
    }

    pub(super) fn revision(&self) -> Revision {
        Revision::new(self.main, self.sub)
    }

    pub(super) fn meta(&self) -> RecordMeta {
        RecordMeta {
            key: Arc::clone(&self.key),
            revision: self.revision(),
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            tombstone: self.tombstone,
            place: self.place,
        }
    }

    /// The stored key-value, resident or as what is needed to fetch it. What
    /// has no value (tombstones, empty values) never needs a fetch.
    pub(super) fn key_value(&self) -> KeyValueRef {
        match &self.resident {
            Some(encoded) => KeyValueRef::Resident(encoded.clone()),
            None if self.place.length == 0 => KeyValueRef::Resident(self.meta().encode(&[])),
            None => KeyValueRef::Stored(Arc::new(self.meta())),
        }
    }

    /// The fields that are stored for this record.
    pub(super) fn fields<'a>(&'a self, value: &'a [u8]) -> Fields<'a> {
        if self.tombstone {
            assert!(value.is_empty(), "a tombstone has no value");
            return Fields {
                key: &self.key,
                ..Fields::default()
            };
        }
        Fields {
            key: &self.key,
            create_revision: self.create_revision,
            mod_revision: self.main,
            version: self.version,
            value,
            lease: self.lease.0,
        }
    }

    /// Length of the stored encoding, bytes, resident or not.
    pub(super) fn encoded_len(&self) -> usize {
        match &self.resident {
            Some(encoded) => encoded.0.len(),
            None => self.fields(&[]).encoded_len_with(self.value_length()),
        }
    }

    /// Length of the value, bytes.
    pub(super) fn value_length(&self) -> usize {
        usize::try_from(self.place.length).expect("a length of 32 bits fits")
    }

    /// What the record costs while its encoding is in memory; 0 when it is not.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident.as_ref().map_or(0, |encoded| {
            let length = u64::try_from(encoded.0.len()).expect("a length fits 64 bits");
            length + length / HOT_ROUNDING_SHARE + HOT_RECORD_BYTES
        })
    }
}

/// The slab.
#[derive(Debug)]
pub(super) struct Records {
    chunks: Vec<Vec<Record>>,
    /// First of the free slots, linked through `next`.
    free: RecordId,
    /// Records in use.
    count: usize,
    /// What a free slot holds in place of a key.
    no_key: Key,
}

impl Records {
    pub(super) fn new() -> Self {
        Records {
            chunks: Vec::new(),
            free: RecordId::NONE,
            count: 0,
            no_key: Key::from([]),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, id: RecordId) -> &Record {
        let (chunk, slot) = id.slot();
        &self.chunks[chunk][slot]
    }

    pub(super) fn get_mut(&mut self, id: RecordId) -> &mut Record {
        let (chunk, slot) = id.slot();
        &mut self.chunks[chunk][slot]
    }

    /// Stores a record and links it behind `record.previous`.
    pub(super) fn insert(&mut self, record: Record) -> RecordId {
        assert!(
            !record.next.exists(),
            "a new record is the newest of its key"
        );
        let previous = record.previous;
        let id = if self.free.exists() {
            let id = self.free;
            self.free = self.get(id).next;
            *self.get_mut(id) = record;
            id
        } else {
            self.push(record)
        };
        self.count += 1;
        if previous.is_slot() {
            let revision = self.get(id).revision();
            let older = self.get_mut(previous);
            assert!(
                !older.next.exists(),
                "the previous record was the newest of its key"
            );
            assert!(older.revision() < revision, "revisions only rise");
            older.next = id;
        }
        id
    }

    /// Unlinks a record from its neighbours in the slab, frees the slot and
    /// hands it back. What it says of a chain is the caller's to carry over.
    pub(super) fn remove(&mut self, id: RecordId) -> Record {
        let vacant = Record {
            key: Arc::clone(&self.no_key),
            main: 0,
            sub: 0,
            tombstone: false,
            create_revision: 0,
            version: 0,
            lease: LeaseId::NONE,
            place: Place::default(),
            resident: None,
            previous: RecordId::NONE,
            next: self.free,
        };
        let record = std::mem::replace(self.get_mut(id), vacant);
        if record.previous.is_slot() {
            let older = self.get_mut(record.previous);
            assert_eq!(older.next, id, "links between records are mutual");
            older.next = record.next;
        }
        if record.next.exists() {
            let newer = self.get_mut(record.next);
            assert_eq!(newer.previous, id, "links between records are mutual");
            newer.previous = record.previous;
        }
        self.free = id;
        self.count -= 1;
        record
    }

    fn push(&mut self, record: Record) -> RecordId {
        let (chunk, slot) = (self.count / CHUNK_RECORDS, self.count % CHUNK_RECORDS);
        if slot == 0 {
            assert_eq!(chunk, self.chunks.len(), "all chunks are full");
            self.chunks.push(Vec::with_capacity(CHUNK_RECORDS));
        }
        let number = u32::try_from(self.count).expect("at most 2^31 - 1 records");
        assert!(number < CHAINS_FROM, "at most 2^31 - 1 records");
        self.chunks[chunk].push(record);
        RecordId(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(main: i64, previous: RecordId) -> Record {
        let mut record = Record::new(RecordMeta {
            key: Key::from(b"k".as_ref()),
            revision: Revision::new(main, 0),
            create_revision: 2,
            version: main - 1,
            lease: LeaseId::NONE,
            tombstone: false,
            place: Place::default(),
        });
        record.previous = previous;
        record
    }

    #[test]
    fn a_slot_is_96_bytes() {
        assert_eq!(std::mem::size_of::<Record>(), 96);
    }

    #[test]
    fn links_survive_removal_from_the_middle_and_slots_are_used_again() {
        let mut records = Records::new();
        let first = records.insert(record(2, RecordId::NONE));
        let second = records.insert(record(3, first));
        let third = records.insert(record(4, second));
        assert_eq!(records.remove(second).revision(), Revision::new(3, 0));
        assert_eq!(
            (records.get(first).next, records.get(third).previous),
            (third, first)
        );
        assert_eq!(records.insert(record(5, third)), second);
        assert_eq!(records.count(), 3);
        assert_eq!(records.get(third).next, second);
    }

    #[test]
    fn grows_over_many_chunks() {
        let mut records = Records::new();
        let mut last = RecordId::NONE;
        for main in 0..10_000 {
            last = records.insert(record(main + 2, last));
        }
        assert_eq!(records.chunks.len(), 3);
        let mut seen = 0;
        while last.exists() {
            seen += 1;
            last = records.get(last).previous;
        }
        assert_eq!(seen, 10_000);
    }

    #[test]
    #[should_panic(expected = "revisions only rise")]
    fn a_revision_that_falls_is_refused() {
        let mut records = Records::new();
        let first = records.insert(record(3, RecordId::NONE));
        records.insert(record(3, first));
    }
}
