//! Crash images of a whole data directory: the power goes before, within and after every
//! file operation of seeded runs (groups, rolls, checkpoints, cleaning, recycling, restarts),
//! and between the steps of the checkpoint store. Each image is checked offline, opened,
//! compared with the answered writes, and cut once more.

use std::sync::Arc;

use storage::check;
use storage::checkpoint::layout::{self, DataDirectory};
use storage::checkpoint::{ModelDisk, ModelStore, StepGate, SteppedStore, StoreStep};
use storage::error::Fatal;
use storage::vfs::Vfs;
use storage::vfs::sim::{CutPoint, OperationKind, SimDisk, SplitMix64};

use crate::amount;
use crate::member::{Member, Planned, directory, plan};

const POINTS: [CutPoint; 3] = [CutPoint::Before, CutPoint::Within, CutPoint::After];
const COMMANDS: u64 = 60;
const STEPS: u64 = 40;
/// `check` took the empty segment of an earlier boot for a lost one.
const FOUND_SOMETHING: [u64; 2] = [33, 41];
/// A directory that nothing lies in: syncing it is a step that the power can go at.
const STEP: &str = "/steps";

/// Records that go to the store in one step.
const STEP_RECORDS: usize = 4;

/// Each step of the store is one more operation of the disk.
#[derive(Debug)]
struct DiskStep(SimDisk);

impl StepGate for DiskStep {
    fn step(&self, _step: StoreStep) -> Result<(), Fatal> {
        let stepped = self.0.sync_dir(STEP.as_ref());
        stepped.map_err(|error| Fatal::io("step", STEP, error))
    }
}

/// What a run did until the power went.
#[derive(Debug, Default)]
struct Reach {
    answered: u64,
    checkpoints: u64,
    restarts: u64,
    rolls: u64,
    recycled: u64,
}

fn open(disk: &SimDisk, model: &ModelDisk) -> Result<Member, Fatal> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let store = SteppedStore::open(model, STEP_RECORDS, DiskStep(disk.clone()));
    Member::open(&vfs, &directory(), Box::new(store))
}

fn run(
    disk: &SimDisk,
    model: &ModelDisk,
    plan: &[Planned],
    seed: u64,
    reach: &mut Reach,
) -> Result<(), Fatal> {
    let step = |error| Fatal::io("create", STEP, error);
    disk.create_dir_all(STEP.as_ref()).map_err(step)?;
    let mut random = SplitMix64(seed);
    let mut process = disk.clone();
    let mut member = open(&process, model)?;
    for _ in 0..STEPS {
        match random.below(12) {
            0 | 1 => {
                while random.chance(2, 3) && member.purge(3) {}
                member.checkpoint(random.chance(2, 3))?;
                reach.checkpoints += 1;
            }
            2 => while member.purge(4) {},
            3 => {
                if let Some(job) = member.log.spare_job() {
                    member.log.add_spare(
                        job.perform(&mut || ())
                            .map_err(|unprepared| unprepared.error)?,
                    );
                    reach.recycled += 1;
                }
            }
            4 if random.chance(1, 3) => {
                process = process.kill();
                member = open(&process, model)?;
                reach.restarts += 1;
            }
            5 => {
                if let Some(group) = member.log.proof_group()? {
                    group.perform()?;
                    member.log.flushed(group.number());
                }
            }
            _ => {
                let before = member.log.segments().last().map(|info| info.number);
                member.write(plan, 1 + random.below(4))?;
                let after = member.log.segments().last().map(|info| info.number);
                reach.rolls += u64::from(before != after);
            }
        }
        reach.answered = member.applied();
    }
    Ok(())
}

/// Checks, opens, compares, cuts once more.
fn check_image(disk: &SimDisk, model: &ModelDisk, plan: &[Planned], answered: u64, what: &str) {
    let mut dice = SplitMix64(answered ^ disk.operation_count() as u64);
    let image = disk.power_cut(dice.next_u64());
    model.power_cut(&mut || dice.chance(1, 2));
    let known = layout::recognise(&image, &directory()).unwrap();
    if matches!(known, DataDirectory::Ours(_)) {
        let store = ModelStore::open(model);
        let report = check::run_with(&image, &directory(), &store, &mut |_| ());
        let report = report.unwrap_or_else(|error| panic!("{what}: check: {error}"));
        assert_eq!(report.findings, [], "{what}");
    }
    image.create_dir_all(STEP.as_ref()).unwrap();
    let member = open(&image, model).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = member.applied();
    assert!(
        found >= answered,
        "{what}: {found} of {answered} answered writes are there"
    );
    member.verify(plan, what);
    drop(member);
    let again = image.power_cut(dice.next_u64());
    model.power_cut(&mut || dice.chance(1, 2));
    again.create_dir_all(STEP.as_ref()).unwrap();
    let member = open(&again, model).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(member.applied(), found, "{what}: what was read is gone");
    member.verify(plan, what);
}

#[test]
fn every_crash_image_opens_with_every_answered_write_and_checks_clean() {
    let wanted = amount("INTEGRITY_IMAGES", 5000);
    let (mut images, mut seeds) = (0, 0);
    let mut reach = Reach::default();
    for seed in FOUND_SOMETHING.into_iter().chain(0..) {
        if images >= wanted {
            break;
        }
        let plan = plan(seed, COMMANDS);
        let whole = SimDisk::new(seed);
        run(&whole, &ModelDisk::default(), &plan, seed, &mut reach).unwrap();
        for at in 0..whole.operation_count() {
            for point in POINTS {
                let (disk, model) = (SimDisk::new(seed), ModelDisk::default());
                disk.cut_at(at, point);
                let mut until = Reach::default();
                let ended = run(&disk, &model, &plan, seed, &mut until);
                let kind = whole.operations()[at].kind;
                let what = format!("seed {seed}, operation {at} ({kind:?}), {point:?}");
                assert!(ended.is_err() && disk.is_dead(), "{what}: no cut");
                check_image(&disk, &model, &plan, until.answered, &what);
                images += 1;
            }
        }
        for kind in [
            OperationKind::Rename,
            OperationKind::Sync,
            OperationKind::Create,
        ] {
            assert!(whole.count(kind) > 0, "seed {seed}: no {kind:?}");
        }
        seeds += 1;
    }
    eprintln!("crash images: {images} of {seeds} seeds; in whole runs {reach:?}");
    assert!(reach.checkpoints > 10 && reach.restarts > 0 && reach.rolls > 5);
    assert!(reach.recycled > 5);
}
