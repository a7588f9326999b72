//! The state hash over restarts: whatever the order of writes, compactions, slices of
//! their purge, checkpoints and loads, a load recomputes the hash that the manifest
//! carries, and both are those of a store that never purged; a row that was changed is
//! noticed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::applied::apply;
use super::layout;
use super::step_disk::StepDisk;
use super::{CheckpointJob, CheckpointStore, Identity, ModelDisk, ModelStore, Started, start};
use crate::apply::StateMachine;
use crate::apply::command::{Command, DeleteRange, KeyRange, Put};
use crate::error::Fatal;
use crate::mvcc::Mvcc;
use crate::types::{LeaseId, MemberId, Place, RecordMeta, Revision, SegmentNumber};
use crate::vfs::sim::SplitMix64;

const OURS: Identity = Identity {
    cluster_id: 1,
    member_id: MemberId(2),
};
const DIRECTORY: &str = "/data";

#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Delete,
    Compact,
    Slice,
    Checkpoint,
    Restart,
}

const STEPS: [Step; 6] = [
    Step::Put,
    Step::Delete,
    Step::Compact,
    Step::Slice,
    Step::Checkpoint,
    Step::Restart,
];

struct Run {
    disk: Arc<StepDisk>,
    model: ModelDisk,
    started: Started,
    /// What the purge dropped since the last checkpoint.
    removed: Vec<(Revision, Place)>,
    /// Every command, by its index.
    log: Vec<Command>,
    /// A store that never purges and never restarts.
    reference: StateMachine,
}

fn put(key: &str, value: String, lease: i64) -> Command {
    Command::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from(value),
        lease: LeaseId(lease),
        ..Put::default()
    })
}

fn open(disk: &Arc<StepDisk>, model: &ModelDisk) -> Result<Started, Fatal> {
    let store = Box::new(ModelStore::open(model));
    let (vfs, path) = (disk.clone(), Path::new(DIRECTORY));
    start(vfs, path, OURS, store, Mvcc::new(), None)
}

impl Run {
    fn new() -> Run {
        let disk = Arc::new(StepDisk::default());
        layout::create(&*disk, Path::new(DIRECTORY), OURS).unwrap();
        let model = ModelDisk::default();
        let started = open(&disk, &model).unwrap();
        let other = ModelDisk::default();
        let spare = Arc::new(StepDisk::default());
        layout::create(&*spare, Path::new(DIRECTORY), OURS).unwrap();
        let reference = open(&spare, &other).unwrap().machine;
        let mut run = Run {
            disk,
            model,
            started,
            removed: Vec::new(),
            log: Vec::new(),
            reference,
        };
        for lease in [5, 6] {
            run.write(Command::LeaseGrant {
                lease: LeaseId(lease),
                ttl_seconds: 60,
            });
        }
        for key in ["a", "b", "c"] {
            run.write(put(key, format!("first of {key}"), 5));
        }
        run
    }

    fn write(&mut self, command: Command) {
        apply(&mut self.started.machine, &command);
        apply(&mut self.reference, &command);
        self.log.push(command);
    }

    fn step(&mut self, step: Step) {
        let number = self.log.len();
        let key = ["a", "b", "c"][number % 3];
        match step {
            Step::Put => self.write(put(key, format!("value {number}"), 0)),
            Step::Delete => self.write(Command::DeleteRange(DeleteRange {
                range: KeyRange {
                    key: Bytes::copy_from_slice(key.as_bytes()),
                    range_end: Bytes::new(),
                },
                prev_kv: false,
            })),
            Step::Compact => {
                let revision = self.started.machine.mvcc().current_revision();
                self.write(Command::Compact { revision });
            }
            Step::Slice => {
                let mvcc = self.started.machine.mvcc_mut();
                mvcc.compact_slice(i64::MAX, 1, &mut self.removed);
            }
            Step::Checkpoint => self.checkpoint(),
            Step::Restart => self.restart(),
        }
    }

    fn checkpoint(&mut self) {
        let published = self.started.checkpointer.published();
        let mut manifest = published.clone();
        manifest.describe(&self.started.machine);
        manifest.segments = vec![SegmentNumber(1)];
        let mvcc = self.started.machine.mvcc();
        let records = mvcc.records_slice(published.bound, usize::MAX);
        let job = CheckpointJob {
            records: records.iter().map(|view| view.meta.clone()).collect(),
            removed: std::mem::take(&mut self.removed),
            manifest,
        };
        self.started.checkpointer.perform(job, &mut || ()).unwrap();
    }

    fn restart(&mut self) {
        self.removed.clear();
        self.started = open(&self.disk, &self.model).expect("a load alarms falsely");
        let applied = usize::try_from(self.started.machine.applied_index().0).unwrap();
        for command in self.log.iter().skip(applied) {
            apply(&mut self.started.machine, command);
        }
    }

    fn compare(&self, what: &[Step]) {
        let (found, expected) = (&self.started.machine, &self.reference);
        assert_eq!(found.state_hash(), expected.state_hash(), "{what:?}");
    }
}

fn run(steps: &[Step]) {
    let mut run = Run::new();
    for (done, step) in steps.iter().enumerate() {
        run.step(*step);
        run.compare(&steps[..=done]);
    }
    run.restart();
    run.compare(steps);
}

#[test]
fn every_order_of_five_steps_keeps_the_hash() {
    for mut number in 0..STEPS.len().pow(5) {
        let mut steps = Vec::new();
        for _ in 0..5 {
            steps.push(STEPS[number % STEPS.len()]);
            number /= STEPS.len();
        }
        run(&steps);
    }
}

#[test]
fn long_runs_keep_the_hash() {
    let mut random = SplitMix64(7);
    for _ in 0..300 {
        let steps: Vec<Step> = (0..60)
            .map(|_| STEPS[usize::try_from(random.below(STEPS.len() as u64)).unwrap()])
            .collect();
        run(&steps);
    }
}

/// The digest of the index covers revision, length and CRC; the rest of a live row is the
/// hash's matter.
#[test]
fn a_changed_row_is_noticed() {
    type Change = fn(&mut RecordMeta);
    let changes: [(&str, Change); 7] = [
        ("key", |row| row.key = Arc::from(&b"d"[..])),
        ("create revision", |row| row.create_revision -= 1),
        ("version", |row| row.version += 1),
        ("lease", |row| row.lease = LeaseId(6)),
        ("tombstone", |row| {
            row.tombstone = true;
            row.place = Place::default();
        }),
        ("length", |row| row.place.length -= 1),
        ("checksum", |row| row.place.crc ^= 1),
    ];
    let mut sound = Run::new();
    for _ in 0..4 {
        sound.step(Step::Put);
    }
    sound.step(Step::Checkpoint);
    let mvcc = sound.started.machine.mvcc();
    let rows: Vec<RecordMeta> = mvcc
        .records_slice(Revision::default(), usize::MAX)
        .iter()
        .map(|view| (*view.meta).clone())
        .collect();
    let newest = |row: &RecordMeta| {
        let later = |other: &&RecordMeta| other.key == row.key && other.revision > row.revision;
        rows.iter().find(later).is_none()
    };
    assert!(open(&sound.disk, &sound.model.fork()).is_ok());
    for row in rows.iter().filter(|row| newest(row)) {
        for (field, change) in changes {
            let mut wrong = row.clone();
            change(&mut wrong);
            let damaged = sound.model.fork();
            let mut store = ModelStore::open(&damaged);
            store.ingest_index(&[Arc::new(wrong)], &mut || ()).unwrap();
            match open(&sound.disk, &damaged) {
                Err(Fatal::Corruption { .. }) => {}
                other => panic!("{field} of {:?}: {:?}", row.revision, other.map(|_| ())),
            }
        }
    }
}
