//! A checkpointer cut before any step: every image that a kill or a power cut
//! can leave loads as the last published manifest says or as the next one.

use std::collections::BTreeMap;

use super::*;
use crate::checkpoint::SteppedStore;
use crate::checkpoint::model::{Family, ModelDisk};
use crate::checkpoint::step_disk::{StepDisk, Steps, step_store};
use crate::checkpoint::{Identity, layout, load, read_manifest};
use crate::types::{LeaseId, MemberId, SegmentNumber};

const IDENTITY: Identity = Identity {
    cluster_id: 7,
    member_id: MemberId(9),
};

fn directory() -> &'static Path {
    Path::new("/data")
}

/// The value of a record, told from its revision.
fn value_of(revision: Revision) -> Bytes {
    let text = format!("value of {}", revision.main);
    let length = if revision.main % 5 == 0 {
        0
    } else {
        text.len()
    };
    Bytes::from(text.into_bytes()[..length].to_vec())
}

/// What a checkpoint has to give back.
type Retained = BTreeMap<Revision, Arc<RecordMeta>>;

/// A small stand-in of the MVCC: keys `a` to `d`, one change per revision, with
/// compaction that drops what is superseded or deleted.
#[derive(Clone, Debug, Default)]
struct Store {
    retained: Retained,
    current: i64,
    compacted: i64,
    segments: Vec<SegmentNumber>,
    dropped: Vec<(Revision, Place)>,
}

impl Store {
    fn change(&mut self, key: u8, tombstone: bool) {
        self.current += 1;
        let revision = Revision::new(self.current, 0);
        let value = if tombstone {
            Bytes::new()
        } else {
            value_of(revision)
        };
        let segment = *self.segments.last().unwrap();
        let place = Place {
            segment,
            offset: 4096,
            length: u32::try_from(value.len()).unwrap(),
            crc: crc32fast::hash(&value),
        };
        let record = RecordMeta {
            key: Arc::from([key].as_slice()),
            revision,
            create_revision: 1,
            version: 1,
            lease: LeaseId::NONE,
            tombstone,
            place,
        };
        self.retained.insert(revision, Arc::new(record));
    }

    fn compact(&mut self) {
        self.compacted = self.current;
        let mut newest: BTreeMap<&[u8], Revision> = BTreeMap::new();
        for (revision, record) in &self.retained {
            newest.insert(&record.key, *revision);
        }
        let doomed: Vec<Revision> = self
            .retained
            .iter()
            .filter(|(revision, record)| newest[&*record.key] != **revision || record.tombstone)
            .map(|(revision, _)| *revision)
            .collect();
        for revision in doomed {
            let record = self.retained.remove(&revision).unwrap();
            self.dropped.push((revision, record.place));
        }
    }

    fn survivors(&self, segment: SegmentNumber) -> Vec<ColdValue> {
        let of_segment = self
            .retained
            .values()
            .filter(|r| r.place.segment == segment);
        of_segment
            .map(|record| ColdValue {
                revision: record.revision,
                place: record.place,
                value: value_of(record.revision).slice(..record.place.length as usize),
            })
            .collect()
    }
}

/// One checkpoint of the script: the state it publishes and what led there.
#[derive(Clone, Debug)]
struct Round {
    before: Store,
    after: Store,
    moved: Vec<ColdValue>,
}

/// Puts, deletions, compactions between and over checkpoints, segments cleaned
/// and retired; in particular a key that is put, published, deleted and
/// compacted before its tombstone was ever ingested.
fn script() -> Vec<Round> {
    let mut store = Store {
        current: 1,
        compacted: -1,
        segments: vec![SegmentNumber(1)],
        ..Store::default()
    };
    let mut rounds = Vec::new();
    for round in 0..6u32 {
        let before = store.clone();
        store.dropped.clear();
        for key in 0..4u8 {
            if (u32::from(key) + round) % 3 != 0 {
                store.change(b'a' + key, false);
            }
        }
        // Keys that are rarely written, so that segments have survivors.
        let calm = match round {
            0 => b"uvx".as_slice(),
            1 => b"wy".as_slice(),
            4 => b"x".as_slice(),
            _ => b"".as_slice(),
        };
        for key in calm {
            store.change(*key, false);
        }
        match round {
            1 => store.compact(),
            2 => {
                store.change(b'a', true);
                store.change(b'b', true);
                store.compact();
                store.change(b'b', false);
            }
            4 => {
                store.change(b'c', true);
                store.change(b'd', true);
                store.change(b'd', false);
                store.compact();
            }
            _ => {}
        }
        let mut moved = Vec::new();
        if round == 3 || round == 5 {
            let oldest = store.segments[0];
            moved = store.survivors(oldest);
            store.segments.remove(0);
        }
        store.segments.push(SegmentNumber(round + 2));
        rounds.push(Round {
            before,
            after: store.clone(),
            moved,
        });
    }
    assert!(
        rounds
            .iter()
            .filter(|round| !round.moved.is_empty())
            .count()
            == 2
    );
    rounds
}

fn job(round: &Round) -> CheckpointJob {
    let (before, after) = (&round.before, &round.after);
    let bound = Revision::new(after.current, u32::MAX);
    let new = Revision::new(before.current + 1, 0)..;
    let mut manifest = Manifest::empty(IDENTITY);
    manifest.applied_index = LogIndex(u64::try_from(after.current).unwrap());
    manifest.first_needed_index = LogIndex(manifest.applied_index.0 + 1);
    // Files of segments that were left out before lie there until recycled.
    let lying = (1..=after.segments.last().unwrap().0).map(SegmentNumber);
    manifest.segments = lying
        .filter(|number| after.segments.contains(number) || !before.segments.contains(number))
        .collect();
    manifest.current_revision = after.current;
    manifest.compacted_revision = after.compacted;
    manifest.bound = bound;
    CheckpointJob {
        records: after.retained.range(new).map(|(_, r)| r.clone()).collect(),
        removed: after.dropped.clone(),
        manifest,
    }
}

/// A member's machine: its disk, its store, and how it starts.
#[derive(Clone, Debug, Default)]
struct Machine {
    disk: StepDisk,
    model: ModelDisk,
}

impl Machine {
    fn new() -> Self {
        let machine = Machine::default();
        layout::create(&machine.disk, directory(), IDENTITY).unwrap();
        machine
    }

    fn power_cut(&self, keep: &mut dyn FnMut() -> bool) {
        self.disk.power_cut(keep);
        self.model.power_cut(keep);
    }

    /// Starts: loads and verifies, gives the checkpointer and what was loaded.
    fn start(&self) -> (Checkpointer, Retained) {
        let store = Box::new(step_store(self.disk.steps(), &self.model));
        let mut retained = Retained::new();
        let read = read_manifest(&self.disk, directory()).unwrap();
        let manifest = read.unwrap_or_else(|| Manifest::empty(IDENTITY));
        let loaded = load(&manifest, &*store, &mut |record| {
            retained.insert(record.revision, Arc::new(record));
            Ok(())
        })
        .unwrap();
        let vfs = Arc::new(self.disk.clone());
        let leftovers = loaded.leftovers;
        let checkpointer =
            Checkpointer::new(vfs, directory(), store, manifest, leftovers, Vec::new());
        (checkpointer, retained)
    }

    fn run(&self, checkpointer: &mut Checkpointer, rounds: &[Round]) -> Result<(), Fatal> {
        for round in rounds {
            checkpointer.ingest_values(&round.moved, &mut || ())?;
            checkpointer.perform(job(round), &mut || ())?;
        }
        Ok(())
    }
}

/// Asserts that what was loaded is the state of the published manifest.
fn assert_state(checkpointer: &Checkpointer, loaded: &Retained, rounds: &[Round], case: &str) {
    let sequence = usize::try_from(checkpointer.published().sequence).unwrap();
    let Some(last) = sequence.checked_sub(1) else {
        assert!(loaded.is_empty(), "{case}");
        return;
    };
    let state = &rounds[last].after;
    assert_eq!(loaded, &state.retained, "{case}, manifest {sequence}");
    let reader = checkpointer.reader();
    for record in loaded.values() {
        if !state.segments.contains(&record.place.segment) {
            let value = reader.read_retained(record.revision, record.place).unwrap();
            assert_eq!(value.len(), record.place.length as usize, "{case}");
        }
    }
}

/// Dice from a seed (a 64-bit linear congruence, its top bit).
fn dice(mut seed: u64) -> impl FnMut() -> bool {
    seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 63 == 1
    }
}

#[test]
fn checkpoints_give_back_what_was_retained() {
    let rounds = script();
    let machine = Machine::new();
    for number in 0..rounds.len() {
        let (mut checkpointer, loaded) = machine.start();
        assert_state(&checkpointer, &loaded, &rounds, "restart");
        machine
            .run(&mut checkpointer, &rounds[number..=number])
            .unwrap();
        let published = checkpointer.published();
        assert_eq!(published.sequence, number as u64 + 1);
        assert_eq!(published.segments, rounds[number].after.segments);
    }
    let last = rounds.last().unwrap();
    let left = machine.model.revisions(Family::Index);
    assert!(left.iter().eq(last.after.retained.keys()));
    let cold = machine.start().0.published().cold;
    assert_eq!(
        cold.count,
        machine.model.revisions(Family::Cold).len() as u64
    );
    assert!(cold.count > 0);
}

#[test]
fn a_cut_before_any_step_loads_as_the_last_manifest_or_the_next() {
    let rounds = script();
    let whole = Machine::new();
    whole.disk.steps().cut_before(None);
    whole.run(&mut whole.start().0, &rounds).unwrap();
    let steps = whole.disk.steps().taken();
    assert!(steps > 60, "{steps} steps");
    let mut images = 0;
    for cut in 0..steps {
        // Seed 0 is a kill: all that was written stays.
        for seed in 0..12 {
            let case = format!("cut before step {cut}, seed {seed}");
            let machine = Machine::new();
            let (mut checkpointer, _) = machine.start();
            machine.disk.steps().cut_before(Some(cut));
            machine.run(&mut checkpointer, &rounds).unwrap_err();
            let published = checkpointer.published().sequence;
            drop(checkpointer);
            let mut keep = dice(seed);
            if seed == 1 {
                machine.power_cut(&mut || false);
            } else if seed > 1 {
                machine.power_cut(&mut keep);
            }
            machine.disk.steps().cut_before(None);
            let (mut again, loaded) = machine.start();
            let found = again.published().sequence;
            assert!((published..=published + 1).contains(&found), "{case}");
            assert_state(&again, &loaded, &rounds, &case);
            let done = usize::try_from(found).unwrap();
            machine.run(&mut again, &rounds[done..]).unwrap();
            drop(again);
            machine.power_cut(&mut || false);
            let (last, loaded) = machine.start();
            assert_eq!(last.published().sequence, rounds.len() as u64, "{case}");
            assert_state(&last, &loaded, &rounds, &case);
            images += 1;
        }
    }
    assert!(images > 700, "{images} images");
}

#[test]
fn a_lost_or_damaged_record_is_refused_at_load() {
    let rounds = script();
    let machine = Machine::new();
    machine.run(&mut machine.start().0, &rounds).unwrap();
    let manifest = read_manifest(&machine.disk, directory()).unwrap().unwrap();
    for revision in machine.model.revisions(Family::Index) {
        for loss in [true, false] {
            let copy = Machine::new();
            copy.run(&mut copy.start().0, &rounds).unwrap();
            let hit = if loss {
                copy.model.lose(Family::Index, revision)
            } else {
                copy.model.damage(Family::Index, revision, 9, 1)
            };
            assert!(hit);
            let store = ModelStoreOf(&copy).open();
            let refused = load(&manifest, &store, &mut |_| Ok(())).unwrap_err();
            assert!(matches!(refused, Fatal::Corruption { .. }), "{refused}");
        }
    }
}

struct ModelStoreOf<'a>(&'a Machine);

impl ModelStoreOf<'_> {
    fn open(&self) -> SteppedStore<Steps> {
        step_store(self.0.disk.steps(), &self.0.model)
    }
}

#[test]
fn a_damaged_or_missing_cold_value_is_never_given_out() {
    let rounds = script();
    let machine = Machine::new();
    machine.run(&mut machine.start().0, &rounds).unwrap();
    let cold = machine.model.revisions(Family::Cold);
    let (checkpointer, loaded) = machine.start();
    let reader = checkpointer.reader();
    for (number, revision) in cold.iter().enumerate() {
        let place = loaded[revision].place;
        let hit = if number % 2 == 0 {
            machine.model.damage(Family::Cold, *revision, 6, 0x40)
        } else {
            machine.model.lose(Family::Cold, *revision)
        };
        assert!(hit);
        let refused = reader.read_retained(*revision, place).unwrap_err();
        assert!(matches!(refused, Fatal::Corruption { .. }), "{refused}");
    }
}

#[test]
fn a_failed_sync_publishes_nothing() {
    let rounds = script();
    let machine = Machine::new();
    let (mut checkpointer, _) = machine.start();
    machine.run(&mut checkpointer, &rounds[..1]).unwrap();
    machine.model.fail_sync_after(0);
    machine.run(&mut checkpointer, &rounds[1..]).unwrap_err();
    let manifest = read_manifest(&machine.disk, directory()).unwrap().unwrap();
    assert_eq!(manifest.sequence, 1);
}

#[test]
#[should_panic(expected = "neither in the log nor in the cold store")]
fn a_record_whose_value_is_nowhere_is_never_published() {
    let rounds = script();
    let machine = Machine::new();
    let (mut checkpointer, _) = machine.start();
    let mut wrong = job(&rounds[0]);
    wrong.manifest.segments = vec![SegmentNumber(2)];
    checkpointer.perform(wrong, &mut || ()).unwrap();
}

#[test]
#[should_panic(expected = "a wrong value goes cold")]
fn a_wrong_value_is_never_moved() {
    let machine = Machine::new();
    let (mut checkpointer, _) = machine.start();
    let wrong = ColdValue {
        revision: Revision::new(2, 0),
        place: Place {
            length: 3,
            ..Place::default()
        },
        value: Bytes::from_static(b"abc"),
    };
    checkpointer.ingest_values(&[wrong], &mut || ()).unwrap();
}

/// `ignore_value`: a record that took over a value whose segment is gone brings
/// its own copy; the older record may then be compacted away.
#[test]
fn an_inherited_cold_value_outlives_the_record_it_came_from() {
    let machine = Machine::new();
    let (mut checkpointer, _) = machine.start();
    let mut store = Store {
        current: 1,
        compacted: -1,
        segments: vec![SegmentNumber(1)],
        ..Store::default()
    };
    let mut rounds = Vec::new();
    let mut publish = |store: &Store, moved: Vec<ColdValue>| {
        let before = rounds
            .last()
            .map_or(store.clone(), |round: &Round| round.after.clone());
        rounds.push(Round {
            before: if rounds.is_empty() {
                Store {
                    current: 1,
                    ..Store::default()
                }
            } else {
                before
            },
            after: store.clone(),
            moved,
        });
        rounds.last().unwrap().clone()
    };
    store.change(b'a', false);
    let first = Revision::new(2, 0);
    let round = publish(&store, Vec::new());
    machine.run(&mut checkpointer, &[round]).unwrap();
    let survivors = store.survivors(SegmentNumber(1));
    store.segments = vec![SegmentNumber(2)];
    let round = publish(&store, survivors);
    machine.run(&mut checkpointer, &[round]).unwrap();

    let mut heir = RecordMeta::clone(&store.retained[&first]);
    heir.revision = Revision::new(3, 0);
    store.current = 3;
    store.retained.insert(heir.revision, Arc::new(heir.clone()));
    store.compact();
    let copy = ColdValue {
        revision: heir.revision,
        place: heir.place,
        value: value_of(first),
    };
    let round = publish(&store, vec![copy]);
    machine.run(&mut checkpointer, &[round]).unwrap();
    drop(checkpointer);
    machine.power_cut(&mut || false);
    let (checkpointer, loaded) = machine.start();
    assert_eq!(loaded, store.retained);
    let reader = checkpointer.reader();
    let value = reader.read_retained(heir.revision, heir.place).unwrap();
    assert_eq!(value, value_of(first));
    assert_eq!(machine.model.revisions(Family::Cold), [heir.revision]);
}
