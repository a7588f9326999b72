//! What must agree between `storage::mvcc` and the naive store.

use bytes::Bytes;
use storage::error::Refusal;
use storage::mvcc::{Bounds, HashKv, HashKvResult, HashKvStart, key_value};
use storage::types::{KeyValueRef, Revision, RevisionEvents};

use crate::mvcc::Run;
use crate::mvcc_model::Model;

impl Run {
    pub fn range_agrees(&self, key: &[u8], range_end: &[u8], at: i64, limit: usize, scan: usize) {
        let expected: Vec<Vec<u8>> = self
            .model
            .range(key, range_end, at)
            .iter()
            .map(|one| one.stored())
            .collect();
        let (key, range_end) = (
            Bytes::copy_from_slice(key),
            Bytes::copy_from_slice(range_end),
        );
        let all = Bounds::of_request(&key, &range_end);
        let mut bounds = all.clone();
        let mut found = Vec::new();
        loop {
            let before = found.len();
            let rest = self
                .store
                .range_slice(&bounds, at, limit.max(1), scan, &mut found);
            assert!(found.len() - before <= limit.max(1).min(scan));
            let Some(rest) = rest else { break };
            bounds = bounds.resume_at(&rest);
        }
        let found: Vec<Vec<u8>> = found.iter().map(|one| self.encoded(one)).collect();
        assert_eq!(found, expected, "range {all:?} at {at}");
        let (mut count, mut rest) = self.store.count_slice(&all, at, scan);
        while let Some(key) = rest {
            let slice = self.store.count_slice(&all.resume_at(&key), at, scan);
            (count, rest) = (count + slice.0, slice.1);
        }
        assert_eq!(count, expected.len() as u64);
        if at == self.model.current {
            assert_eq!(self.store.count_now(&all), count);
        }
        self.measure_agrees(&all, at, limit, scan, &expected);
        let get = self.store.get(&key, at).map(|found| self.encoded(&found));
        assert_eq!(get, self.model.live(&key, at).map(|live| live.stored()));
    }

    /// The sums of the first `limit` key-values, and whether there are more.
    fn measure_agrees(
        &self,
        all: &Bounds,
        at: i64,
        limit: usize,
        scan: usize,
        expected: &[Vec<u8>],
    ) {
        let (mut found, mut bytes, mut last) = (0, 0, None);
        let mut bounds = all.clone();
        let more = loop {
            let left = limit - found;
            let slice = self
                .store
                .measure_slice(&bounds, at, left, scan, |visible| {
                    assert!(visible.fields().value.is_empty());
                    visible.encoded_len() as u64
                });
            found += slice.key_values;
            bytes += slice.bytes;
            last = slice.last.or(last);
            match slice.next {
                Some(rest) if !slice.more => bounds = bounds.resume_at(&rest),
                _ => break slice.more,
            }
        };
        let within = expected.get(..limit).unwrap_or(expected);
        let lengths: usize = within.iter().map(Vec::len).sum();
        assert_eq!((found, bytes), (within.len(), lengths as u64), "{all:?}");
        assert_eq!(more, expected.len() > limit, "{all:?} at {at} has more");
        let last_key = within
            .last()
            .map(|stored| key_value::decode(stored).unwrap().key);
        assert_eq!(last.as_deref(), last_key);
    }

    pub fn history(&self, from: i64, events: usize) {
        let result = self.store.history_slice(from, events);
        if from < self.model.compacted {
            assert_eq!(result.unwrap_err(), Refusal::Compacted);
            return;
        }
        let mut next = from;
        let mut slice = result.unwrap();
        while let Some(last) = slice.last() {
            let all_but_last: usize = slice.iter().rev().skip(1).map(|one| one.events.len()).sum();
            assert!(all_but_last < events);
            next = last.revision + 1;
            for revision in &slice {
                assert!(revision.revision >= from);
                self.events_agree(revision);
            }
            slice = self.store.history_slice(next, events).unwrap();
        }
        let retained = self.model.retained();
        assert!(
            retained
                .iter()
                .all(|change| change.revision.main < next.max(from) || change.revision.main < from)
        );
    }

    /// One revision's events are the model's surviving changes of it, in order.
    pub fn events_agree(&self, events: &RevisionEvents) {
        let retained = self.model.retained();
        let changes = retained
            .iter()
            .filter(|one| one.revision.main == events.revision);
        let changes: Vec<_> = changes.collect();
        assert_eq!(
            changes.len(),
            events.events.len(),
            "changes of {}",
            events.revision
        );
        for (change, event) in changes.into_iter().zip(&events.events) {
            assert_eq!(event.meta.revision, change.revision);
            assert_eq!(event.meta.key.as_ref(), change.key);
            assert_eq!(self.encoded(&event.key_value), change.event());
            let previous = event
                .previous
                .as_ref()
                .map(|previous| self.encoded(previous));
            assert_eq!(
                previous,
                self.model.previous(change).map(|one| one.stored())
            );
        }
    }

    pub fn hash_kv(&self, revision: i64, slice: usize) {
        let compact_revision = self.model.compacted;
        let hash_revision = if revision == 0 {
            self.model.current
        } else {
            revision
        };
        let walk = match self.store.hash_kv(revision) {
            Ok(HashKvStart::Walk(walk)) => walk,
            Ok(HashKvStart::Known(known)) => {
                assert!(revision < 0, "{known:?} was never remembered");
                // etcd hashes nothing at a negative revision, compacted or not.
                let nothing = HashKvResult {
                    hash: crc32c::crc32c(b"key"),
                    compact_revision,
                    hash_revision: revision,
                };
                assert_eq!(known, nothing);
                return;
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Compacted);
                assert!(hash_revision < compact_revision);
                return;
            }
        };
        let hash = self.model.hash_kv(hash_revision, compact_revision, false);
        let expected = HashKvResult {
            hash,
            compact_revision,
            hash_revision,
        };
        assert_eq!(self.digest(walk, slice), expected);
    }

    pub fn digest(&self, mut walk: HashKv, slice: usize) -> HashKvResult {
        let mut digest = walk.digest();
        while !walk.is_done() {
            let records = walk.slice(&self.store, slice);
            assert!(records.len() <= slice);
            for record in records {
                let encoded = self.encoded(&record.key_value);
                digest.update(record.revision, record.tombstone, &encoded);
            }
        }
        digest.finish()
    }

    /// The bytes of a key-value, fetched where they are not resident.
    pub fn encoded(&self, key_value: &KeyValueRef) -> Vec<u8> {
        let bytes = match key_value {
            KeyValueRef::Resident(encoded) => encoded.clone(),
            KeyValueRef::Stored(meta) => meta.encode(&self.model.value(meta.revision)),
        };
        assert_eq!(bytes.0.len(), key_value.encoded_len());
        bytes.0.to_vec()
    }

    /// What must hold after every step.
    pub fn agree(&self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!(store.current_revision(), model.current);
        assert_eq!(store.compacted_revision(), model.compacted);
        assert_eq!(store.state_hash(), self.twin.state_hash());
        let retained = model.retained();
        let there: Vec<_> = model
            .changes
            .iter()
            .filter(|one| !self.dropped.contains(&one.revision))
            .collect();
        let size = store.size();
        assert_eq!(size.total_bytes, Model::bytes(&there));
        assert_eq!(size.in_use_bytes, Model::bytes(&retained));
        let views = store.records_slice(Revision::default(), usize::MAX);
        assert_eq!(views.len(), there.len());
        let mut live_bytes = 0;
        for (view, change) in views.iter().zip(there) {
            assert_eq!(view.meta.revision, change.revision);
            assert_eq!(view.meta.place, change.place);
            assert_eq!(view.compacted, !model.survives(change, model.compacted));
            assert_eq!(self.encoded(&view.key_value), change.stored());
            live_bytes += u64::from(change.place.length);
        }
        let usage: u64 = store.segment_usage().iter().map(|segment| segment.1).sum();
        assert_eq!(usage, live_bytes);
        assert_eq!(
            store.live_keys(),
            model.range(b"\0", b"\0", model.current).len() as u64
        );
    }
}
