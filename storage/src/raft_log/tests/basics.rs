//! Round trips, rolls, suffix replacement, spares and readers, on real files.

use std::sync::Arc;

use super::{START, entry, flush, hard_state, open, options, put};
use crate::error::Fatal;
use crate::raft_log::{HardState, LogEntry, RaftLog};
use crate::types::{LogIndex, Place, SegmentNumber, Term};
use crate::vfs::real::RealVfs;

fn real(directory: &std::path::Path, applied: (LogIndex, Term)) -> (RaftLog, super::Recovered) {
    open(Arc::new(RealVfs), directory, applied).unwrap()
}

fn place_of(log: &RaftLog, entry: &LogEntry) -> Place {
    let place = log.data_place(entry.index).unwrap();
    assert_eq!(place.length as usize, entry.data.len());
    Place {
        segment: place.segment,
        offset: place.offset,
        length: place.length,
        crc: crc32fast::hash(&entry.data),
    }
}

#[test]
fn everything_appended_comes_back_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let entries: Vec<LogEntry> = (1..=60)
        .map(|i| entry(i, 1 + i / 20, (i as usize * 97) % 3000))
        .collect();
    let (mut log, recovered) = real(&path, START);
    assert_eq!(recovered, super::Recovered::default());
    put(&mut log, Some(hard_state(1, 7, 0)), &[]);
    for chunk in entries.chunks(7) {
        let group = log.append(None, chunk).unwrap();
        assert_eq!(group.bytes().len() % 4096, 0);
        assert_eq!(group.bytes().as_ptr().align_offset(4096), 0);
        assert_eq!(group.offset() % 4096, 0);
        flush(&mut log, &group);
    }
    put(&mut log, Some(hard_state(4, 2, 50)), &[]);
    assert!(log.segments().count() > 3, "the test must roll");
    let read = log.entries(LogIndex(1), LogIndex(61), u64::MAX).unwrap();
    assert_eq!(read, entries);
    drop(log);
    for applied in [0, 1, 30, 60] {
        let term = if applied == 0 {
            Term(0)
        } else {
            entries[applied - 1].term
        };
        let (log, recovered) = real(&path, (LogIndex(applied as u64), term));
        assert_eq!(recovered.entries, entries[applied..]);
        let commit = 50.max(applied as u64);
        assert_eq!(log.hard_state(), hard_state(4, 2, commit));
        assert_eq!(recovered.torn_tail, None);
        for entry in &recovered.entries {
            let value = log.reader().read_value(place_of(&log, entry)).unwrap();
            assert_eq!(value.as_deref(), Some(&entry.data[..]));
        }
    }
}

#[test]
fn a_replaced_suffix_stays_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let (mut log, _) = real(&path, START);
    put(
        &mut log,
        None,
        &(1..=9).map(|i| entry(i, 1, 10)).collect::<Vec<_>>(),
    );
    put(&mut log, None, &[entry(5, 2, 20)]);
    let expected: Vec<_> = (1..=4)
        .map(|i| entry(i, 1, 10))
        .chain([entry(5, 2, 20)])
        .collect();
    assert_eq!(log.last(), (LogIndex(5), Term(2)));
    assert_eq!(
        log.entries(LogIndex(1), LogIndex(6), u64::MAX).unwrap(),
        expected
    );
    drop(log);
    let (mut log, recovered) = real(&path, START);
    assert_eq!(recovered.entries, expected);
    put(&mut log, None, &[entry(4, 3, 5)]);
    drop(log);
    let (_, recovered) = real(&path, START);
    assert_eq!(recovered.entries[3..], [entry(4, 3, 5)]);
}

#[test]
fn restarts_without_writes_leave_no_segments_behind() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    for _ in 0..5 {
        let (log, _) = real(&path, START);
        assert_eq!(log.segments().count(), 1);
    }
    let (mut log, _) = real(&path, START);
    put(&mut log, None, &[entry(1, 1, 10)]);
    drop(log);
    for _ in 0..5 {
        let (log, recovered) = real(&path, START);
        assert_eq!(recovered.entries, [entry(1, 1, 10)]);
        assert_eq!(log.segments().count(), 2);
    }
}

#[test]
fn a_group_in_flight_is_readable_and_a_large_one_gets_a_segment_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = real(&root.path().join("log"), START);
    let large = entry(1, 1, 100_000);
    let first = log.append(None, std::slice::from_ref(&large)).unwrap();
    let second = log
        .append(Some(hard_state(1, 1, 1)), &[entry(2, 1, 0)])
        .unwrap();
    assert_eq!(second.last(), Some((LogIndex(2), Term(1))));
    let read = log.entries(LogIndex(1), LogIndex(3), 1).unwrap();
    assert_eq!(read, std::slice::from_ref(&large));
    flush(&mut log, &first);
    flush(&mut log, &second);
    let read = log.entries(LogIndex(1), LogIndex(3), u64::MAX).unwrap();
    assert_eq!(read, [large, entry(2, 1, 0)]);
}

#[test]
fn a_proof_group_is_offered_once_per_idle_phase() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = real(&root.path().join("log"), START);
    assert!(log.proof_group().unwrap().is_none());
    let group = log.append(None, &[entry(1, 1, 10)]).unwrap();
    assert!(log.proof_group().unwrap().is_none(), "a group is in flight");
    flush(&mut log, &group);
    let proof = log.proof_group().unwrap().unwrap();
    assert_eq!(proof.last(), None);
    assert_eq!(proof.bytes().len(), 4096);
    flush(&mut log, &proof);
    assert!(log.proof_group().unwrap().is_none());
}

#[test]
fn retired_segments_become_spares_and_their_bytes_never_pass_as_new() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let (mut log, _) = real(&path, START);
    let mut recycled = 0;
    for index in 1..=80 {
        put(
            &mut log,
            Some(hard_state(1, 1, index - 1)),
            &[entry(index, 1, 3000)],
        );
        if index % 8 != 0 {
            continue;
        }
        let old = log.data_place(LogIndex(index - 7)).unwrap();
        let place = Place {
            segment: old.segment,
            offset: old.offset,
            length: old.length,
            crc: 0,
        };
        let reader = log.reader();
        log.release(LogIndex(index));
        let sealed: Vec<_> = log
            .segments()
            .filter(|s| s.sealed)
            .map(|s| s.number)
            .collect();
        for number in &sealed {
            log.retire(*number).unwrap();
        }
        if sealed.contains(&place.segment) {
            assert_eq!(reader.read_value(place).unwrap(), None);
        }
        while let Some(job) = log.spare_job() {
            assert!(log.spare_job().is_none(), "one job at a time");
            let spare = job.perform(&mut || ()).unwrap();
            recycled += usize::from(spare.file.as_ref().is_some_and(|f| f.recycled));
            log.add_spare(spare);
        }
    }
    assert!(recycled > 3, "recycled only {recycled}");
    let last = log.segments().map(|s| s.number).max().unwrap();
    drop(log);
    let (log, recovered) = real(&path, (LogIndex(80), Term(1)));
    assert_eq!(recovered.entries, []);
    assert_eq!(log.last(), (LogIndex(80), Term(1)));
    assert!(log.segments().all(|s| s.number > SegmentNumber(last.0 - 2)));
}

#[test]
fn a_manifest_that_does_not_fit_the_log_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let missing = open(Arc::new(RealVfs), &path, (LogIndex(3), Term(1))).unwrap_err();
    assert!(matches!(missing, Fatal::Refused { .. }), "{missing}");
    let (mut log, _) = real(&path, START);
    put(&mut log, None, &[entry(1, 1, 10), entry(2, 1, 10)]);
    drop(log);
    for applied in [(LogIndex(3), Term(1)), (LogIndex(2), Term(2))] {
        let error = open(Arc::new(RealVfs), &path, applied).unwrap_err();
        assert!(matches!(error, Fatal::Corruption { .. }), "{error}");
    }
    assert!(open(Arc::new(RealVfs), &path, (LogIndex(2), Term(1))).is_ok());
}

#[test]
fn a_log_can_begin_after_any_entry() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let base = (LogIndex(100), Term(5));
    let mut log = RaftLog::create(Arc::new(RealVfs), &path, options(), base).unwrap();
    put(&mut log, None, &[entry(101, 5, 10)]);
    drop(log);
    let (log, recovered) = real(&path, base);
    assert_eq!(recovered.entries, [entry(101, 5, 10)]);
    assert_eq!(
        log.hard_state(),
        HardState {
            term: Term(5),
            commit: LogIndex(100),
            ..HardState::default()
        }
    );
    let again = RaftLog::create(Arc::new(RealVfs), &path, options(), base).unwrap_err();
    assert!(matches!(again, Fatal::Refused { .. }), "{again}");
}

#[test]
fn a_newer_format_is_refused_before_any_write() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    drop(real(&path, START));
    let file = path.join("0000000001.segment");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&[&bytes[..12], &bytes[16..4096]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&file, &bytes).unwrap();
    std::fs::write(path.join("0000000009.filling"), b"half").unwrap();
    let error = open(Arc::new(RealVfs), &path, START).unwrap_err();
    assert!(matches!(error, Fatal::Refused { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    assert!(path.join("0000000009.filling").exists());
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
}
