//! Damage to the end of a segment whose next one was cleaned: nothing but the values in it
//! says that more was there.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::tests::{OURS, check_directory, options, start};
use super::*;
use crate::checkpoint::{FjallStore, Manifest, install, layout};
use crate::limits::GROUP_ALIGNMENT_BYTES;
use crate::mvcc::Mvcc;
use crate::raft_log::Prepared;
use crate::types::LogIndex;
use crate::vfs::real::RealVfs;

/// A directory whose second segment of three was cleaned; the first one, and where its last
/// group begins and ends.
fn directory_with_a_gap(directory: &Path) -> (PathBuf, u64, u64) {
    layout::create(&RealVfs, directory, OURS).unwrap();
    let mut numbers = Vec::new();
    for count in [8, 9, 5] {
        let mut member = start(directory);
        member.apply(count);
        let active = member.log.segments().last().unwrap();
        numbers.push((active.number, active.bytes_used));
        let gone = numbers.get(1).filter(|_| numbers.len() == 3);
        let gone: Vec<_> = gone.map(|(number, _)| *number).into_iter().collect();
        member.checkpoint(&gone);
        // The file goes when it becomes a spare; a start finds it until then.
        for number in gone {
            let path = segment_path(&directory.join(layout::LOG), number);
            fs::remove_file(path).unwrap();
        }
    }
    let (first, end) = numbers[0];
    let path = segment_path(&directory.join(layout::LOG), first);
    (path, end - GROUP_ALIGNMENT_BYTES, end)
}

/// What a start says before it writes anything.
fn refusal(directory: &Path) -> Option<Fatal> {
    let manifest = Manifest::read(&RealVfs, directory).unwrap().unwrap();
    let store = FjallStore::open_or_create(&RealVfs, directory).unwrap();
    let installed = install(&manifest, &store, Mvcc::new(), None).unwrap();
    let covered = Some((manifest.applied_index, manifest.applied_term));
    let path = directory.join(layout::LOG);
    let log = Prepared::verify(Arc::new(RealVfs), &path, options(), covered).unwrap();
    require_values(&path, &manifest, &installed.reach, log.segments()).err()
}

#[test]
fn the_last_group_before_a_cleaned_segment_is_missed() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let (path, begin, end) = directory_with_a_gap(&directory);
    assert!(check_directory(&directory).unwrap().is_clean());
    assert!(refusal(&directory).is_none());
    let whole = fs::read(&path).unwrap();
    let header = begin..begin + 64;
    let mut struck: Vec<(String, Vec<u8>)> = header
        .chain((begin..end).step_by(97))
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[usize::try_from(at).unwrap()] ^= 0x10;
            (format!("flipped at {at}"), bytes)
        })
        .collect();
    for length in [begin, begin + 64, end - 1] {
        let cut = whole[..usize::try_from(length).unwrap()].to_vec();
        struck.push((format!("cut at {length}"), cut));
    }
    for (what, bytes) in struck {
        fs::write(&path, bytes).unwrap();
        let found = check_directory(&directory).unwrap().findings;
        let found: Vec<_> = found.iter().map(|f| (f.path.clone(), f.offset)).collect();
        assert_eq!(found, [(path.clone(), begin)], "{what}");
        match refusal(&directory) {
            Some(Fatal::Corruption {
                path: named,
                offset,
                ..
            }) => assert_eq!((named, offset), (path.clone(), begin), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// Every entry and value that the manifest names lies in the log's first segment, which is
/// all that an older copy of the log had.
#[test]
fn an_older_log_is_refused_though_nothing_is_missing() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let (path, ..) = directory_with_a_gap(&directory);
    let manifest = Manifest::read(&RealVfs, &directory).unwrap().unwrap();
    let info = |number, last| SegmentInfo {
        number: SegmentNumber(number),
        first: None,
        last,
        bytes_used: 4096,
        sealed: true,
    };
    let log = directory.join(layout::LOG);
    let judge = |numbers: &[u32]| {
        let found = numbers.iter().map(|number| info(*number, None));
        require_values(&log, &manifest, &Reach::default(), found)
    };
    // The second one was left out, so its entries are covered.
    let applied = manifest.applied_index;
    for (last, is_covered) in [(applied, true), (LogIndex(applied.0 + 1), false)] {
        let found = [info(1, None), info(2, Some(last)), info(3, None)];
        let judged = require_values(&log, &manifest, &Reach::default(), found.into_iter());
        assert_eq!(judged.is_ok(), is_covered, "{judged:?}");
    }
    assert_eq!(manifest.segments, [SegmentNumber(1), SegmentNumber(3)]);
    match judge(&[1]) {
        Err(Fatal::Corruption { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
    judge(&[1, 3]).unwrap();
    // The third one was only just begun when the power was cut.
    judge(&[1, 2]).unwrap();
    judge(&[]).unwrap();
}
