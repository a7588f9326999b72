//! The rules of revisions by hand; `tests/model` checks them against a model.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::limits::{HOT_RECORD_BYTES, HOT_ROUNDING_SHARE, HOT_SHARE_MIN};
use crate::types::{KeyValueRef, LeaseId, Place, RevisionEvents, SegmentNumber};

fn place(value: &[u8]) -> Place {
    Place {
        segment: SegmentNumber(1),
        offset: 0,
        length: u32::try_from(value.len()).unwrap(),
        crc: crc32fast::hash(value),
    }
}

fn put(store: &mut Mvcc, key: &str, value: &str) -> RevisionEvents {
    let mut write = store.write();
    let value = value.as_bytes();
    write.put(
        key.as_bytes(),
        NewValue::Bytes(value, place(value)),
        LeaseId::NONE,
    );
    write.finish().unwrap()
}

fn delete(store: &mut Mvcc, key: &str) -> Option<RevisionEvents> {
    let mut write = store.write();
    write.delete_range(&Bounds::single(key.as_bytes()));
    write.finish()
}

fn value(found: Option<KeyValueRef>) -> Option<String> {
    match found? {
        KeyValueRef::Resident(encoded) => {
            Some(String::from_utf8(encoded.value().to_vec()).unwrap())
        }
        KeyValueRef::Stored(_) => panic!("not resident"),
    }
}

fn purge(store: &mut Mvcc) -> Vec<Revision> {
    let mut dropped = Vec::new();
    while store.compact_slice(i64::MAX, 2, &mut dropped) {}
    dropped.into_iter().map(|(revision, _)| revision).collect()
}

#[test]
fn the_first_change_has_revision_2_and_generations_start_anew() {
    let mut store = Mvcc::new();
    assert_eq!(
        (store.current_revision(), store.compacted_revision()),
        (1, -1)
    );
    assert_eq!(put(&mut store, "a", "1").revision, 2);
    put(&mut store, "a", "2");
    let fields = store.get(b"a", 3).unwrap();
    let fields = fields.fields();
    assert_eq!(
        (fields.create_revision, fields.mod_revision, fields.version),
        (2, 3, 2)
    );
    assert_eq!(delete(&mut store, "a").unwrap().revision, 4);
    assert!(
        delete(&mut store, "a").is_none(),
        "nothing to delete takes no revision"
    );
    assert!(store.get(b"a", 4).is_none());
    put(&mut store, "a", "3");
    let fields = store.get(b"a", 5).unwrap();
    assert_eq!(
        (fields.fields().create_revision, fields.fields().version),
        (5, 1)
    );
    assert_eq!(value(store.get(b"a", 2)).as_deref(), Some("1"));
    assert!(store.get(b"a", 1).is_none());
}

#[test]
fn one_request_is_one_revision_and_reads_see_its_writes() {
    let mut store = Mvcc::new();
    put(&mut store, "b", "old");
    let mut write = store.write();
    assert_eq!(write.revision(), 2);
    write.put(b"a", NewValue::Bytes(b"1", place(b"1")), LeaseId(7));
    assert_eq!((write.revision(), write.base_revision()), (3, 2));
    assert_eq!(value(write.get(b"a")).as_deref(), Some("1"));
    assert!(write.store().get(b"a", write.base_revision()).is_none());
    let deleted = write.delete_range(&Bounds::everything());
    assert_eq!(
        deleted.iter().map(|one| one.lease.0).collect::<Vec<_>>(),
        [7, 0]
    );
    assert_eq!(write.count_now(&Bounds::everything()), 0);
    write.put(b"a", NewValue::Bytes(b"2", place(b"2")), LeaseId::NONE);
    let events = write.finish().unwrap();
    let subs: Vec<_> = events
        .events
        .iter()
        .map(|event| event.meta.revision.sub)
        .collect();
    assert_eq!((events.revision, subs), (3, vec![0, 1, 2, 3]));
    // Predecessors are what was live at the revision before.
    let previous: Vec<_> = events
        .events
        .iter()
        .map(|event| event.previous.is_some())
        .collect();
    assert_eq!(previous, [false, false, true, false]);
    assert_eq!(value(store.get(b"a", 3)).as_deref(), Some("2"));
}

/// A read that stands between two changes of a request is made after it, behind a compaction
/// to that very revision: what it sees is there as long as the oldest revision is pinned.
#[test]
fn a_read_in_the_midst_of_a_request_can_be_made_later() {
    let mut store = Mvcc::new();
    for key in ["a", "b", "c"] {
        put(&mut store, key, "old");
    }
    let mut write = store.write();
    let before = write.as_of();
    write.delete_range(&Bounds::single(b"a"));
    let between = write.as_of();
    let bytes = NewValue::Bytes(b"new", place(b"new"));
    write.put(b"b", bytes, LeaseId::NONE);
    write.put(b"d", bytes, LeaseId::NONE);
    let behind = write.as_of();
    let revision = write.finish().unwrap().revision;
    put(&mut store, "c", "newer");

    let seen = |store: &Mvcc, at: AsOf| {
        let mut found = Vec::new();
        let all = Bounds::everything();
        assert!(store.range_slice(&all, at, 9, 9, &mut found).is_none());
        let (count, _) = store.count_slice(&all, at, 9);
        assert_eq!(count, found.len() as u64);
        let measured = store.measure_slice(&all, at, 9, 9, |_| 1);
        assert_eq!(measured.bytes, count);
        let texts = found.into_iter().map(|found| {
            let key = String::from_utf8(found.key().to_vec()).unwrap();
            key + "=" + &value(Some(found)).unwrap()
        });
        texts.collect::<Vec<_>>().join(" ")
    };
    let all = |store: &Mvcc| {
        assert_eq!(seen(store, before), "a=old b=old c=old");
        assert_eq!(seen(store, between), "b=old c=old");
        assert_eq!(seen(store, behind), "b=new c=old d=new");
        assert_eq!(seen(store, AsOf::from(revision)), "b=new c=old d=new");
    };
    all(&store);
    assert_eq!(between.oldest(), revision - 1);
    assert!(!store.is_present(behind));
    store.compact(revision + 1).unwrap();
    let mut dropped = Vec::new();
    while store.compact_slice(between.oldest(), 1, &mut dropped) {}
    all(&store);
    while store.compact_slice(revision, 1, &mut dropped) {}
    assert_eq!(dropped.len(), 2, "the predecessors of both changes");
}

#[test]
fn a_write_that_is_dropped_leaves_no_trace() {
    let mut store = Mvcc::new();
    put(&mut store, "a", "1");
    delete(&mut store, "a");
    put(&mut store, "b", "1");
    let before = (
        store.state_hash(),
        store.size(),
        store.record_count(),
        store.live_keys(),
    );
    let mut write = store.write();
    write.put(b"a", NewValue::Bytes(b"2", place(b"2")), LeaseId::NONE);
    write.put(b"c", NewValue::Bytes(b"2", place(b"2")), LeaseId::NONE);
    write.put(b"b", NewValue::Keep, LeaseId(3));
    write.delete_range(&Bounds::everything());
    drop(write);
    let after = (
        store.state_hash(),
        store.size(),
        store.record_count(),
        store.live_keys(),
    );
    assert_eq!(before, after);
    assert_eq!(
        store.superseded_resident_bytes(),
        12 + 12 / HOT_ROUNDING_SHARE + HOT_RECORD_BYTES
    );
    assert_eq!(put(&mut store, "a", "3").revision, 5);
}

#[test]
fn compaction_keeps_the_newest_and_a_tombstone_at_exactly_its_revision() {
    let mut store = Mvcc::new();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    put(&mut store, "b", "1");
    delete(&mut store, "b");
    assert_eq!(store.compact(6), Err(Refusal::FutureRevision));
    assert_eq!(store.compact(5), Ok(()));
    assert_eq!(store.compact(5), Err(Refusal::Compacted));
    assert_eq!(store.check_revision(4), Err(Refusal::Compacted));
    assert_eq!(store.check_revision(5), Ok(5));
    let in_use = store.size().in_use_bytes;
    assert_eq!(
        purge(&mut store),
        [Revision::new(2, 0), Revision::new(4, 0)]
    );
    assert_eq!(store.size().total_bytes, in_use);
    assert_eq!(
        store.record_count(),
        2,
        "the newest of a and the tombstone of b"
    );
    put(&mut store, "c", "1");
    store.compact(6).unwrap();
    assert_eq!(purge(&mut store), [Revision::new(5, 0)]);
    assert_eq!(value(store.get(b"a", 6)).as_deref(), Some("2"));
}

#[test]
fn revision_0_compacts_only_before_any_other() {
    let mut store = Mvcc::new();
    assert_eq!(store.compact(0), Ok(()));
    assert_eq!(store.compacted_revision(), 0);
    assert_eq!(store.compact(0), Err(Refusal::Compacted));
    assert_eq!(store.compact(1), Ok(()));
}

#[test]
fn a_pin_holds_the_purge_back() {
    let mut store = Mvcc::new();
    for round in 0..4 {
        put(&mut store, "a", &round.to_string());
    }
    store.compact(5).unwrap();
    let mut dropped = Vec::new();
    while store.compact_slice(3, 1, &mut dropped) {}
    assert_eq!(value(store.get(b"a", 3)).as_deref(), Some("1"));
    assert_eq!(dropped.len(), 1);
    assert_eq!(purge(&mut store).len(), 2);
}

#[test]
#[should_panic(expected = "held no pin")]
fn reading_what_is_purged_is_a_bug_of_the_caller() {
    let mut store = Mvcc::new();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    store.compact(3).unwrap();
    purge(&mut store);
    assert!(store.get(b"a", 2).is_none());
}

#[test]
fn superseded_values_leave_memory_oldest_first_and_newest_ones_come_back() {
    let mut store = Mvcc::with_hot_bytes_max(13 + HOT_RECORD_BYTES);
    for key in ["a", "b"] {
        put(&mut store, key, "1");
        put(&mut store, key, "2");
    }
    while store.evict_slice(1) {}
    assert!(matches!(store.get(b"a", 2), Some(KeyValueRef::Stored(_))));
    assert!(matches!(store.get(b"b", 4), Some(KeyValueRef::Resident(_))));
    assert!(
        !store.install_value(Revision::new(2, 0), b"1"),
        "superseded"
    );

    let mut loaded = Mvcc::new();
    for view in store.records_slice(Revision::default(), 100) {
        loaded.load(Arc::unwrap_or_clone(view.meta));
    }
    loaded.finish_load(5, -1, store.state_hash().chain);
    assert_eq!(loaded.state_hash(), store.state_hash());
    assert_eq!(loaded.size(), store.size());
    let (missing, rest) = loaded.missing_values_slice(Revision::default(), 3);
    assert_eq!((missing.len(), rest), (1, Some(Revision::new(4, 0))));
    assert!(loaded.install_value(missing[0].revision, b"2"));
    assert_eq!(value(loaded.get(b"a", 5)).as_deref(), Some("2"));
    assert!(matches!(loaded.get(b"b", 5), Some(KeyValueRef::Stored(_))));
}

#[test]
fn packed_records_count_against_what_stays_in_memory_but_a_share_is_left() {
    let hot_bytes_max = 4000;
    let mut store = Mvcc::with_options(MvccOptions {
        hot_bytes_max,
        chunk_records: 8,
        pack_waiting_min: 0,
        pack_waiting_share: usize::MAX,
    });
    let mut left = Vec::new();
    for _ in 0..400 {
        put(&mut store, "a", "1");
        while store.evict_slice(8) {}
        while store.pack_slice(8) {}
        left.push(store.superseded_resident_bytes());
    }
    let most = left.iter().max().unwrap();
    assert!(*most <= hot_bytes_max && most + 200 > hot_bytes_max);
    let share = hot_bytes_max / HOT_SHARE_MIN;
    let last = left.last().unwrap();
    assert!(*last <= share && last + 200 > share, "{last} of {share}");
}

#[test]
fn a_long_history_is_packed_while_it_is_loaded() {
    let options = MvccOptions {
        hot_bytes_max: 0,
        chunk_records: 8,
        pack_waiting_min: 50,
        pack_waiting_share: usize::MAX,
    };
    let mut store = Mvcc::with_options(options);
    for round in 0..500 {
        put(&mut store, ["a", "b", "c"][round % 3], "1");
    }
    let mut loaded = Mvcc::with_options(options);
    for view in store.records_slice(Revision::default(), 1000) {
        loaded.load(Arc::unwrap_or_clone(view.meta));
        assert!(loaded.record_count() - loaded.packed_count() < 200);
    }
    loaded.finish_load(501, -1, store.state_hash().chain);
    assert_eq!(loaded.state_hash(), store.state_hash());
    assert_eq!(loaded.size(), store.size());
    assert_eq!(loaded.record_count(), 500);
}

#[test]
fn history_has_whole_revisions_and_no_predecessor_that_is_compacted() {
    let mut store = Mvcc::new();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    delete(&mut store, "a");
    let history = store.history_slice(2, 2).unwrap();
    assert_eq!(
        history.iter().map(|one| one.revision).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(
        value(history[1].events[0].previous.clone()).as_deref(),
        Some("1")
    );
    store.compact(3).unwrap();
    assert_eq!(store.history_slice(2, 1).unwrap_err(), Refusal::Compacted);
    let history = store.history_slice(3, 9).unwrap();
    assert!(history[0].events[0].previous.is_none());
    let deletion = &history[1].events[0];
    assert_eq!(value(deletion.previous.clone()).as_deref(), Some("2"));
    assert_eq!(deletion.key_value.fields().mod_revision, 4);
}

#[test]
fn slices_go_on_where_they_stopped() {
    let mut store = Mvcc::new();
    for key in ["a", "b", "c", "d"] {
        put(&mut store, key, key);
    }
    delete(&mut store, "b");
    let mut bounds = Bounds::of_request(&Bytes::from_static(b"a"), &Bytes::from_static(b"d"));
    let mut found = Vec::new();
    let mut slices = 0;
    while let Some(rest) = store.range_slice(&bounds, 6, 10, 1, &mut found) {
        bounds = bounds.resume_at(&rest);
        slices += 1;
    }
    assert_eq!(
        found.iter().map(KeyValueRef::key).collect::<Vec<_>>(),
        [b"a", b"c"]
    );
    assert_eq!(slices, 2);
    let everything = Bounds::everything();
    assert_eq!(store.count_slice(&everything, 6, 1), (3, None));
    assert_eq!(store.count_slice(&everything, 5, 9), (4, None));
    let (count, rest) = store.count_slice(&everything, 5, 3);
    assert_eq!((count, rest.as_deref()), (3, Some(b"d".as_ref())));
}

#[test]
fn a_kept_value_shares_its_place() {
    let mut store = Mvcc::new();
    put(&mut store, "a", "12345");
    let mut write = store.write();
    write.put(b"a", NewValue::Keep, LeaseId(4));
    let events = write.finish().unwrap();
    assert_eq!(value(store.get(b"a", 3)).as_deref(), Some("12345"));
    assert_eq!(events.events[0].meta.place, place(b"12345"));
    assert_eq!(store.segment_usage().live_bytes(SegmentNumber(1)), 10);
    store.compact(3).unwrap();
    purge(&mut store);
    assert_eq!(store.segment_usage().live_bytes(SegmentNumber(1)), 5);
}
