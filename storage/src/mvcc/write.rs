//! One changing request: all its changes share the next main revision and take
//! subs from 0 in the order they are made (contract 1.4).
//!
//! The changes are in place at once, so reads inside the request see them; the
//! store's current revision moves only in [`Write::finish`]. A `Write` that is
//! dropped without it takes everything back.

use std::sync::Arc;

use super::Mvcc;
use super::as_of::AsOf;
use super::bounds::Bounds;
use super::found::Found;
use super::key_value::shared_key;
use super::records::{Record, RecordId};
use crate::planted::{Bug, planted};
use crate::types::{
    EncodedKeyValue, Event, Key, KeyValueRef, LeaseId, Place, RecordMeta, Revision, RevisionEvents,
};

/// The value of a put.
#[derive(Clone, Copy, Debug)]
pub enum NewValue<'a> {
    /// These bytes, which lie at this place of the log.
    Bytes(&'a [u8], Place),
    /// The stored value of the live key, whose place is shared (`ignore_value`).
    /// It need not be resident.
    Keep,
}

/// A live version that a put replaced or a deletion removed.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// The key, shared with the index.
    pub key: Key,
    /// The lease that was attached to it.
    pub lease: LeaseId,
    /// The version, as `prev_kv` answers it.
    pub key_value: KeyValueRef,
}

/// A request under way. See the head of the file.
#[derive(Debug)]
pub struct Write<'a> {
    store: &'a mut Mvcc,
    /// The revision that the changes take.
    main: i64,
    changes: Vec<RecordId>,
    /// The newest revision before the request.
    last: Option<Revision>,
}

impl Mvcc {
    /// Starts a request that may change keys.
    pub fn write(&mut self) -> Write<'_> {
        let main = self
            .current
            .checked_add(1)
            .expect("revisions do not reach 2^63");
        let last = self.timeline.last();
        Write {
            store: self,
            main,
            changes: Vec::new(),
            last,
        }
    }
}

impl Write<'_> {
    /// The revision that a response inside the request shows: the new one once
    /// something changed, else the current one (contract 1.3).
    #[must_use]
    pub fn revision(&self) -> i64 {
        if self.changed() {
            self.main
        } else {
            self.store.current
        }
    }

    /// The revision before the request: reads at it see the state before it,
    /// whatever was written since.
    #[must_use]
    pub fn base_revision(&self) -> i64 {
        self.store.current
    }

    /// What a read sees that stands here in the request: the changes until now.
    #[must_use]
    pub fn as_of(&self) -> AsOf {
        AsOf::within(self.main, self.next_sub())
    }

    /// True once something changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The store, for reads at `revision()` (own writes seen) or older ones.
    #[must_use]
    pub fn store(&self) -> &Mvcc {
        self.store
    }

    /// The key's live version, own writes seen.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<KeyValueRef> {
        self.store.get(key, self.revision())
    }

    /// As [`Mvcc::range_slice`], own writes seen.
    #[must_use]
    pub fn range_slice(
        &self,
        bounds: &Bounds,
        limit: usize,
        scan_limit: usize,
        out: &mut Vec<KeyValueRef>,
    ) -> Option<Key> {
        self.store
            .range_slice(bounds, self.revision(), limit, scan_limit, out)
    }

    /// Live keys of the interval, own writes seen.
    #[must_use]
    pub fn count_now(&self, bounds: &Bounds) -> u64 {
        self.store.count_now(bounds)
    }

    /// Sets a key and answers the live version that this replaced. The key is
    /// not empty; with [`NewValue::Keep`] it is live (the caller has answered
    /// "key not found" otherwise; asserted).
    pub fn put(&mut self, key: &[u8], value: NewValue<'_>, lease: LeaseId) -> Option<Replaced> {
        assert!(!key.is_empty(), "a key is never empty");
        let previous = self.store.keys.find(key).unwrap_or(RecordId::NONE);
        let older = previous.exists().then(|| self.store.records.get(previous));
        let live = older.filter(|older| !older.tombstone);
        let replaced = live.map(replaced);
        let place = match value {
            NewValue::Bytes(bytes, place) => {
                assert_eq!(
                    place_length(place),
                    bytes.len(),
                    "a place has the value's length"
                );
                place
            }
            NewValue::Keep => live.expect("a value that is kept exists").place,
        };
        let mut record = Record::new(RecordMeta {
            key: older.map_or_else(|| shared_key(key), |older| Arc::clone(&older.key)),
            revision: self.next_revision(),
            create_revision: live.map_or(self.main, |live| live.create_revision),
            version: live.map_or(1, |live| live.version + 1),
            lease,
            tombstone: false,
            place,
        });
        record.previous = previous;
        let kept = match (&replaced, value) {
            (
                Some(Replaced {
                    key_value: KeyValueRef::Resident(kept),
                    ..
                }),
                NewValue::Keep,
            ) => Some(kept.value()),
            _ => None,
        };
        let bytes = match value {
            NewValue::Bytes(bytes, _) => Some(bytes),
            NewValue::Keep => kept,
        };
        record.resident = bytes.map(|bytes| encode(&record, bytes, &mut self.store.scratch));
        self.changes.push(self.store.append(record));
        replaced
    }

    /// Deletes the live keys of an interval, a sub per key in key order, and
    /// answers them.
    pub fn delete_range(&mut self, bounds: &Bounds) -> Vec<Replaced> {
        let mut doomed = Vec::new();
        if let Some(key) = bounds.as_single() {
            doomed.extend(self.store.keys.find(key));
        } else {
            let inside = self.store.keys.within(bounds);
            doomed.extend(inside.filter(|entry| entry.live).map(|entry| entry.newest));
        }
        doomed.retain(|&newest| !self.store.records.get(newest).tombstone);
        let mut deleted = Vec::with_capacity(doomed.len());
        for newest in doomed {
            let older = self.store.records.get(newest);
            deleted.push(replaced(older));
            let mut tombstone = Record::new(RecordMeta {
                key: Arc::clone(&older.key),
                revision: self.next_revision(),
                create_revision: 0,
                version: 0,
                lease: LeaseId::NONE,
                tombstone: true,
                place: Place::default(),
            });
            tombstone.previous = newest;
            self.changes.push(self.store.append(tombstone));
        }
        deleted
    }

    /// Ends the request. The current revision moves iff something changed; then
    /// the changes are answered as watchers see them.
    #[must_use]
    pub fn finish(mut self) -> Option<RevisionEvents> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return None;
        }
        let (store, main) = (&mut *self.store, self.main);
        for &change in &changes {
            store.hash.extend_chain(store.records.get(change));
        }
        store.current = main;
        let events = changes
            .iter()
            .map(|&change| store.event(&store.slab(change)))
            .collect();
        Some(RevisionEvents {
            revision: main,
            events,
        })
    }

    fn next_sub(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("a request has below 2^32 changes")
    }

    fn next_revision(&self) -> Revision {
        let sub = self.next_sub();
        let split = i64::from(planted(Bug::SplitTransaction) && sub > 0);
        Revision::new(self.main + split, sub)
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        while let Some(change) = self.changes.pop() {
            let last = match self.changes.last() {
                Some(&before) => Some(self.store.records.get(before).revision()),
                None => self.last,
            };
            self.store.retract(change, last);
        }
    }
}

impl Mvcc {
    /// A change as watchers see it. The predecessor is what was live at the
    /// revision before (contract 1.9): absent for a create and when that
    /// revision is compacted.
    pub(super) fn event(&self, record: &Found<'_>) -> Event {
        let main = record.main();
        let key_value = if record.tombstone {
            KeyValueRef::Resident(EncodedKeyValue::of_deletion(&record.key, main))
        } else {
            record.key_value()
        };
        let created = record.create_revision == main;
        let mut older = None;
        if !created && main > self.compacted {
            older = self.previous_of(record);
            while older.as_ref().is_some_and(|older| older.main() == main) {
                older = older.and_then(|older| self.previous_of(&older));
            }
        }
        if planted(Bug::PredecessorTooOld) {
            older = older.and_then(|older| self.previous_of(&older));
        }
        let older = older.filter(|older| !older.tombstone);
        Event {
            meta: Arc::new(record.meta()),
            key_value,
            previous: older.map(|older| older.key_value()),
        }
    }
}

/// Encodes a record's KeyValue into its one allocation.
pub(super) fn encode(record: &Record, value: &[u8], scratch: &mut Vec<u8>) -> EncodedKeyValue {
    scratch.clear();
    record.fields(value).encode_into(scratch);
    EncodedKeyValue(Arc::from(scratch.as_slice()))
}

fn replaced(record: &Record) -> Replaced {
    Replaced {
        key: Arc::clone(&record.key),
        lease: record.lease,
        key_value: record.key_value(),
    }
}

fn place_length(place: Place) -> usize {
    usize::try_from(place.length).expect("a length of 32 bits fits")
}
