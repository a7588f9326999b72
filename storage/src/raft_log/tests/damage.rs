//! One flip at every byte, and a cut at every byte, of a small log of several
//! segments with all kinds of records: the exact longest prefix, or a refusal
//! that names the file; never a panic, never other data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{START, directory, entry, flush, hard_state, options};
use crate::error::Fatal;
use crate::raft_log::{HardState, LogEntry, LogOptions, RaftLog, Recovered};
use crate::types::LogIndex;
use crate::vfs::Vfs;
use crate::vfs::sim::SimDisk;

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 12 << 10,
        first_segment_bytes: 12 << 10,
        ..options()
    }
}

struct Built {
    disk: SimDisk,
    /// State after each group, the empty log first.
    states: Vec<(HardState, Vec<LogEntry>)>,
    /// File, offset and end of each group.
    groups: Vec<(PathBuf, u64, u64)>,
}

fn build(proof: bool) -> Built {
    let disk = SimDisk::new(3);
    let vfs = Arc::new(disk.clone());
    let (mut log, _) = RaftLog::open(vfs, &directory(), small(), START).unwrap();
    let mut states = vec![(HardState::default(), Vec::new())];
    let mut groups = Vec::new();
    let plan: [(Option<HardState>, Vec<LogEntry>); 5] = [
        (Some(hard_state(1, 2, 0)), vec![entry(1, 1, 700)]),
        (
            None,
            vec![entry(2, 1, 0), entry(3, 1, 33), entry(4, 1, 500)],
        ),
        (Some(hard_state(2, 1, 2)), vec![]),
        (
            Some(hard_state(2, 1, 2)),
            vec![entry(4, 2, 2000), entry(5, 2, 90)],
        ),
        (None, vec![entry(6, 2, 1000)]),
    ];
    for (state, new) in plan {
        let group = log.append(state, &new).unwrap();
        flush(&mut log, &group);
        let end = group.offset() + group.bytes().len() as u64;
        groups.push((group.path().to_path_buf(), group.offset(), end));
        let (mut hard, mut entries) = states.last().unwrap().clone();
        hard = state.unwrap_or(hard);
        if let Some(first) = new.first() {
            entries.truncate(first.index.0 as usize - 1);
        }
        entries.extend(new);
        states.push((hard, entries));
    }
    if proof {
        let group = log.proof_group().unwrap().unwrap();
        flush(&mut log, &group);
        let end = group.offset() + group.bytes().len() as u64;
        groups.push((group.path().to_path_buf(), group.offset(), end));
        states.push(states.last().unwrap().clone());
    }
    assert_eq!(log.segments().count(), 3);
    Built {
        disk,
        states,
        groups,
    }
}

impl Built {
    /// Opens the log with one file changed.
    fn damaged(
        &self,
        path: &Path,
        bytes: Vec<u8>,
        without: &[PathBuf],
    ) -> Result<Recovered, Fatal> {
        let disk = self.disk.power_cut(1);
        for path in without {
            disk.remove_file(path).unwrap();
        }
        disk.damage(path, bytes);
        RaftLog::open(Arc::new(disk), &directory(), small(), START).map(|(_, found)| found)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = self.disk.files().into_iter();
        files
            .filter(|f| f.extension().is_some_and(|e| e == "segment"))
            .collect()
    }

    /// True for a byte of the newest segment's header while it has one group.
    fn is_opening(&self, path: &Path, at: usize) -> bool {
        let (last, from, _) = self.groups.last().unwrap();
        at < 4096 && path == last && *from == 4096
    }

    fn is_state(&self, recovered: &Recovered, groups: usize) -> bool {
        let (hard, entries) = &self.states[groups];
        recovered.hard_state == *hard && recovered.entries == *entries
    }
}

/// The file that a refusal names, and the offset where it is corruption.
fn named(error: Fatal) -> (PathBuf, Option<u64>) {
    match error {
        Fatal::Corruption { path, offset, .. } => (path, Some(offset)),
        Fatal::Refused { path, .. } => (path, None),
        Fatal::Io { .. } => panic!("an I/O error instead of a refusal: {error}"),
    }
}

fn flip_every_byte(built: &Built) -> (usize, usize, usize) {
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    let all = built.groups.len();
    for path in built.segments() {
        let whole = built.disk.contents(&path);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let position = at as u64;
            let hit = built
                .groups
                .iter()
                .position(|(file, from, to)| *file == path && (*from..*to).contains(&position));
            match built.damaged(&path, bytes, &[]) {
                Err(error) => {
                    let (file, offset) = named(error);
                    assert_eq!(file, path, "byte {at}");
                    assert!(
                        offset.is_none_or(
                            |o| o <= position.max(24) && position - o.min(position) < 4096
                        )
                    );
                    assert!(at < 4096 || hit.is_some_and(|g| g + 1 < all), "byte {at}");
                    assert!(!built.is_opening(&path, at), "byte {at}");
                    refused += 1;
                }
                Ok(recovered) if built.is_opening(&path, at) => {
                    // The header may have been written with the last group.
                    assert!(built.is_state(&recovered, all - 1), "byte {at}");
                    assert!(recovered.torn_tail.is_some(), "byte {at}: cut in silence");
                    cut += 1;
                }
                Ok(recovered) if hit.is_none() => {
                    assert!(at >= 4096, "{}: byte {at} of the header", path.display());
                    assert!(built.is_state(&recovered, all), "byte {at}");
                    harmless += 1;
                }
                Ok(recovered) => {
                    assert_eq!(hit, Some(all - 1), "{}: byte {at}", path.display());
                    assert!(built.is_state(&recovered, all - 1), "byte {at}");
                    assert!(recovered.torn_tail.is_some(), "byte {at}: cut in silence");
                    cut += 1;
                }
            }
        }
    }
    (refused, cut, harmless)
}

#[test]
fn a_flip_at_any_byte_is_detected_or_harmless() {
    let built = build(false);
    let (refused, cut, harmless) = flip_every_byte(&built);
    assert_eq!(
        (refused, cut, harmless),
        (2 * 4096 + 4 * 4096, 2 * 4096, 4096)
    );
}

#[test]
fn a_proof_group_closes_the_window_for_the_last_answered_write() {
    let built = build(true);
    let all = built.groups.len();
    let answered = &built.groups[all - 2];
    let (refused, cut, _) = flip_every_byte(&built);
    assert_eq!((refused, cut), (3 * 4096 + 5 * 4096, 4096));
    let mut bytes = built.disk.contents(&answered.0);
    bytes[answered.1 as usize + 100] ^= 4;
    let error = built.damaged(&answered.0, bytes, &[]).unwrap_err();
    assert_eq!(named(error), (answered.0.clone(), Some(answered.1)));
}

#[test]
fn a_cut_at_any_byte_gives_the_longest_prefix_or_a_refusal() {
    let built = build(false);
    let segments = built.segments();
    for (number, path) in segments.iter().enumerate() {
        let whole = built.disk.contents(path);
        let earlier = built.groups.iter().filter(|g| g.0 < *path).count();
        for length in 0..whole.len() {
            let bytes = whole[..length].to_vec();
            let inside = built
                .groups
                .iter()
                .filter(|g| g.0 == *path && g.2 <= length as u64)
                .count();
            let all_inside = built.groups.iter().filter(|g| g.0 == *path).count();
            let last = number + 1 == segments.len();
            // With the later segments in place a loss below them is corruption.
            let found = built.damaged(path, bytes.clone(), &[]);
            match found {
                Err(error) => {
                    assert_eq!(named(error).0, *path, "cut at {length}");
                    assert!(
                        !last && (length < 4096 || inside < all_inside),
                        "cut at {length}"
                    );
                }
                Ok(recovered) => {
                    assert!(last || length >= 4096);
                    let expected = if last {
                        earlier + inside
                    } else {
                        built.groups.len()
                    };
                    assert!(built.is_state(&recovered, expected), "cut at {length}");
                }
            }
            if last {
                continue;
            }
            match built.damaged(path, bytes, &segments[number + 1..]) {
                Err(error) => {
                    assert_eq!(named(error).0, *path, "cut at {length}");
                    assert!(length < 4096 && number == 0, "cut at {length}");
                }
                Ok(recovered) => {
                    assert!(
                        built.is_state(&recovered, earlier + inside),
                        "cut at {length}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let built = build(false);
    let segments = built.segments();
    let first = built.disk.contents(&segments[0]);
    let error = built
        .damaged(&segments[0], first.clone(), &segments[1..2])
        .unwrap_err();
    assert_eq!(named(error), (segments[2].clone(), Some(64)));
    let error = built.damaged(&segments[1], first, &[]).unwrap_err();
    assert_eq!(named(error), (segments[1].clone(), Some(16)));
}

/// A misdirected write: a whole group lands where another one of its size was. Each record in
/// it carries a right checksum.
#[test]
fn an_entry_that_lies_in_the_place_of_another_is_not_served() {
    let disk = SimDisk::new(3);
    let vfs = Arc::new(disk.clone());
    let (mut log, _) = RaftLog::open(vfs, &directory(), options(), START).unwrap();
    let mut places = Vec::new();
    for index in 1..=2 {
        let group = log.append(None, &[entry(index, 1, 300)]).unwrap();
        flush(&mut log, &group);
        places.push((group.path().to_path_buf(), group.offset() as usize));
    }
    let whole = log.entries(LogIndex(2), LogIndex(3), u64::MAX).unwrap();
    assert_eq!(whole, [entry(2, 1, 300)]);
    let [(path, from), (_, to)] = &places[..] else {
        panic!("two groups");
    };
    let mut bytes = disk.contents(path);
    bytes.copy_within(*from..from + 4096, *to);
    disk.damage(path, bytes);
    let refused = log.entries(LogIndex(2), LogIndex(3), u64::MAX).unwrap_err();
    assert!(
        refused.to_string().contains("entry 1 lies where 2"),
        "{refused}"
    );
}

/// A misdirected write leaves the header of another segment: damage where something was
/// written to this one, no harm to one that was only prepared.
#[test]
fn another_segments_header_is_no_harm_to_a_segment_that_was_not_begun() {
    let built = build(false);
    let segments = built.segments();
    let header = built.disk.contents(&segments[0])[..4096].to_vec();
    let prepared = directory().join("0000000004.segment");
    let mut bytes = vec![0; 12 << 10];
    bytes[..4096].copy_from_slice(&header);
    built.disk.put_back(&prepared, bytes.clone());
    let recovered = built.damaged(&prepared, bytes, &[]).unwrap();
    assert!(built.is_state(&recovered, built.groups.len()));
    built.disk.take_away(&prepared);
    for path in &segments[1..] {
        let mut bytes = built.disk.contents(path);
        bytes[..4096].copy_from_slice(&header);
        match built.damaged(path, bytes, &[]) {
            Err(Fatal::Corruption { path: named, .. }) => assert_eq!(named, *path),
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}
