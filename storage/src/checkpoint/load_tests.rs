//! Installing a checkpoint into the state machine, over fjall on disk.

use bytes::Bytes;

use super::*;
use crate::apply::command::{Command, DeleteRange, KeyRange, Put};
use crate::checkpoint::applied;
use crate::checkpoint::step_disk::StepDisk;
use crate::checkpoint::{CheckpointJob, Manifest, ModelDisk, ModelStore, open_or_defer};
use crate::types::{LeaseId, LogIndex, MemberId, SegmentNumber};

const OURS: Identity = Identity {
    cluster_id: 1,
    member_id: MemberId(2),
};

fn put(key: &str, value: &str, lease: i64) -> Command {
    Command::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: LeaseId(lease),
        ..Put::default()
    })
}

fn delete(key: &str) -> Command {
    Command::DeleteRange(DeleteRange {
        range: KeyRange {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::new(),
        },
        prev_kv: false,
    })
}

fn apply(machine: &mut StateMachine, commands: &[Command]) {
    for command in commands {
        let outcome = applied::apply(machine, command);
        assert!(outcome.result.is_ok(), "{command:?}");
    }
}

/// The job that an owner of the machine collects at one moment.
fn job(machine: &mut StateMachine, before: &Manifest) -> CheckpointJob {
    let mut removed = Vec::new();
    while machine.mvcc_mut().compact_slice(i64::MAX, 7, &mut removed) {}
    let mut manifest = before.clone();
    manifest.describe(machine);
    manifest.segments = vec![SegmentNumber(1)];
    let records = machine.mvcc().records_slice(before.bound, usize::MAX);
    CheckpointJob {
        records: records.iter().map(|view| view.meta.clone()).collect(),
        removed,
        manifest,
    }
}

#[test]
fn a_start_gives_back_the_whole_state() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = Arc::new(StepDisk::default());
    let data = scratch.path();
    layout::create(&*disk, data, OURS).unwrap();
    let open = || {
        let store = open_or_defer(&*disk, data).unwrap();
        start(disk.clone(), data, OURS, store, Mvcc::new(), None).unwrap()
    };
    let mut started = open();
    assert_eq!(started.machine.applied_index(), LogIndex(0));
    let steps = [
        vec![
            Command::LeaseGrant {
                lease: LeaseId(-7),
                ttl_seconds: 60,
            },
            put("a", "1", 0),
            put("b", "1", -7),
            put("gone", "1", 0),
        ],
        vec![
            put("a", "2", 0),
            delete("gone"),
            put("c", "", 0),
            Command::Compact { revision: 6 },
        ],
        vec![put("a", "3", 0), put("gone", "2", 0), delete("c")],
    ];
    for commands in steps {
        apply(&mut started.machine, &commands);
        let job = job(&mut started.machine, started.checkpointer.published());
        started.checkpointer.perform(job, &mut || ()).unwrap();
        let before = started.machine;
        drop(started.checkpointer);
        started = open();
        assert_eq!(started.machine.restart(), before.restart());
        assert_eq!(started.machine.state_hash(), before.state_hash());
        let metas = |machine: &StateMachine| {
            let all = machine
                .mvcc()
                .records_slice(Revision::default(), usize::MAX);
            all.iter().map(|view| view.meta.clone()).collect::<Vec<_>>()
        };
        assert_eq!(metas(&started.machine), metas(&before));
        let keys = started.machine.leases().keys(LeaseId(-7)).unwrap();
        assert_eq!(
            keys.map(|key| key.to_vec()).collect::<Vec<_>>(),
            [b"b".to_vec()]
        );
    }
}

/// A checkpoint taken between the logical compaction and its purge: what the
/// load purges must leave the store with the next checkpoint, the put no later
/// than the tombstone that ended it.
#[test]
fn what_a_load_purges_leaves_the_store_with_the_next_checkpoint() {
    let disk = Arc::new(StepDisk::default());
    let model = ModelDisk::default();
    let data = Path::new("/data");
    layout::create(&*disk, data, OURS).unwrap();
    let open = || {
        let store = Box::new(ModelStore::open(&model));
        start(disk.clone(), data, OURS, store, Mvcc::new(), None).unwrap()
    };
    let mut started = open();
    apply(
        &mut started.machine,
        &[
            put("a", "1", 0),
            put("a", "2", 0),
            delete("a"),
            put("b", "1", 0),
            Command::Compact { revision: 5 },
        ],
    );
    let mut manifest = started.checkpointer.published().clone();
    manifest.describe(&started.machine);
    manifest.segments = vec![SegmentNumber(1)];
    let records = started
        .machine
        .mvcc()
        .records_slice(Revision::default(), usize::MAX);
    let unpurged = CheckpointJob {
        records: records.iter().map(|view| view.meta.clone()).collect(),
        removed: Vec::new(),
        manifest,
    };
    assert_eq!(unpurged.records.len(), 4);
    started.checkpointer.perform(unpurged, &mut || ()).unwrap();

    let mut started = open();
    assert_eq!(started.machine.mvcc().record_count(), 1);
    let next = job(&mut started.machine, started.checkpointer.published());
    assert!(next.removed.is_empty() && next.records.is_empty());
    started.checkpointer.perform(next, &mut || ()).unwrap();
    let index = crate::checkpoint::Family::Index;
    assert_eq!(model.revisions(index), [Revision::new(5, 0)]);
    assert_eq!(open().machine.mvcc().record_count(), 1);
}

#[test]
fn another_state_hash_is_refused() {
    let disk = Arc::new(StepDisk::default());
    let model = ModelDisk::default();
    let data = Path::new("/data");
    layout::create(&*disk, data, OURS).unwrap();
    let store = Box::new(ModelStore::open(&model));
    let mut started = start(disk.clone(), data, OURS, store, Mvcc::new(), None).unwrap();
    apply(&mut started.machine, &[put("a", "1", 0)]);
    let mut wrong = job(&mut started.machine, started.checkpointer.published());
    wrong.manifest.live_hash ^= 1;
    started.checkpointer.perform(wrong, &mut || ()).unwrap();
    let store = Box::new(ModelStore::open(&model));
    let refused = start(disk.clone(), data, OURS, store, Mvcc::new(), None).unwrap_err();
    assert!(matches!(refused, Fatal::Corruption { .. }), "{refused}");
}

#[test]
fn a_manifest_of_another_member_is_refused() {
    let disk = Arc::new(StepDisk::default());
    let data = Path::new("/data");
    layout::create(&*disk, data, OURS).unwrap();
    let other = Identity {
        cluster_id: 1,
        member_id: MemberId(3),
    };
    Manifest::empty(other).publish(&*disk, data).unwrap();
    let refused = read_manifest(&*disk, data).unwrap_err().to_string();
    assert!(refused.contains("/data/MANIFEST"), "{refused}");
}
