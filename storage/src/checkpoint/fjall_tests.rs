//! The store on the real fjall: round trips, reopening, idempotence, damage and
//! a cut at any moment (a copy of the directory taken while it is open).

use std::fs;
use std::sync::Arc;

use super::*;
use crate::checkpoint::Identity;
use crate::types::{LeaseId, Place, SegmentNumber};
use crate::vfs::real::RealVfs;

fn record(main: i64) -> Arc<RecordMeta> {
    Arc::new(RecordMeta {
        key: Arc::from(format!("/registry/pods/default/pod-{main}").as_bytes()),
        revision: Revision::new(main, 0),
        create_revision: main,
        version: 1,
        lease: LeaseId::NONE,
        tombstone: false,
        place: Place {
            segment: SegmentNumber(1),
            offset: 4096,
            length: 5,
            crc: 1,
        },
    })
}

fn records(mains: impl Iterator<Item = i64>) -> Vec<Arc<RecordMeta>> {
    mains.map(record).collect()
}

fn revisions(mains: impl Iterator<Item = i64>) -> Vec<Revision> {
    mains.map(|main| Revision::new(main, 0)).collect()
}

fn index_of(store: &FjallStore) -> Vec<Arc<RecordMeta>> {
    let mut all = Vec::new();
    store
        .visit_index(&mut |record| {
            all.push(Arc::new(record));
            Ok(())
        })
        .unwrap();
    all
}

fn values_of(store: &FjallStore) -> Vec<(Revision, Vec<u8>)> {
    let mut all = Vec::new();
    store
        .visit_values(&mut |revision, value| {
            all.push((revision, value.to_vec()));
            Ok(())
        })
        .unwrap();
    all
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(files_below(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

#[test]
fn what_was_ingested_is_there_after_reopening() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let all = records(2..10_002);
    let values: Vec<_> = (2..40u8)
        .map(|main| {
            let revision = Revision::new(i64::from(main), 0);
            (revision, Bytes::from(vec![main; 100_000]))
        })
        .collect();
    let mut runs = 0;
    {
        let mut store = FjallStore::create(&directory).unwrap();
        store.ingest_index(&all[..6000], &mut || runs += 1).unwrap();
        store.ingest_index(&all[6000..], &mut || runs += 1).unwrap();
        store.ingest_values(&values, &mut || runs += 1).unwrap();
        store.sync().unwrap();
    }
    assert_eq!(runs, 2 + 1 + 4, "runs are cut at their limits");
    let store = FjallStore::open(&directory).unwrap();
    assert_eq!(index_of(&store), all);
    assert_eq!(values_of(&store).len(), values.len());
    let reader = store.reader();
    for (revision, value) in &values {
        assert_eq!(reader.read_value(*revision).unwrap().as_ref(), Some(value));
    }
    assert_eq!(reader.read_value(Revision::new(99, 0)).unwrap(), None);
}

#[test]
fn the_largest_value_of_a_request_goes_through() {
    let scratch = tempfile::tempdir().unwrap();
    let mut store = FjallStore::create(&scratch.path().join("c")).unwrap();
    let value = Bytes::from(vec![7; 10 << 20]);
    let revision = Revision::new(i64::MAX, u32::MAX);
    store
        .ingest_values(&[(revision, value.clone())], &mut || ())
        .unwrap();
    assert_eq!(store.reader().read_value(revision).unwrap(), Some(value));
}

#[test]
fn removal_is_idempotent_and_survives() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let mut store = FjallStore::create(&directory).unwrap();
    store.ingest_index(&records(2..100), &mut || ()).unwrap();
    let gone = revisions((2..100).step_by(2).chain(200..210));
    for _ in 0..2 {
        store.remove_index(&gone, &mut || ()).unwrap();
        store.sync().unwrap();
        assert_eq!(index_of(&store), records((3..100).step_by(2)));
    }
    drop(store);
    let mut store = FjallStore::open(&directory).unwrap();
    assert_eq!(index_of(&store), records((3..100).step_by(2)));
    store.remove_index(&gone, &mut || ()).unwrap();
    // A checkpoint that is repeated after a crash writes again what it removed.
    store.ingest_index(&records(2..5), &mut || ()).unwrap();
    assert_eq!(index_of(&store).len(), 49 + 2);
}

#[test]
fn a_value_written_twice_counts_once_with_its_newest_content() {
    let scratch = tempfile::tempdir().unwrap();
    let mut store = FjallStore::create(&scratch.path().join("c")).unwrap();
    let revision = Revision::new(5, 1);
    for content in [&b"one"[..], b"two"] {
        let run = [(revision, Bytes::from_static(content))];
        store.ingest_values(&run, &mut || ()).unwrap();
    }
    assert_eq!(values_of(&store), [(revision, b"two".to_vec())]);
}

/// A copy of the directory taken after each run, while the store is open, is
/// what a kill leaves: it holds every run that had returned before. fjall's own
/// thread merges tables meanwhile, so a copy may mix two moments, which a kill
/// cannot; such a copy does not open and is taken again.
#[test]
fn a_kill_at_any_moment_keeps_every_finished_run() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let mut store = FjallStore::create(&directory).unwrap();
    for round in 0..12 {
        let from = 2 + round * 50;
        store
            .ingest_index(&records(from..from + 50), &mut || ())
            .unwrap();
        if round % 3 == 2 {
            store
                .remove_index(&revisions(from - 20..from), &mut || ())
                .unwrap();
        }
        let reopened = (0..100).find_map(|attempt| {
            let copy = scratch.path().join(format!("copy-{round}-{attempt}"));
            copy_tree(&directory, &copy).ok()?;
            FjallStore::open(&copy).ok()
        });
        let reopened = reopened.expect("one of 100 copies is of one moment");
        assert_eq!(index_of(&reopened), index_of(&store), "round {round}");
    }
}

#[test]
fn creation_starts_anew_over_what_an_interrupted_one_left() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    fs::create_dir_all(directory.join("keyspaces")).unwrap();
    fs::write(directory.join("lock"), b"").unwrap();
    fs::write(directory.join("version"), b"torn").unwrap();
    let store = FjallStore::create(&directory).unwrap();
    assert_eq!(index_of(&store), []);
}

#[test]
fn a_store_whose_manifest_was_lost_is_refused_and_not_emptied() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let mut store = FjallStore::create(&directory).unwrap();
    drop(store);
    store = FjallStore::create(&directory).unwrap();
    store.ingest_index(&records(2..10), &mut || ()).unwrap();
    drop(store);
    let refused = FjallStore::create(&directory).unwrap_err();
    assert!(
        refused.to_string().contains("keyspaces/1/tables"),
        "{refused}"
    );
    let store = FjallStore::open(&directory).unwrap();
    assert_eq!(index_of(&store), records(2..10));
}

/// A member is founded by its manifest; the store comes after, or after a
/// restart.
#[test]
fn a_founded_member_gets_its_store_and_keeps_it() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path();
    let directory = data.join(layout::CHECKPOINT);
    let vfs = RealVfs;
    let mut manifest = Manifest::empty(Identity::default());
    manifest.sequence = 1;
    manifest.publish(&vfs, data).unwrap();
    let open = || FjallStore::open_or_create(&vfs, data);
    drop(open().unwrap());
    // The first checkpoint was cut before its publication.
    let mut store = open().unwrap();
    store.ingest_index(&records(2..10), &mut || ()).unwrap();
    drop(store);
    assert_eq!(index_of(&open().unwrap()), records(2..10));
    fs::remove_file(directory.join("keyspaces/1/current")).unwrap();
    assert_eq!(index_of(&open().unwrap()), []);
    // From the first record on, a store that is not whole is corrupt.
    manifest.index.count = 8;
    manifest.current_revision = 9;
    manifest.bound = Revision::new(9, 0);
    manifest.publish(&vfs, data).unwrap();
    drop(open().unwrap());
    fs::remove_file(directory.join("keyspaces/1/current")).unwrap();
    let refused = open().unwrap_err();
    assert!(
        refused.to_string().contains("keyspaces/1/current"),
        "{refused}"
    );
}

#[test]
fn a_store_with_a_missing_part_is_refused_before_any_write() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let mut store = FjallStore::create(&directory).unwrap();
    store.ingest_index(&records(2..10), &mut || ()).unwrap();
    drop(store);
    for part in [
        "version",
        "keyspaces/0/current",
        "keyspaces/1/current",
        "keyspaces/2/current",
    ] {
        let copy = scratch.path().join(part.replace('/', "-"));
        copy_tree(&directory, &copy).unwrap();
        fs::remove_file(copy.join(part)).unwrap();
        let before = files_below(&copy);
        match FjallStore::open(&copy) {
            Err(Fatal::Corruption { path, .. }) => assert_eq!(path, copy.join(part)),
            other => panic!("{part}: {other:?}"),
        }
        assert_eq!(files_below(&copy), before);
    }
    assert!(matches!(
        FjallStore::open(&scratch.path().join("nowhere")),
        Err(Fatal::Corruption { .. })
    ));
}

#[test]
fn the_same_store_opens_once() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let _held = FjallStore::create(&directory).unwrap();
    match FjallStore::open(&directory) {
        Err(Fatal::Refused { detail, .. }) => assert!(detail.contains("another process")),
        other => panic!("{other:?}"),
    }
}

/// One flip in each of many bytes of the table files: refused when it is opened
/// or read, or harmless; never a wrong record.
#[test]
fn a_flip_in_a_table_never_gives_a_wrong_record() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("checkpoint");
    let all = records(2..60);
    let values = [(Revision::new(2, 0), Bytes::from_static(b"a value"))];
    let mut store = FjallStore::create(&directory).unwrap();
    store.ingest_index(&all, &mut || ()).unwrap();
    store.ingest_values(&values, &mut || ()).unwrap();
    drop(store);
    let tables: Vec<PathBuf> = files_below(&directory)
        .into_iter()
        .filter(|path| {
            path.parent()
                .is_some_and(|parent| parent.ends_with("tables"))
        })
        .filter(|path| !path.starts_with(directory.join("keyspaces/0")))
        .collect();
    assert_eq!(tables.len(), 2);
    let (mut refused, mut harmless) = (0, 0);
    for table in tables {
        let intact = fs::read(&table).unwrap();
        for at in (0..intact.len()).step_by(97) {
            let mut flipped = intact.clone();
            flipped[at] ^= 0x10;
            fs::write(&table, &flipped).unwrap();
            match read_everything(&directory) {
                Ok((index, cold)) => {
                    assert_eq!(index, all, "{} at {at}", table.display());
                    assert_eq!(cold, &b"a value"[..]);
                    harmless += 1;
                }
                Err(_) => refused += 1,
            }
        }
        fs::write(&table, &intact).unwrap();
    }
    assert!(refused > 20, "{refused} refused, {harmless} harmless");
    assert!(read_everything(&directory).is_ok());
}

fn read_everything(directory: &Path) -> Result<(Vec<Arc<RecordMeta>>, Bytes), Fatal> {
    let store = FjallStore::open(directory)?;
    let mut index = Vec::new();
    store.visit_index(&mut |record| {
        index.push(Arc::new(record));
        Ok(())
    })?;
    let revision = Revision::new(2, 0);
    let cold = store.reader().read_retained(
        revision,
        Place {
            segment: SegmentNumber(1),
            offset: 0,
            length: 7,
            crc: crc32fast::hash(b"a value"),
        },
    )?;
    Ok((index, cold))
}

/// A kill between a tree's files and its name in fjall's own tree: the next start is no
/// damage, nor is the one after a checkpoint.
#[test]
fn a_creation_cut_before_a_trees_name_is_made_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let (whole, data) = (scratch.path().join("whole"), scratch.path().join("data"));
    let cut = data.join(layout::CHECKPOINT);
    drop(FjallStore::create(&whole).unwrap());
    fs::create_dir_all(&cut).unwrap();
    let identity = Identity {
        cluster_id: 1,
        member_id: crate::types::MemberId(2),
    };
    let manifest = Manifest {
        sequence: 1,
        ..Manifest::empty(identity)
    };
    manifest.publish(&RealVfs, &data).unwrap();
    {
        let database = Database::builder(&cut).open().unwrap();
        database
            .keyspace(INDEX_KEYSPACE, KeyspaceCreateOptions::default)
            .unwrap();
    }
    let unnamed = |directory: &Path| directory.join(KEYSPACES_DIRECTORY).join("2");
    copy_tree(&unnamed(&whole), &unnamed(&cut)).unwrap();
    {
        let mut store = FjallStore::open_or_create(&RealVfs, &data).unwrap();
        store.ingest_index(&records(2..10), &mut || ()).unwrap();
        store.sync().unwrap();
    }
    let store = FjallStore::open(&cut).unwrap();
    assert_eq!(index_of(&store), records(2..10));
}
