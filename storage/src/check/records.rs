//! The checkpoint's part of the check: records against the manifest, against
//! each other and against leases; values, in the log and cold, against records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::checkpoint::{self, CheckpointStore, Manifest, layout};
use crate::error::Fatal;
use crate::mvcc::StateHash;
use crate::raft_log::{Verified, segment_path};
use crate::types::{Key, Place, RecordMeta, Revision};

use super::values::Ends;
use super::{Phase, Progress, Report};

/// Progress is told once per so many items.
const PROGRESS_STRIDE: u64 = 1024;

/// What is collected while the records pass by.
#[derive(Default)]
struct Seen {
    /// The newest record of each key so far.
    newest: BTreeMap<Key, RecordMeta>,
    in_log: Vec<(Revision, Place)>,
    cold: Vec<(Revision, Place)>,
}

/// Checks all of it. What cannot be read ends only its own part.
pub(super) fn check(
    directory: &Path,
    manifest: &Manifest,
    store: &dyn CheckpointStore,
    log: Option<&Verified>,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Fatal> {
    let segments: BTreeSet<_> = manifest.segments.iter().copied().collect();
    let mut seen = Seen::default();
    let mut defects = Vec::new();
    let mut records = 0;
    let loaded = checkpoint::load(manifest, store, &mut |record| {
        records += 1;
        if records % PROGRESS_STRIDE == 0 {
            progress(Progress {
                phase: Phase::Index,
                done: records,
                total: manifest.index.count,
            });
        }
        if let Err(detail) = checkpoint::check_record(manifest, &record) {
            defects.push(detail);
        }
        let is_cold = !segments.contains(&record.place.segment);
        match (record.place.length, is_cold) {
            (0, _) => {}
            (_, true) => seen.cold.push((record.revision, record.place)),
            (_, false) => seen.in_log.push((record.revision, record.place)),
        }
        seen.follow(record, &mut defects);
        Ok(())
    });
    let loaded = report.take(loaded)?;
    report.records = records;
    if loaded.is_some() {
        seen.check_live_hash(manifest, &mut defects);
    }
    seen.check_leases(manifest, &mut defects);
    for detail in defects {
        report.add(store.path(), 0, detail);
    }
    if let Some(log) = log {
        let ends = Ends::of(log.segments.iter().cloned());
        let directory = directory.join(layout::LOG);
        if let Some(older) = ends.old_copy(&directory, manifest) {
            report.take::<()>(Err(older))?;
        }
        if let Some(loaded) = loaded {
            for missing in ends.missing(&directory, &loaded.reach) {
                report.take::<()>(Err(missing))?;
            }
            // Each segment was reported once, for all its values.
            seen.in_log.retain(|(_, place)| ends.hold(*place));
        }
        check_log_values(&directory, &seen.in_log, log, report, progress)?;
    }
    check_cold_values(&seen.cold, store, report, progress)
}

impl Seen {
    /// A record against the one before it of the same key.
    fn follow(&mut self, record: RecordMeta, defects: &mut Vec<String>) {
        let key = record.key.clone();
        let Some(before) = self.newest.insert(key, record.clone()) else {
            return;
        };
        let revision = record.revision;
        let continues = if record.tombstone {
            !before.tombstone
        } else if before.tombstone {
            record.version == 1 && record.create_revision == revision.main
        } else {
            record.version == before.version + 1 && record.create_revision == before.create_revision
        };
        if !continues {
            defects.push(format!(
                "index record {revision:?} does not continue the one before it of its key, {:?}",
                before.revision
            ));
        }
    }

    /// The hash that a start recomputes.
    fn check_live_hash(&self, manifest: &Manifest, defects: &mut Vec<String>) {
        let mut hash = StateHash::default();
        for newest in self.newest.values().filter(|newest| !newest.tombstone) {
            hash.add_live(newest);
        }
        if hash.live != manifest.live_hash {
            defects.push(format!(
                "the live keys have the hash {:032x}, manifest {} says {:032x}",
                hash.live, manifest.sequence, manifest.live_hash
            ));
        }
    }

    fn check_leases(&self, manifest: &Manifest, defects: &mut Vec<String>) {
        let leases: BTreeSet<_> = manifest.leases.iter().map(|(lease, _)| *lease).collect();
        for newest in self.newest.values().filter(|newest| !newest.tombstone) {
            if !newest.lease.is_none() && !leases.contains(&newest.lease) {
                defects.push(format!(
                    "the live record {:?} hangs on lease {:016x}, which the manifest does not have",
                    newest.revision, newest.lease.0
                ));
            }
        }
    }
}

fn check_log_values(
    directory: &Path,
    values: &[(Revision, Place)],
    log: &Verified,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Fatal> {
    let total = values
        .iter()
        .map(|(_, place)| u64::from(place.length))
        .sum();
    let mut done = 0;
    for (number, (revision, place)) in (1..).zip(values) {
        if let Some(None) = report.take(log.reader.read_value(*place))? {
            let detail = format!(
                "the value of {revision:?} lies in segment {}, which is not there",
                place.segment.0
            );
            let path = segment_path(directory, place.segment);
            report.add(path, u64::from(place.offset), detail);
        }
        done += u64::from(place.length);
        if number % PROGRESS_STRIDE == 0 {
            progress(Progress {
                phase: Phase::Values,
                done,
                total,
            });
        }
    }
    Ok(())
}

/// Merges the cold values, which ascend, with the records that name one.
fn check_cold_values(
    wanted: &[(Revision, Place)],
    store: &dyn CheckpointStore,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Fatal> {
    let path = store.path();
    let mut rest = wanted.iter().peekable();
    let (mut named, mut surplus) = (0, 0);
    let mut defects = Vec::new();
    let visited = store.visit_values(&mut |revision, value| {
        while let Some((missing, _)) = rest.next_if(|(next, _)| *next < revision) {
            defects.push(format!("the cold value of {missing:?} is missing"));
        }
        match rest.next_if(|(next, _)| *next == revision) {
            None => surplus += 1,
            Some((_, place)) => {
                named += 1;
                if let Err(detail) = checkpoint::check_value(revision, *place, value) {
                    defects.push(detail);
                }
            }
        }
        if (named + surplus) % PROGRESS_STRIDE == 0 {
            progress(Progress {
                phase: Phase::Cold,
                done: named,
                total: wanted.len() as u64,
            });
        }
        Ok(())
    });
    // After an error in the middle, what comes later is unknown, not missing.
    if report.take(visited)?.is_some() {
        for (missing, _) in rest {
            defects.push(format!("the cold value of {missing:?} is missing"));
        }
    }
    report.cold_values = named;
    report.cold_surplus = surplus;
    for detail in defects {
        report.add(path.clone(), 0, detail);
    }
    Ok(())
}
