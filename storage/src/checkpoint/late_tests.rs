//! A store that is made by the first checkpoint.

use super::*;
use crate::checkpoint::Identity;
use crate::checkpoint::step_disk::StepDisk;
use crate::types::{MemberId, SegmentNumber};

const OURS: Identity = Identity {
    cluster_id: 1,
    member_id: MemberId(2),
};

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn the_store_is_made_when_it_is_needed() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, disk) = (scratch.path(), StepDisk::default());
    layout::create(&disk, data, OURS).unwrap();
    let mut store = open_or_defer(&disk, data).unwrap();
    let reader = store.reader();
    let revision = Revision::new(2, 0);
    assert_eq!(reader.read_value(revision).unwrap(), None);
    store.visit_index(&mut |_| panic!("a record")).unwrap();
    assert!(is_empty(&data.join(layout::CHECKPOINT)));

    let value = (revision, Bytes::from_static(b"cold"));
    store
        .ingest_values(std::slice::from_ref(&value), &mut || ())
        .unwrap();
    assert_eq!(reader.read_value(revision).unwrap(), Some(value.1));
    drop((store, reader));
    assert!(!is_deferred(&disk, data).unwrap());
}

#[test]
fn a_sync_makes_the_store_even_with_nothing_in_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, disk) = (scratch.path(), StepDisk::default());
    layout::create(&disk, data, OURS).unwrap();
    open_or_defer(&disk, data).unwrap().sync().unwrap();
    assert!(!is_deferred(&disk, data).unwrap());
    FjallStore::open(&data.join(layout::CHECKPOINT)).unwrap();
}

#[test]
fn a_store_that_a_manifest_names_is_never_deferred() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, disk) = (scratch.path(), StepDisk::default());
    layout::create(&disk, data, OURS).unwrap();
    let mut manifest = Manifest::empty(OURS);
    manifest.sequence = 1;
    manifest.publish(&disk, data).unwrap();
    assert!(is_deferred(&disk, data).unwrap());
    manifest.sequence = 2;
    manifest.index.count = 1;
    manifest.bound = Revision::new(2, 0);
    manifest.current_revision = 2;
    manifest.segments = vec![SegmentNumber(1)];
    manifest.publish(&disk, data).unwrap();
    assert!(!is_deferred(&disk, data).unwrap());
    let refused = open_or_defer(&disk, data);
    assert!(matches!(refused, Err(Fatal::Corruption { .. })));
}
