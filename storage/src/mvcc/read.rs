//! Reads: point lookups, ranges in slices, counts.
//!
//! Every read names the main revision it is made at, or how much of it it sees, which
//! must not be purged: at or above the compacted revision, or held by a pin (asserted). Limit:
//! [`AHEAD_KEYS`].

use std::hint::black_box;
use std::sync::Arc;

use super::Mvcc;
use super::as_of::AsOf;
use super::bounds::Bounds;
use super::found::Found;
use super::key_value::Fields;
use super::records::{Record, RecordId};
use crate::types::{Key, KeyValueRef};

/// Keys whose records are brought into the processor's cache together.
const AHEAD_KEYS: usize = 32;

/// What is touched before it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Records,
    Values,
}

/// A key-value that is measured, without its value.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(&'a Record);

impl<'a> Visible<'a> {
    /// All fields but the value.
    #[must_use]
    pub fn fields(self) -> Fields<'a> {
        self.0.fields(&[])
    }

    /// Length of the whole encoding, bytes.
    #[must_use]
    pub fn encoded_len(self) -> usize {
        self.0.encoded_len()
    }
}

/// The sums of a slice.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Key-values within the limit.
    pub key_values: usize,
    /// Their lengths.
    pub bytes: u64,
    /// The key of the last of them.
    pub last: Option<Key>,
    /// One more is live behind the limit.
    pub more: bool,
    /// The key to go on from, as `range_slice` answers it.
    pub next: Option<Key>,
}

impl Mvcc {
    /// The key's live version at main revision `at`.
    #[must_use]
    pub fn get(&self, key: &[u8], at: i64) -> Option<KeyValueRef> {
        let at = AsOf::from(at);
        self.assert_readable(at);
        let visible = self.visible(self.keys.find(key)?, at)?;
        Some(visible.key_value())
    }

    /// Appends at most `limit` key-values that are live at `at`, in key order,
    /// and looks at no more than `scan_limit` keys. Answers the key to go on
    /// from (`Bounds::resume_at`) when keys of the interval are left; they may
    /// turn out not to be live at `at`.
    #[must_use]
    pub fn range_slice(
        &self,
        bounds: &Bounds,
        at: impl Into<AsOf>,
        limit: usize,
        mut scan_limit: usize,
        out: &mut Vec<KeyValueRef>,
    ) -> Option<Key> {
        self.range_within(bounds, at.into(), limit, &mut scan_limit, out)
    }

    /// As `range_slice`; takes the keys that it looks at, in whole batches of them, off
    /// `scan_left`.
    #[must_use]
    pub fn range_within(
        &self,
        bounds: &Bounds,
        at: AsOf,
        limit: usize,
        scan_left: &mut usize,
        out: &mut Vec<KeyValueRef>,
    ) -> Option<Key> {
        let mut found = 0;
        self.scan(bounds, at, scan_left, Ahead::Values, |_, record| {
            if found == limit {
                return false;
            }
            out.push(record.key_value());
            found += 1;
            true
        })
    }

    /// Sums what `range_slice` would append, by the length that the caller gives to
    /// each. No value is touched.
    #[must_use]
    pub fn measure_slice(
        &self,
        bounds: &Bounds,
        at: impl Into<AsOf>,
        limit: usize,
        mut scan_limit: usize,
        length: impl Fn(Visible<'_>) -> u64,
    ) -> Measured {
        let mut measured = Measured::default();
        let mut last = None;
        let (at, left) = (at.into(), &mut scan_limit);
        measured.next = self.scan(bounds, at, left, Ahead::Records, |key, record| {
            if measured.key_values == limit {
                measured.more = true;
                return false;
            }
            measured.key_values += 1;
            measured.bytes += length(Visible(record));
            last = Some(key);
            true
        });
        measured.last = last.map(Key::clone);
        measured
    }

    /// Keys of the interval that are live now, in O(log n).
    #[must_use]
    pub fn count_now(&self, bounds: &Bounds) -> u64 {
        self.keys.count_live(bounds)
    }

    /// Keys of the interval that are live at `at`, of the first `scan_limit`
    /// keys, and where to go on. At the current revision the whole answer is
    /// given at once.
    #[must_use]
    pub fn count_slice(
        &self,
        bounds: &Bounds,
        at: impl Into<AsOf>,
        mut scan_limit: usize,
    ) -> (u64, Option<Key>) {
        let at = at.into();
        if self.is_present(at) {
            self.assert_readable(at);
            return (self.count_now(bounds), None);
        }
        let mut count = 0;
        let rest = self.scan(bounds, at, &mut scan_limit, Ahead::Records, |_, _| {
            count += 1;
            true
        });
        (count, rest)
    }

    /// True when nothing was written that `at` does not see, of a request under way neither.
    #[must_use]
    pub fn is_present(&self, at: AsOf) -> bool {
        self.timeline.last().is_none_or(|last| at.sees(last))
    }

    /// Visits the versions live at `at` in key order until `visit` refuses one
    /// or no key may be looked at any more; answers the key to go on from.
    fn scan<'a>(
        &'a self,
        bounds: &Bounds,
        at: AsOf,
        left: &mut usize,
        ahead: Ahead,
        mut visit: impl FnMut(&'a Key, &Record) -> bool,
    ) -> Option<Key> {
        self.assert_readable(at);
        if let Some(key) = bounds.as_single() {
            let newest = self.keys.find(key)?;
            let record = self.visible(newest, at)?;
            let key = &self.records.get(newest).key;
            return (*left == 0 || !visit(key, &record)).then(|| Key::clone(key));
        }
        let mut entries = self.keys.within(bounds);
        let mut batch = Vec::with_capacity(AHEAD_KEYS.min(*left));
        loop {
            batch.clear();
            for entry in entries.by_ref().take(AHEAD_KEYS.min(*left)) {
                let key: &'a Key = &self.records.get(entry.newest).key;
                batch.push((key, entry.newest));
            }
            if batch.is_empty() {
                return entries.next().map(|entry| Key::clone(entry.key));
            }
            *left -= batch.len();
            self.look_ahead(&batch, ahead);
            for (key, newest) in &batch {
                if let Some(record) = self.visible(*newest, at)
                    && !visit(key, &record)
                {
                    return Some(Key::clone(key));
                }
            }
        }
    }

    /// Touches what the next records need. Each is a cache miss, and one at a time they
    /// would take most of a list's time: a reference that is counted waits for all
    /// loads before it.
    fn look_ahead(&self, batch: &[(&Key, RecordId)], ahead: Ahead) {
        let records = || batch.iter().map(|(_, newest)| self.records.get(*newest));
        black_box(records().fold(0, |sum, record| sum ^ record.main()));
        if ahead == Ahead::Values {
            let values = records().filter_map(|record| record.resident.as_ref());
            black_box(values.fold(0, |sum, value| sum ^ Arc::strong_count(&value.0)));
        }
    }

    /// The record that is the key's live version at `at`, from its newest one.
    fn visible(&self, newest: RecordId, at: AsOf) -> Option<Found<'_>> {
        let mut record = self.records.get(newest);
        while !at.sees(record.revision()) {
            if !record.previous.is_slot() {
                let packed = self.packed_at(record.previous.chain()?, at)?;
                return (!packed.tombstone).then_some(packed);
            }
            record = self.records.get(record.previous);
        }
        (!record.tombstone).then_some(Found::Slab(record))
    }

    fn assert_readable(&self, at: AsOf) {
        let oldest = at.oldest();
        assert!(
            oldest >= self.purge.reached(),
            "revision {oldest} is read but purged up to {}; the reader held no pin",
            self.purge.reached()
        );
    }
}
