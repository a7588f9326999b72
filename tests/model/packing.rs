//! Packing over long histories: reads through long chains, a purge through
//! blocks, and what a superseded record costs in memory.

use storage::mvcc::{Bounds, Mvcc, MvccOptions, NewValue};
use storage::types::{LeaseId, Place, Revision, SegmentNumber};

fn put(store: &mut Mvcc, key: &[u8], value: &[u8], place: Place) {
    let mut write = store.write();
    write.put(key, NewValue::Bytes(value, place), LeaseId::NONE);
    let events = write.finish().expect("a put changes something");
    drop(events);
}

fn place(number: u32, value: &[u8]) -> Place {
    Place {
        segment: SegmentNumber(number / 50_000),
        offset: number % 50_000 * 200,
        length: u32::try_from(value.len()).unwrap(),
        crc: crc32fast::hash(value),
    }
}

fn settle(store: &mut Mvcc) {
    while store.evict_slice(64) {}
    while store.pack_slice(64) {}
}

/// Two keys of 1,500 versions each, another deleted and created over and over.
fn long_history() -> Mvcc {
    let mut store = Mvcc::with_options(MvccOptions {
        hot_bytes_max: 0,
        chunk_records: 64,
        pack_waiting_min: 0,
        pack_waiting_share: usize::MAX,
    });
    for round in 0..1500_u32 {
        let value = round.to_le_bytes();
        put(&mut store, b"a", &value, place(round * 3, &value));
        put(&mut store, b"b", &value, place(round * 3 + 1, &value));
        if round % 2 == 0 {
            put(&mut store, b"c", &value, place(round * 3 + 2, &value));
        } else {
            let mut write = store.write();
            write.delete_range(&Bounds::single(b"c"));
            assert!(write.finish().is_some());
        }
        if round % 100 == 50 {
            settle(&mut store);
        }
    }
    settle(&mut store);
    store
}

/// Round and version that a read of these keys at this revision must show.
fn check(store: &Mvcc, main: i64) {
    let written = main - 1;
    for (key, first) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
        let rounds = if written < first {
            0
        } else {
            (written - first) / 3 + 1
        };
        let found = store.get(key, main);
        let deleted = key == b"c" && rounds % 2 == 0;
        if rounds == 0 || deleted {
            assert!(found.is_none(), "{key:?} at {main}");
            continue;
        }
        let found = found.expect("the key is live");
        let fields = found.fields();
        let written_at = (rounds - 1) * 3 + first + 1;
        let (created, version) = if key == b"c" {
            (written_at, 1)
        } else {
            (first + 1, rounds)
        };
        let got = (fields.mod_revision, fields.create_revision, fields.version);
        assert_eq!(got, (written_at, created, version), "{key:?} at {main}");
    }
}

#[test]
fn every_revision_reads_the_same_through_long_chains() {
    let store = long_history();
    assert_eq!(store.record_count(), 4500);
    assert!(
        store.packed_count() > 4300,
        "all but the last chunk and the newest"
    );
    for main in 1..=4501 {
        check(&store, main);
    }
    let mut next = 2;
    while let Some(last) = store.history_slice(next, 100).unwrap().last() {
        assert_eq!(store.history_slice(next, 1).unwrap()[0].revision, next);
        next = last.revision + 1;
    }
    assert_eq!(next, 4502);
}

#[test]
fn a_purge_through_blocks_leaves_nothing_behind() {
    let mut store = long_history();
    let mut twin = long_history();
    for compacted in [700, 701, 2500, 4400] {
        store.compact(compacted).unwrap();
        let mut dropped = Vec::new();
        while store.compact_slice(i64::MAX, 7, &mut dropped) {}
        assert!(!dropped.is_empty());
        let size = store.size();
        assert_eq!(size.total_bytes, size.in_use_bytes);
        for main in compacted..=4501 {
            check(&store, main);
        }
    }
    // What is left: the versions since, the newest of each before, no more.
    twin.compact(4400).unwrap();
    let all = twin.records_slice(Revision::default(), usize::MAX);
    let left: Vec<_> = all.iter().filter(|view| !view.compacted).collect();
    let found = store.records_slice(Revision::default(), usize::MAX);
    assert_eq!(left.len(), found.len());
    for (left, found) in left.iter().zip(&found) {
        assert_eq!(left.meta, found.meta);
    }
    store.compact(4501).unwrap();
    while store.compact_slice(i64::MAX, 7, &mut Vec::new()) {}
    assert_eq!(store.packed_count(), 0);
}

/// Resident memory of this process, bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

/// Prints what a superseded record costs when nobody compacts:
/// `cargo test --release -p tests --test model -- --ignored --nocapture
/// overwrites_cost`; the variable OVERWRITES sets how many.
#[test]
#[ignore = "a measurement over 2 million overwrites, for release builds"]
fn overwrites_cost() {
    let overwrites: u32 =
        std::env::var("OVERWRITES").map_or(2_000_000, |text| text.parse().unwrap());
    let mut store = Mvcc::with_options(MvccOptions {
        hot_bytes_max: 16 << 20,
        ..MvccOptions::default()
    });
    let value = [b'v'; 100];
    let mut key_number = 1_u64;
    let mut next = |number: u32| {
        key_number = key_number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let key = if number < 10_000 {
            u64::from(number)
        } else {
            (key_number >> 33) % 10_000
        };
        format!("/registry/pods/namespace/{key:05}")
    };
    for number in 0..10_000 {
        put(
            &mut store,
            next(number).as_bytes(),
            &value,
            place(number, &value),
        );
    }
    let live = resident_bytes();
    for number in 10_000..10_000 + overwrites {
        put(
            &mut store,
            next(number).as_bytes(),
            &value,
            place(number, &value),
        );
        if number % 256 == 0 {
            store.evict_slice(512);
            store.pack_slice(512);
        }
    }
    let full = resident_bytes();
    println!(
        "{overwrites} overwrites: live {live} B, in the end {full} B, packed {}, \
         {:.1} B per superseded record beyond the hot budget",
        store.packed_count(),
        (full - live).saturating_sub(16 << 20) as f64 / f64::from(overwrites),
    );
    assert!(store.packed_count() > 0);
}
