//! The scrub's count of index records, over fjall: what the store has lost or taken in is
//! found though every file is whole; a checkpoint meanwhile is no finding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::checkpoint::{CheckpointJob, CheckpointStore, Checkpointer, FjallStore, Leftovers};
use crate::types::{LeaseId, LogIndex, MemberId, Place, RecordMeta, Revision, SegmentNumber};
use crate::vfs::real::RealVfs;

const OURS: Identity = Identity {
    cluster_id: 11,
    member_id: MemberId(12),
};

/// The revision's record; every third one has a value, in one of two segments.
fn record(main: i64) -> Arc<RecordMeta> {
    let length = if main % 3 == 0 { 40 } else { 0 };
    Arc::new(RecordMeta {
        key: Arc::from(format!("key-{main}").as_bytes()),
        revision: Revision::new(main, 0),
        create_revision: main,
        version: 1,
        lease: LeaseId::NONE,
        tombstone: false,
        place: Place {
            segment: SegmentNumber(7),
            offset: 4096,
            length,
            crc: length,
        },
    })
}

/// A checkpoint up to `last` that drops every fifth record of the one before.
fn job(published: &Manifest, last: i64) -> CheckpointJob {
    let before = published.current_revision;
    let doomed = (before - 40..=before).filter(|main| *main > 1 && main % 5 == 0);
    let mut manifest = published.clone();
    manifest.applied_index = LogIndex(u64::try_from(last).unwrap());
    manifest.first_needed_index = LogIndex(manifest.applied_index.0 + 1);
    manifest.segments = vec![SegmentNumber(7)];
    manifest.current_revision = last;
    manifest.bound = Revision::new(last, u32::MAX);
    CheckpointJob {
        records: (before + 1..=last).map(record).collect(),
        removed: doomed
            .map(|main| (record(main).revision, record(main).place))
            .collect(),
        manifest,
    }
}

/// A data directory with one checkpoint of the revisions from 2 to 41.
fn published(scratch: &tempfile::TempDir) -> (PathBuf, Checkpointer) {
    let directory = scratch.path().join("data");
    layout::create(&RealVfs, &directory, OURS).unwrap();
    let store = FjallStore::create(&directory.join(layout::CHECKPOINT)).unwrap();
    let first = Manifest::empty(OURS);
    first.publish(&RealVfs, &directory).unwrap();
    let (vfs, store) = (Arc::new(RealVfs), Box::new(store));
    let nothing = (Leftovers::default(), Vec::new());
    let mut checkpointer = Checkpointer::new(vfs, &directory, store, first, nothing.0, nothing.1);
    let job = job(checkpointer.published(), 41);
    checkpointer.perform(job, &mut || ()).unwrap();
    (directory, checkpointer)
}

#[test]
fn a_record_too_few_too_many_or_another_one_is_found() {
    type Change = fn(&mut FjallStore);
    let changes: [(&str, Change); 4] = [
        ("one is lost", |store| {
            let lost = [Revision::new(20, 0)];
            store.remove_index(&lost, &mut || ()).unwrap();
        }),
        ("one came back", |store| {
            let mut back = RecordMeta::clone(&record(20));
            back.revision = Revision::new(20, 1);
            store.ingest_index(&[back.into()], &mut || ()).unwrap();
        }),
        ("one has another value", |store| {
            let mut other = RecordMeta::clone(&record(21));
            other.place.crc += 1;
            store.ingest_index(&[other.into()], &mut || ()).unwrap();
        }),
        ("one has its value elsewhere", |store| {
            let mut other = RecordMeta::clone(&record(21));
            other.place.segment = SegmentNumber(6);
            store.ingest_index(&[other.into()], &mut || ()).unwrap();
        }),
    ];
    for (what, change) in changes {
        let scratch = tempfile::tempdir().unwrap();
        let (directory, checkpointer) = published(&scratch);
        checkpointer.scrub().store(&mut |_| ()).unwrap();
        drop(checkpointer);
        let mut store = FjallStore::open(&directory.join(layout::CHECKPOINT)).unwrap();
        let scrub = StoreScrub::new(Arc::new(RealVfs), directory, store.reader());
        scrub.store(&mut |_| ()).unwrap();
        change(&mut store);
        match scrub.store(&mut |_| ()) {
            Err(Fatal::Corruption { path, detail, .. }) => {
                assert_eq!(path, store.path(), "{what}");
                assert!(
                    detail.contains("the index checkpoint has"),
                    "{what}: {detail}"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_checkpoint_meanwhile_is_no_finding() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, mut checkpointer) = published(&scratch);
    let scrub = checkpointer.scrub();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scrubbing = scope.spawn(|| {
            let mut counted = 0;
            while !done.load(Ordering::SeqCst) || counted == 0 {
                let Some((manifest, records)) = scrub.view().unwrap() else {
                    continue;
                };
                // The next checkpoints remove what this moment still has.
                std::thread::yield_now();
                scrub.count(&manifest, records, &mut |_| ()).unwrap();
                counted += 1;
            }
            counted
        });
        for round in 2..80 {
            let job = job(checkpointer.published(), round * 40 + 1);
            checkpointer.perform(job, &mut || ()).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        assert!(scrubbing.join().unwrap() > 0);
    });
    scrub.store(&mut |_| ()).unwrap();
}
