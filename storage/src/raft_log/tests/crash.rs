//! Power cuts before, within and after every file operation of seeded runs, and
//! kills with unsynced groups in the page cache. A run follows a model: what
//! was flushed must be there after recovery, what was in flight may be, in order,
//! and what recovery once served must survive the next power cut.

use std::sync::Arc;

use super::{directory, entry, flush, hard_state, open};
use crate::error::Fatal;
use crate::raft_log::{HardState, LogEntry, RaftLog, Recovered};
use crate::types::{LogIndex, Term};
use crate::vfs::sim::{CutPoint, OperationKind, SimDisk, SplitMix64};

const STEPS: u64 = 14;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: Vec<LogEntry>,
    state: HardState,
}

/// What a run has promised so far.
#[derive(Default)]
struct Progress {
    acknowledged: Model,
    /// States after each group that was appended and not yet flushed.
    in_flight: Vec<Model>,
    applied: usize,
    rolls: usize,
    kept_unsynced: usize,
}

impl Progress {
    fn applied(&self) -> (LogIndex, Term) {
        let last = self.applied.checked_sub(1);
        let term = last.map_or(Term(0), |at| self.acknowledged.entries[at].term);
        (LogIndex(self.applied as u64), term)
    }

    fn newest(&self) -> &Model {
        self.in_flight.last().unwrap_or(&self.acknowledged)
    }

    fn fits(&self, model: &Model, recovered: &Recovered) -> bool {
        let mut state = model.state;
        state.commit = state.commit.max(LogIndex(self.applied as u64));
        model.entries[self.applied..] == recovered.entries && state == recovered.hard_state
    }

    /// The model that recovery agrees with; it becomes what must stay.
    fn serve(&mut self, recovered: &Recovered, context: &str) {
        if self.fits(&self.acknowledged, recovered) {
            self.in_flight.clear();
            return;
        }
        let found = self.in_flight.iter().position(|m| self.fits(m, recovered));
        let Some(found) = found else {
            panic!(
                "{context}: recovered {:?} and {} entries, acknowledged {:?} and {}",
                recovered.hard_state,
                recovered.entries.len(),
                self.acknowledged.state,
                self.acknowledged.entries.len() - self.applied,
            );
        };
        self.kept_unsynced += 1;
        self.acknowledged = self.in_flight.swap_remove(found);
        self.in_flight.clear();
    }
}

fn append(
    log: &mut RaftLog,
    progress: &mut Progress,
    random: &mut SplitMix64,
) -> Result<(), Fatal> {
    let groups = 1 + random.below(2);
    let mut writes = Vec::new();
    for _ in 0..groups {
        let mut model = progress.newest().clone();
        let commit = model.state.commit.0.max(progress.applied as u64);
        let mut term = model.state.term.0.max(1);
        let mut next = model.entries.len() as u64 + 1;
        if random.chance(1, 6) {
            term += 1;
            next -= random.below(next - commit);
        }
        model.entries.truncate(next as usize - 1);
        let count = random.below(4);
        let entries: Vec<_> = (next..next + count)
            .map(|index| entry(index, term, random.below(2500) as usize))
            .collect();
        model.entries.extend(entries.iter().cloned());
        // Only flushed entries are committed, and never those replaced here.
        let committed = progress.acknowledged.entries.len().min(next as usize - 1) as u64;
        let commit = commit.max(committed.saturating_sub(random.below(4)));
        let state = hard_state(term, random.below(3), commit);
        model.state = state;
        if entries.is_empty() {
            // Without entries nothing is replaced.
            model.entries = progress.newest().entries.clone();
        }
        let room = log.has_room(RaftLog::group_bytes(Some(state), &entries));
        if !room && !writes.is_empty() {
            // A segment that is made at once may not follow a header in flight.
            break;
        }
        progress.in_flight.push(model);
        let before = log.segments().count();
        writes.push(log.append(Some(state), &entries)?);
        progress.rolls += log.segments().count() - before;
    }
    for write in writes {
        write.perform()?;
        log.flushed(write.number());
        progress.acknowledged = progress.in_flight.remove(0);
    }
    Ok(())
}

fn housekeeping(
    log: &mut RaftLog,
    progress: &mut Progress,
    random: &mut SplitMix64,
) -> Result<(), Fatal> {
    let commit = progress.acknowledged.state.commit.0 as usize;
    progress.applied = progress.applied.max(commit);
    log.release(LogIndex(progress.applied as u64));
    let sealed: Vec<_> = log.segments().map(|s| s.number).collect();
    for number in sealed {
        if log.can_retire(number) && random.chance(2, 3) {
            log.retire(number)?;
        }
    }
    prepare(log)
}

/// The next segment gets its name, and retired files become spares.
fn prepare(log: &mut RaftLog) -> Result<(), Fatal> {
    while let Some(job) = log.spare_job() {
        let spare = job.perform(&mut || ());
        log.add_spare(spare.map_err(|unprepared| unprepared.error)?);
    }
    Ok(())
}

/// One life after another on one disk, until all steps are done or power goes.
fn run(disk: &SimDisk, seed: u64, progress: &mut Progress) -> Result<(), Fatal> {
    let mut random = SplitMix64(seed);
    let mut process = disk.clone();
    let (mut log, _) = open(Arc::new(process.clone()), &directory(), progress.applied())?;
    for _ in 0..STEPS {
        match random.below(10) {
            0 => housekeeping(&mut log, progress, &mut random)?,
            3 | 4 => prepare(&mut log)?,
            1 => {
                if let Some(group) = log.proof_group()? {
                    group.perform()?;
                    log.flushed(group.number());
                }
            }
            2 => {
                // A kill with a group that reached the page cache only.
                let index = progress.acknowledged.entries.len() as u64 + 1;
                let term = progress.acknowledged.state.term.0.max(1);
                let lost = entry(index, term, random.below(6000) as usize);
                let mut model = progress.acknowledged.clone();
                model.entries.push(lost.clone());
                progress.in_flight.push(model);
                let group = log.append(None, &[lost])?;
                group
                    .file()
                    .write_all_at(group.bytes(), group.offset())
                    .map_err(|source| Fatal::io("write", group.path(), source))?;
                process = process.kill();
                let vfs = Arc::new(process.clone());
                let (next, recovered) = open(vfs, &directory(), progress.applied())?;
                progress.serve(&recovered, &format!("seed {seed}, after a kill"));
                log = next;
            }
            _ => append(&mut log, progress, &mut random)?,
        }
    }
    Ok(())
}

/// Opens the image of a cut, then the image of a second cut right after.
fn check_images(disk: &SimDisk, progress: &mut Progress, seed: u64, context: &str) {
    let image = disk.power_cut(seed);
    let opened = open(Arc::new(image.clone()), &directory(), progress.applied());
    let (log, recovered) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
    progress.serve(&recovered, context);
    let last = (recovered.hard_state.commit.0.max(1)..=log.last().0.0)
        .filter(|index| *index > progress.applied as u64);
    for index in last {
        let read = log
            .entries(LogIndex(index), LogIndex(index + 1), u64::MAX)
            .unwrap();
        assert_eq!(
            read[0],
            progress.acknowledged.entries[index as usize - 1],
            "{context}"
        );
    }
    drop(log);
    let second = image.power_cut(seed ^ 0xABCD);
    let opened = open(Arc::new(second), &directory(), progress.applied());
    let (_, again) = opened.unwrap_or_else(|error| panic!("{context}, second cut: {error}"));
    assert_eq!(
        again.entries, recovered.entries,
        "{context}: what was served is gone"
    );
    assert_eq!(again.hard_state, recovered.hard_state, "{context}");
}

fn cut_and_check(seed: u64, at: usize, point: CutPoint, reach: &mut Progress) {
    let disk = SimDisk::new(seed);
    disk.cut_at(at, point);
    let mut progress = Progress::default();
    let ended = run(&disk, seed, &mut progress);
    assert!(
        ended.is_err() && disk.is_dead(),
        "seed {seed}: no cut at {at}"
    );
    let context = format!("seed {seed}, operation {at}, {point:?}");
    check_images(&disk, &mut progress, seed * 31 + at as u64, &context);
    reach.rolls += progress.rolls;
    reach.kept_unsynced += progress.kept_unsynced;
}

fn length_of_run(seed: u64) -> (usize, SimDisk) {
    let disk = SimDisk::new(seed);
    run(&disk, seed, &mut Progress::default()).unwrap();
    (disk.operations().len(), disk)
}

const POINTS: [CutPoint; 3] = [CutPoint::Before, CutPoint::Within, CutPoint::After];

#[test]
fn a_cut_at_each_file_operation_keeps_what_was_flushed() {
    let mut reach = Progress::default();
    for seed in 0..12 {
        let (operations, _) = length_of_run(seed);
        assert!(
            operations > 30,
            "seed {seed} did only {operations} operations"
        );
        for at in 0..operations {
            for point in POINTS {
                cut_and_check(seed, at, point, &mut reach);
            }
        }
    }
    assert!(
        reach.rolls > 100 && reach.kept_unsynced > 100,
        "the runs miss their aim"
    );
}

#[test]
fn cuts_of_many_seeds_keep_what_was_flushed() {
    let mut reach = Progress::default();
    let mut renames = 0;
    for seed in 100..400 {
        let (operations, disk) = length_of_run(seed);
        renames += disk.count(OperationKind::Rename);
        let mut random = SplitMix64(seed);
        for _ in 0..6 {
            let at = random.below(operations as u64) as usize;
            let point = POINTS[random.below(3) as usize];
            cut_and_check(seed, at, point, &mut reach);
        }
    }
    assert!(reach.rolls > 100 && reach.kept_unsynced > 50 && renames > 900);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (_, first) = length_of_run(7);
    let (_, second) = length_of_run(7);
    assert_eq!(first.operations(), second.operations());
    for path in first.files() {
        assert_eq!(first.contents(&path), second.contents(&path));
    }
}

#[test]
fn a_failure_of_any_write_or_sync_is_fatal_once_and_loses_nothing() {
    let kinds = [
        OperationKind::Sync,
        OperationKind::Write,
        OperationKind::Create,
        OperationKind::Rename,
        OperationKind::SyncDir,
        OperationKind::Read,
    ];
    for kind in kinds {
        let mut reached = 0;
        for seed in 500..512 {
            for nth in 1..=25 {
                let disk = SimDisk::new(seed);
                disk.fail(kind, nth);
                let mut progress = Progress::default();
                let Err(error) = run(&disk, seed, &mut progress) else {
                    assert_eq!(
                        disk.reached(kind),
                        0,
                        "{kind:?} {nth}: a failure was swallowed"
                    );
                    continue;
                };
                assert!(matches!(error, Fatal::Io { .. }), "{kind:?} {nth}: {error}");
                assert_eq!(disk.reached(kind), 1);
                reached += 1;
                let context = format!("seed {seed}, {kind:?} {nth} fails");
                check_images(&disk, &mut progress, seed + nth, &context);
            }
        }
        assert!(reached > 20, "{kind:?} was reached {reached} times");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_tried_again() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(Arc::new(disk.clone()), &directory(), super::START).unwrap();
    let first = log.append(None, &[entry(1, 1, 100)]).unwrap();
    flush(&mut log, &first);
    disk.fail(OperationKind::Sync, disk.count(OperationKind::Sync) + 1);
    let second = log.append(None, &[entry(2, 1, 100)]).unwrap();
    let error = second.perform().unwrap_err();
    assert!(
        matches!(
            error,
            Fatal::Io {
                operation: "sync",
                ..
            }
        ),
        "{error}"
    );
    let operations = disk.operations().len();
    assert!(second.perform().is_err());
    assert!(log.append(None, &[entry(3, 1, 100)]).is_err());
    assert_eq!(
        disk.operations().len(),
        operations,
        "something was written after the failure"
    );
}

#[test]
fn a_full_disk_fails_a_spare_job_and_harms_nothing() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(Arc::new(disk.clone()), &directory(), super::START).unwrap();
    let files = disk.files();
    disk.set_capacity(Some(20 << 10));
    let job = log.spare_job().unwrap();
    let unprepared = job.perform(&mut || ()).unwrap_err();
    assert!(unprepared.is_full(), "{}", unprepared.error);
    assert!(log.spare_job().is_none(), "one job at a time");
    drop(unprepared);
    assert_eq!((disk.files(), disk.no_space()), (files, 1));
    let group = log.append(None, &[entry(1, 1, 100)]).unwrap();
    flush(&mut log, &group);
    disk.set_capacity(None);
    let spare = log.spare_job().unwrap().perform(&mut || ()).unwrap();
    log.add_spare(spare);
    assert!(log.next_is_ready() && log.spare_job().is_none());
}
