//! `storage::mvcc` against the naive store: random histories of requests,
//! compactions, purges held back by pins, evictions, packing, warming, restarts.
//! A twin that never purges, evicts, packs or restarts must agree on the state hash.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use storage::error::Refusal;
use storage::limits::{HOT_SHARE_MIN, PACKED_RECORD_BYTES};
use storage::mvcc::{Bounds, HashKvResult, HashKvStart, Mvcc, MvccOptions, NewValue, Write};
use storage::types::{KeyValueRef, LeaseId, Place, Revision};

use crate::mvcc_model::Model;
use crate::mvcc_steps::{Op, Step, a_step};

pub struct Run {
    pub store: Mvcc,
    pub twin: Mvcc,
    pub model: Model,
    pub pins: Vec<i64>,
    pub dropped: BTreeSet<Revision>,
    options: MvccOptions,
}

/// A store that evicts and packs at once: chunks of few records, no waiting.
fn options(hot_bytes_max: u64, chunk_records: usize) -> MvccOptions {
    MvccOptions {
        hot_bytes_max,
        chunk_records,
        pack_waiting_min: 0,
        pack_waiting_share: usize::MAX,
    }
}

impl Run {
    fn new(options: MvccOptions) -> Self {
        Run {
            store: Mvcc::with_options(options),
            twin: Mvcc::new(),
            model: Model::new(),
            pins: Vec::new(),
            dropped: BTreeSet::new(),
            options,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Request { ops, abandoned } => self.request(ops, *abandoned),
            Step::Compact {
                below_current,
                hash_slice,
            } => {
                self.compact(self.model.current - below_current, *hash_slice);
            }
            Step::Purge { budget } => {
                self.purge(*budget);
            }
            Step::Pin { below_current } => {
                let revision = self.model.current - below_current;
                if revision >= self.model.compacted {
                    self.pins.push(revision);
                }
            }
            Step::Unpin => drop(self.pins.pop()),
            Step::Evict { budget } => self.evict(*budget),
            Step::Pack { budget } => self.pack(*budget),
            Step::Warm { scan } => self.warm(*scan),
            Step::Restart { slice } => self.restart(*slice),
            Step::Read {
                key,
                range_end,
                below_current,
                limit,
                scan,
            } => {
                self.read(
                    key,
                    range_end,
                    self.model.current - below_current,
                    *limit,
                    *scan,
                );
                for pin in self.pins.clone() {
                    self.range_agrees(key, range_end, pin, *limit, *scan);
                }
            }
            Step::History {
                below_current,
                events,
            } => {
                self.history(self.model.current - below_current, *events);
            }
            Step::HashKv {
                below_current,
                slice,
            } => {
                self.hash_kv(self.model.current - below_current, *slice);
            }
        }
        self.agree();
    }

    fn request(&mut self, ops: &[Op], abandoned: bool) {
        let before = (
            self.model.clone(),
            self.store.state_hash(),
            self.store.size(),
        );
        let mut write = self.store.write();
        let mut twin = self.twin.write();
        let mut sub = 0;
        for op in ops {
            sub += apply(op, &mut self.model, sub, &mut write, &mut twin);
            assert_eq!(write.revision(), self.model.current + i64::from(sub > 0));
            let count = self.model.range(b"\0", b"\0", self.model.current + 1).len() as u64;
            assert_eq!(write.count_now(&Bounds::everything()), count);
        }
        if abandoned {
            drop(write);
            drop(twin);
            let places = self.model.clone();
            self.model = before.0;
            self.model.keep_places_of(&places);
            assert_eq!(
                (self.store.state_hash(), self.store.size()),
                (before.1, before.2)
            );
            return;
        }
        let events = write.finish();
        assert_eq!(twin.finish().is_some(), events.is_some());
        assert_eq!(
            events.is_some(),
            sub > 0,
            "a revision is taken iff something changed"
        );
        if let Some(events) = events {
            self.model.current += 1;
            assert_eq!(self.store.current_revision(), self.model.current);
            self.events_agree(&events);
            assert_ne!(self.store.state_hash(), before.1);
        }
    }

    fn compact(&mut self, revision: i64, hash_slice: Option<usize>) {
        let expected = if revision <= self.model.compacted {
            Err(Refusal::Compacted)
        } else if revision > self.model.current {
            Err(Refusal::FutureRevision)
        } else {
            Ok(())
        };
        assert_eq!(self.store.compact(revision), expected);
        if expected.is_err() {
            return;
        }
        let previous = std::mem::replace(&mut self.model.compacted, revision);
        let Some(slice) = hash_slice else { return };
        if let Some(walk) = self.store.compaction_hash() {
            assert_eq!(walk.pin(), previous);
            let result = self.digest(walk, slice);
            let hash = self.model.hash_kv(revision, previous, true);
            let expected = HashKvResult {
                hash,
                compact_revision: previous,
                hash_revision: revision,
            };
            assert_eq!(result, expected, "hash of the compaction at {revision}");
            let mut other = Mvcc::new();
            other.remember_compaction_hash(result);
            assert!(
                matches!(other.hash_kv(revision), Ok(HashKvStart::Known(known)) if known == result)
            );
        }
    }

    fn purge(&mut self, budget: usize) -> bool {
        let floor = self.pins.iter().copied().min().unwrap_or(i64::MAX);
        let mut dropped = Vec::new();
        let more = self.store.compact_slice(floor, budget, &mut dropped);
        for (revision, place) in dropped {
            let change = self
                .model
                .changes
                .iter()
                .find(|one| one.revision == revision)
                .unwrap();
            assert_eq!(change.place, place);
            assert!(
                !self.model.survives(change, self.model.compacted),
                "{change:?}"
            );
            assert!(self.dropped.insert(revision), "nothing is dropped twice");
        }
        more
    }

    fn evict(&mut self, budget: usize) {
        let before = self.store.superseded_resident_bytes();
        let more = self.store.evict_slice(budget);
        let after = self.store.superseded_resident_bytes();
        assert!(after <= before);
        let packed = u64::try_from(self.store.packed_count()).unwrap() * PACKED_RECORD_BYTES;
        let hot = self.options.hot_bytes_max;
        let left = hot.saturating_sub(packed).max(hot / HOT_SHARE_MIN);
        assert_eq!(more, after > left);
    }

    fn pack(&mut self, budget: usize) {
        let figures = |store: &Mvcc| {
            let resident = store.superseded_resident_bytes();
            let usage = store.segment_usage().clone();
            let counts = (store.record_count(), store.live_keys());
            (store.state_hash(), store.size(), usage, resident, counts)
        };
        let before = (figures(&self.store), self.store.packed_count());
        self.store.pack_slice(budget);
        assert_eq!(figures(&self.store), before.0, "packing changes no figure");
        assert!(self.store.packed_count() >= before.1);
    }

    fn warm(&mut self, scan: usize) {
        let mut after = Some(Revision::default());
        while let Some(from) = after {
            let (missing, rest) = self.store.missing_values_slice(from, scan);
            for meta in missing {
                let value = self.model.value(meta.revision);
                assert!(self.store.install_value(meta.revision, &value));
                assert!(
                    !self.store.install_value(meta.revision, &value),
                    "it is there already"
                );
            }
            after = rest;
        }
        for change in self.model.range(b"\0", b"\0", self.model.current) {
            let found = self.store.get(&change.key, self.model.current);
            assert!(
                matches!(found, Some(KeyValueRef::Resident(_))),
                "newest values are warm"
            );
        }
    }

    fn restart(&mut self, slice: usize) {
        let mut loaded = Mvcc::with_options(self.options);
        let mut after = Revision::default();
        loop {
            let views = self.store.records_slice(after, slice);
            let Some(last) = views.last() else { break };
            after = last.meta.revision;
            for view in views {
                loaded.load(view.meta.as_ref().clone());
            }
        }
        let (current, compacted) = (self.model.current, self.model.compacted);
        loaded.finish_load(current, compacted, self.store.state_hash().chain);
        assert_eq!(
            loaded.state_hash(),
            self.store.state_hash(),
            "a restart changes no hash"
        );
        assert_eq!(loaded.record_count(), self.model.retained().len());
        for change in &self.model.changes {
            if !self.model.survives(change, compacted) {
                self.dropped.insert(change.revision);
            }
        }
        // What was pinned below the compacted revision is gone with the readers.
        self.pins.retain(|&pin| pin >= compacted);
        self.store = loaded;
    }

    fn read(&self, key: &[u8], range_end: &[u8], revision: i64, limit: usize, scan: usize) {
        let expected = if revision <= 0 {
            Ok(self.model.current)
        } else if revision < self.model.compacted {
            Err(Refusal::Compacted)
        } else {
            Ok(revision)
        };
        assert_eq!(self.store.check_revision(revision), expected);
        let future = self.store.check_revision(self.model.current + 1);
        assert_eq!(future, Err(Refusal::FutureRevision));
        if let Ok(at) = expected {
            self.range_agrees(key, range_end, at, limit, scan);
        }
    }
}

/// Applies one operation to all three; the number of changes it made.
fn apply(op: &Op, model: &mut Model, sub: u32, write: &mut Write<'_>, twin: &mut Write<'_>) -> u32 {
    let main = model.current + 1;
    match op {
        Op::Put { key, value, lease } => {
            let place = model.place(value);
            let new = NewValue::Bytes(value, place);
            put(
                model,
                sub,
                key,
                (value, place),
                new,
                LeaseId(*lease),
                write,
                twin,
            );
            1
        }
        Op::Keep { key, lease } => {
            let Some(live) = model.live(key, main).cloned() else {
                return 0;
            };
            let value = (live.value.as_slice(), live.place);
            put(
                model,
                sub,
                key,
                value,
                NewValue::Keep,
                LeaseId(*lease),
                write,
                twin,
            );
            1
        }
        Op::Delete { key, range_end } => {
            let expected = model.range(key, range_end, main);
            let expected: Vec<_> = expected
                .iter()
                .map(|one| (one.key.clone(), one.lease))
                .collect();
            let bounds =
                Bounds::of_request(&Bytes::from(key.clone()), &Bytes::from(range_end.clone()));
            let deleted = write.delete_range(&bounds);
            assert_eq!(twin.delete_range(&bounds).len(), deleted.len());
            let deleted: Vec<_> = deleted
                .iter()
                .map(|one| (one.key.to_vec(), one.lease.0))
                .collect();
            assert_eq!(deleted, expected);
            model.delete(sub, key, range_end)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one put in three stores")]
fn put(
    model: &mut Model,
    sub: u32,
    key: &[u8],
    stored: (&[u8], Place),
    value: NewValue<'_>,
    lease: LeaseId,
    write: &mut Write<'_>,
    twin: &mut Write<'_>,
) {
    let expected = model.live(key, model.current + 1).map(|live| live.lease);
    let replaced = write.put(key, value, lease);
    assert_eq!(replaced.as_ref().map(|one| one.lease.0), expected);
    assert_eq!(twin.put(key, value, lease).is_some(), expected.is_some());
    model.put(sub, key, stored, lease);
    let seen = write.get(key).expect("a request sees its own writes");
    assert_eq!(
        seen.encoded_len(),
        model.changes.last().unwrap().stored().len()
    );
}

proptest! {
    #[test]
    fn the_store_agrees_with_the_model(
        steps in prop::collection::vec(a_step(), 1..120),
        hot_bytes_max in prop::sample::select(vec![0, 60, 1000]),
        chunk_records in prop::sample::select(vec![1, 3, 8, 40]),
    ) {
        let mut run = Run::new(options(hot_bytes_max, chunk_records));
        for step in &steps {
            run.step(step);
        }
        // At the end nothing is pinned: everything compacted can go.
        run.pins.clear();
        while run.purge(3) {}
        run.agree();
        assert_eq!(run.store.record_count(), run.model.retained().len());
        assert_eq!(run.store.size().total_bytes, run.store.size().in_use_bytes);
    }
}
