//! Reads: point lookups, ranges in slices, counts.
//!
//! Every read names the main revision it is made at, which must not be purged:
//! at or above the compacted revision, or held by a pin (asserted).

use super::Mvcc;
use super::bounds::Bounds;
use super::found::Found;
use super::key_value::shared_key;
use super::records::{Record, RecordId};
use crate::types::{Key, KeyValueRef};

impl Mvcc {
    /// The key's live version at main revision `at`.
    #[must_use]
    pub fn get(&self, key: &[u8], at: i64) -> Option<KeyValueRef> {
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
        at: i64,
        limit: usize,
        scan_limit: usize,
        out: &mut Vec<KeyValueRef>,
    ) -> Option<Key> {
        let mut found = 0;
        self.scan(bounds, at, scan_limit, |record| {
            if found == limit {
                return false;
            }
            out.push(record.key_value());
            found += 1;
            true
        })
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
    pub fn count_slice(&self, bounds: &Bounds, at: i64, scan_limit: usize) -> (u64, Option<Key>) {
        if at >= self.timeline.last().map_or(0, |last| last.main) {
            self.assert_readable(at);
            return (self.count_now(bounds), None);
        }
        let mut count = 0;
        let rest = self.scan(bounds, at, scan_limit, |_| {
            count += 1;
            true
        });
        (count, rest)
    }

    /// Visits the versions live at `at` in key order until `visit` refuses one
    /// or `scan_limit` keys were looked at; answers the key to go on from.
    fn scan(
        &self,
        bounds: &Bounds,
        at: i64,
        scan_limit: usize,
        mut visit: impl FnMut(&Record) -> bool,
    ) -> Option<Key> {
        self.assert_readable(at);
        if let Some(key) = bounds.as_single() {
            let record = self
                .keys
                .find(key)
                .and_then(|newest| self.visible(newest, at))?;
            return (scan_limit == 0 || !visit(&record)).then(|| shared_key(key));
        }
        for (scanned, entry) in self.keys.from(bounds.start()).enumerate() {
            if bounds.is_past(entry.key) {
                return None;
            }
            if scanned == scan_limit {
                return Some(Key::clone(entry.key));
            }
            if let Some(record) = self.visible(entry.newest, at)
                && !visit(&record)
            {
                return Some(Key::clone(entry.key));
            }
        }
        None
    }

    /// The record that is the key's live version at `at`, from its newest one.
    fn visible(&self, newest: RecordId, at: i64) -> Option<Found<'_>> {
        let mut record = self.records.get(newest);
        while record.main() > at {
            if !record.previous.is_slot() {
                let packed = self.packed_at(record.previous.chain()?, at)?;
                return (!packed.tombstone).then_some(packed);
            }
            record = self.records.get(record.previous);
        }
        (!record.tombstone).then_some(Found::Slab(record))
    }

    fn assert_readable(&self, at: i64) {
        assert!(
            at >= self.purge.reached(),
            "revision {at} is read but purged up to {}; the reader held no pin",
            self.purge.reached()
        );
    }
}
