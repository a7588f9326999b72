//! A whole directory made as a member makes it, then damaged part by part.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::apply::command::{Command, DeleteRange, Envelope, KeyRange, Put};
use crate::apply::{EntryData, StateMachine};
use crate::checkpoint::{self, CheckpointJob, Checkpointer, ColdValue};
use crate::mvcc::Mvcc;
use crate::raft_log::{LogEntry, LogOptions, Prepared, RaftLog};
use crate::types::{LeaseId, MemberId, RequestId, Revision, SegmentNumber};
use crate::vfs::real::RealVfs;

pub(super) const OURS: Identity = Identity {
    cluster_id: 11,
    member_id: MemberId(12),
};

/// Entries that no checkpoint covers.
const BEHIND_CHECKPOINT: usize = 3;

fn command(number: u64) -> Command {
    let key = Bytes::from(format!("key-{}", number % 7));
    match number {
        0 => Command::LeaseGrant {
            lease: LeaseId(5),
            ttl_seconds: 60,
        },
        20 => Command::Compact { revision: 12 },
        n if n % 9 == 8 => Command::DeleteRange(DeleteRange {
            range: KeyRange {
                key,
                range_end: Bytes::new(),
            },
            prev_kv: false,
        }),
        n => Command::Put(Put {
            key,
            value: Bytes::from(format!("value {n}").repeat(20)),
            lease: LeaseId(if n % 7 == 3 { 5 } else { 0 }),
            ..Put::default()
        }),
    }
}

/// Everything of one running member that a test needs.
pub(super) struct Member {
    pub(super) log: RaftLog,
    machine: StateMachine,
    checkpointer: Checkpointer,
    applied: u64,
}

pub(super) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        spares_max: 1,
        salt: 3,
    }
}

pub(super) fn start(directory: &Path) -> Member {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let store = Box::new(FjallStore::open_or_create(&*vfs, directory).unwrap());
    let started =
        checkpoint::start(vfs.clone(), directory, OURS, store, Mvcc::new(), None).unwrap();
    let manifest = started.checkpointer.published();
    let applied = (manifest.applied_index, manifest.applied_term);
    let path = directory.join(layout::LOG);
    let covered = (applied.0.0 > 0).then_some(applied);
    let log = Prepared::verify(vfs, &path, options(), covered).unwrap();
    require_values(&path, manifest, &started.reach, log.segments()).unwrap();
    let (log, recovered) = log.open().unwrap();
    // For who only wants to know that it starts: the entries behind the checkpoint.
    assert!(recovered.entries.len() <= BEHIND_CHECKPOINT);
    Member {
        log,
        machine: started.machine,
        checkpointer: started.checkpointer,
        applied: applied.0.0,
    }
}

impl Member {
    pub(super) fn apply(&mut self, count: u64) {
        for _ in 0..count {
            let envelope = Envelope {
                request_id: RequestId(0),
                command: command(self.applied),
            };
            self.applied += 1;
            let (index, term) = (LogIndex(self.applied), Term(1));
            let data = codec::encode(&envelope).unwrap();
            let entry = LogEntry {
                term,
                index,
                kind: EntryKind::Normal,
                data: data.clone(),
            };
            let group = self.log.append(None, &[entry]).unwrap();
            group.perform().unwrap();
            self.log.flushed(group.number());
            let place = self.log.data_place(index).unwrap();
            let data = EntryData {
                bytes: data.clone(),
                segment: place.segment,
                offset: place.offset,
            };
            let envelope = codec::decode(&data.bytes).unwrap();
            let outcome = self.machine.apply(index, term, &data, &envelope);
            assert!(outcome.result.is_ok());
        }
    }

    fn records(&self, after: Revision) -> Vec<Arc<crate::types::RecordMeta>> {
        let all = self.machine.mvcc().records_slice(after, usize::MAX);
        all.iter().map(|view| view.meta.clone()).collect()
    }

    /// A checkpoint that leaves out the segments in `gone`, their values moved.
    pub(super) fn checkpoint(&mut self, gone: &[SegmentNumber]) {
        let mut removed = Vec::new();
        while self
            .machine
            .mvcc_mut()
            .compact_slice(i64::MAX, 5, &mut removed)
        {}
        let reader = self.log.reader();
        let survivors = self.records(Revision::default());
        let survivors = survivors.iter().filter(|r| gone.contains(&r.place.segment));
        let moved: Vec<ColdValue> = survivors
            .map(|record| ColdValue {
                revision: record.revision,
                place: record.place,
                value: Bytes::from(reader.read_value(record.place).unwrap().unwrap()),
            })
            .collect();
        self.checkpointer.ingest_values(&moved, &mut || ()).unwrap();
        let before = self.checkpointer.published();
        let mut manifest = before.clone();
        manifest.describe(&self.machine);
        let segments = self.log.segments().map(|segment| segment.number);
        manifest.segments = segments.filter(|number| !gone.contains(number)).collect();
        let records = self.records(before.bound);
        let job = CheckpointJob {
            records,
            removed,
            manifest,
        };
        self.checkpointer.perform(job, &mut || ()).unwrap();
        self.log.release(LogIndex(self.applied));
        for segment in gone {
            self.log.retire(*segment).unwrap();
        }
    }
}

/// A member that ran twice: values in a log segment, cold values, a lease,
/// compacted records, and entries that no checkpoint covers.
pub(super) fn make(directory: &Path) {
    layout::create(&RealVfs, directory, OURS).unwrap();
    let mut member = start(directory);
    member.apply(25);
    member.checkpoint(&[]);
    drop(member);
    let mut member = start(directory);
    member.apply(10);
    let oldest = member.log.segments().next().unwrap().number;
    member.checkpoint(&[oldest]);
    member.apply(BEHIND_CHECKPOINT as u64);
}

pub(super) fn check_directory(directory: &Path) -> Result<Report, Fatal> {
    run(&RealVfs, directory, &mut |_| ())
}

#[test]
fn a_sound_directory_has_no_finding() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    make(&directory);
    let mut phases = BTreeMap::new();
    let report = run(&RealVfs, &directory, &mut |progress| {
        assert!(progress.done <= progress.total);
        *phases.entry(format!("{:?}", progress.phase)).or_insert(0) += 1;
    })
    .unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.identity, Some(OURS));
    assert_eq!(report.applied_index, LogIndex(35));
    assert_eq!(report.log_entries, 3);
    assert!(report.records > 10 && report.cold_values > 2, "{report:?}");
    assert_eq!(report.cold_surplus, 0);
    assert!(phases.contains_key("Log"));
    assert_eq!(check_directory(&directory).unwrap(), report);
}

#[test]
fn what_is_no_directory_of_ours_or_in_use_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |path: &Path| match check_directory(path) {
        Err(Fatal::Refused { detail, .. }) => detail,
        other => panic!("{other:?}"),
    };
    assert!(refused(&scratch.path().join("nowhere")).contains("no data directory"));
    assert!(refused(scratch.path()).contains("no data directory"));
    let directory = scratch.path().join("data");
    make(&directory);
    let held = layout::lock(&directory).unwrap();
    assert!(refused(&directory).contains("another process"));
    drop(held);
    fs::create_dir_all(directory.join("member/snap")).unwrap();
    assert!(refused(&directory).contains("etcd"));
}

/// Files below a directory with their content.
pub(super) fn snapshot(directory: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            snapshot(&path, into);
        } else {
            into.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

pub(super) fn restore(directory: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    fs::remove_dir_all(directory).unwrap();
    for (path, content) in files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// One flip in each part: a finding that names a file below the directory, or
/// no harm done. Flips in what a part certainly uses must be found.
#[test]
fn flips_are_found_and_named() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    make(&directory);
    let mut files = BTreeMap::new();
    snapshot(&directory, &mut files);
    let (mut found, mut unseen) = (0, Vec::new());
    for (path, content) in &files {
        let name = path.strip_prefix(&directory).unwrap().to_owned();
        let certain = name.starts_with("MANIFEST") || name.starts_with("STERNPOST");
        let table = name.components().any(|part| part.as_os_str() == "tables");
        let log = name.starts_with("log") && !name.to_string_lossy().contains("spare");
        if !(certain || table || log) {
            continue;
        }
        let used = content.len() - content.iter().rev().take_while(|byte| **byte == 0).count();
        for at in (0..used).step_by(used.div_ceil(6).max(1)) {
            let mut flipped = content.clone();
            flipped[at] ^= 0x20;
            restore(&directory, &files);
            fs::write(path, flipped).unwrap();
            match check_directory(&directory) {
                Ok(report) if report.is_clean() => unseen.push((name.clone(), at)),
                Ok(report) => {
                    found += 1;
                    for finding in &report.findings {
                        let inside = finding.path.starts_with(&directory);
                        assert!(inside, "{name:?} at {at}: {finding:?}");
                    }
                }
                Err(Fatal::Refused { .. } | Fatal::Io { .. }) => found += 1,
                Err(other) => panic!("{name:?} at {at}: {other:?}"),
            }
            assert!(
                !certain || unseen.last().is_none_or(|last| last.0 != name),
                "a flip of {name:?} at {at} is not seen"
            );
        }
    }
    assert!(found > 20, "{found} found, unseen: {unseen:?}");
    assert!(unseen.len() <= found / 4, "unseen: {unseen:?}");
}

#[test]
fn what_contradicts_another_part_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    make(&directory);
    let mut files = BTreeMap::new();
    snapshot(&directory, &mut files);
    let manifest = Manifest::read(&RealVfs, &directory).unwrap().unwrap();
    type Spoil = fn(&mut Manifest);
    let spoils: [(Spoil, &str); 8] = [
        (|m| m.leases.clear(), "hangs on lease"),
        (|m| m.index.count -= 1, "the index checkpoint has"),
        (|m| m.index.hash ^= 1, "the index checkpoint has"),
        (|m| m.live_hash ^= 1, "the live keys have the hash"),
        (|m| m.applied_term = Term(9), "has term"),
        (|m| m.cold.hash ^= 1, "records of cold values"),
        (
            |m| {
                m.applied_index = LogIndex(99);
                m.first_needed_index = LogIndex(100);
            },
            "covers entries up to 99",
        ),
        (
            |m| m.identity.member_id = MemberId(13),
            "belongs to another member",
        ),
    ];
    for (spoil, expected) in spoils {
        restore(&directory, &files);
        let mut wrong = manifest.clone();
        spoil(&mut wrong);
        wrong.publish(&RealVfs, &directory).unwrap();
        let report = check_directory(&directory).unwrap();
        assert!(
            report.findings.iter().any(|f| f.detail.contains(expected)),
            "{expected}: {:?}",
            report.findings
        );
    }
    // A listed segment may be gone when nothing lies in it: an empty newest one, of which a
    // start makes a spare, and one that a later manifest left out. A start takes both.
    let next = manifest.segments.last().unwrap().0 + 1;
    for (place, number) in [(0, 0), (manifest.segments.len(), next)] {
        restore(&directory, &files);
        let mut listed = manifest.clone();
        listed.segments.insert(place, SegmentNumber(number));
        listed.publish(&RealVfs, &directory).unwrap();
        let report = check_directory(&directory).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        drop(start(&directory));
    }

    restore(&directory, &files);
    fs::remove_file(directory.join(layout::MANIFEST)).unwrap();
    let report = check_directory(&directory).unwrap();
    assert!(!report.is_clean());
    restore(&directory, &files);
    for segment in &manifest.segments {
        restore(&directory, &files);
        let file = format!("log/{:010}.segment", segment.0);
        fs::remove_file(directory.join(&file)).unwrap();
        let report = check_directory(&directory).unwrap();
        assert!(!report.is_clean(), "{file} is missing");
    }
}
