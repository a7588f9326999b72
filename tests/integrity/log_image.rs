//! A log of three full segments with all kinds of records, and what must become of it when
//! bytes of its files change: the verdict is computed from the bytes alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use storage::error::Fatal;
use storage::raft_log::{
    EntryKind, GroupWrite, HardState, LogEntry, LogOptions, RaftLog, Recovered,
};
use storage::types::{LogIndex, MemberId, Term};
use storage::vfs::Vfs;
use storage::vfs::sim::SimDisk;

pub const BLOCK: usize = 4096;
const GROUP_HEADER: usize = 64;
pub const START: (LogIndex, Term) = (LogIndex(0), Term(0));
/// Blocks of the groups of each segment: together they fill it to the last byte.
const GROUPS: [&[usize]; 3] = [&[1, 1, 2, 1], &[2, 1, 1, 1], &[1, 3, 1]];
/// The group, of those above, that holds no record and proves the one before.
const PROOF: usize = 6;

pub fn directory() -> PathBuf {
    PathBuf::from("/member/log")
}

fn options(blocks: u64) -> LogOptions {
    LogOptions {
        segment_bytes: blocks * BLOCK as u64,
        first_segment_bytes: blocks * BLOCK as u64,
        spares_max: 1,
        salt: 0x5EED,
    }
}

pub struct Group {
    pub path: PathBuf,
    pub offset: usize,
    pub end: usize,
}

/// What opening must give.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// The state after so many groups.
    Groups(usize),
    /// A refusal that names this file and, where it is not a header, this offset.
    Refused(PathBuf, Option<u64>),
}

pub struct LogImage {
    pub disk: SimDisk,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub groups: Vec<Group>,
    /// State after each group, the empty log first.
    states: Vec<(HardState, Vec<LogEntry>)>,
}

pub fn flush(log: &mut RaftLog, group: &GroupWrite) {
    group.perform().unwrap();
    log.flushed(group.number());
}

pub fn entry(index: u64, term: u64, length: usize) -> LogEntry {
    let kind = match index % 5 {
        3 => EntryKind::ConfChange,
        4 => EntryKind::ConfChangeV2,
        _ => EntryKind::Normal,
    };
    let data: Vec<u8> = (0..length)
        .map(|at| (at as u64 * 31 + index * 7 + term) as u8)
        .collect();
    LogEntry {
        term: Term(term),
        index: LogIndex(index),
        kind,
        data: Bytes::from(data),
    }
}

/// What the group of this number holds: `blocks` of it, with a replaced suffix in group 4,
/// a hard state alone in group 1, an empty entry in each that has several.
fn content(
    number: usize,
    blocks: usize,
    last: &(HardState, Vec<LogEntry>),
) -> (Option<HardState>, Vec<LogEntry>) {
    let mut next = last.1.len() as u64 + 1;
    let term = 1 + number as u64 / 4;
    let state = HardState {
        term: Term(term),
        vote: MemberId(number as u64 % 3),
        commit: LogIndex(last.0.commit.0.max(next.saturating_sub(4))),
    };
    if number == 1 {
        return (Some(state), Vec::new());
    }
    if number == 4 {
        next -= 1;
    }
    let state = number.is_multiple_of(2).then_some(state);
    let term = if state.is_some() {
        term
    } else {
        last.0.term.0.max(1)
    };
    let room = blocks * BLOCK - 900;
    let entries = [room / 2, 0, room / 3, 13];
    let entries = (next..)
        .zip(entries)
        .map(|(index, length)| entry(index, term, length));
    (state, entries.collect())
}

impl LogImage {
    pub fn build() -> LogImage {
        let disk = SimDisk::new(3);
        let vfs = Arc::new(disk.clone());
        let (mut log, _) = RaftLog::open(vfs, &directory(), options(6), START).unwrap();
        let mut states = vec![(HardState::default(), Vec::new())];
        let mut groups = Vec::new();
        for blocks in GROUPS.into_iter().flatten() {
            let last = states.last().unwrap().clone();
            let (group, next) = if groups.len() == PROOF {
                (log.proof_group().unwrap().unwrap(), last)
            } else {
                let (state, new) = content(groups.len(), *blocks, &last);
                let (mut hard, mut entries) = last;
                hard = state.unwrap_or(hard);
                if let Some(first) = new.first() {
                    entries.truncate(first.index.0 as usize - 1);
                }
                entries.extend(new.iter().cloned());
                (log.append(state, &new).unwrap(), (hard, entries))
            };
            flush(&mut log, &group);
            let offset = group.offset() as usize;
            groups.push(Group {
                path: group.path().to_path_buf(),
                offset,
                end: offset + group.bytes().len(),
            });
            assert_eq!(
                group.bytes().len(),
                blocks * BLOCK,
                "group {}",
                groups.len()
            );
            states.push(next);
        }
        assert_eq!(log.segments().count(), GROUPS.len());
        let segments = disk.files().into_iter();
        let segments = segments.filter(|f| f.extension().is_some_and(|e| e == "segment"));
        let files = segments.map(|path| (path.clone(), disk.contents(&path)));
        LogImage {
            files: files.collect(),
            disk,
            groups,
            states,
        }
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// Opens the log with these files changed, or gone.
    pub fn open(&self, changed: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> Result<Recovered, Fatal> {
        let disk = self.disk.power_cut(1);
        for (path, bytes) in changed {
            match bytes {
                Some(bytes) => disk.damage(path, bytes.clone()),
                None => disk.remove_file(path).unwrap(),
            }
        }
        RaftLog::open(Arc::new(disk), &directory(), options(2), START).map(|(_, found)| found)
    }

    /// What must come of it.
    pub fn verdict(&self, changed: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> Verdict {
        let bytes = |path: &Path| match changed.get(path) {
            Some(bytes) => bytes.as_deref(),
            None => self.files.get(path).map(Vec::as_slice),
        };
        let same = |path: &Path, from: usize, to: usize| {
            let found = bytes(path).and_then(|found| found.get(from..to));
            found == self.files[path].get(from..to)
        };
        let present: Vec<&PathBuf> = self
            .files
            .keys()
            .filter(|path| bytes(path).is_some())
            .collect();
        let newest = *present.last().expect("a segment is left");
        let damaged = |path: &&&PathBuf| !same(path, 0, BLOCK);
        let not_newest = |path: &&&PathBuf| **path != newest || present.len() == 1;
        if let Some(path) = present.iter().filter(not_newest).find(damaged) {
            return Verdict::Refused(path.to_path_buf(), None);
        }
        // The newest header may have been written with the first group behind it.
        let void = Some(newest).filter(|path| !same(path, 0, BLOCK));
        let in_void = |group: &Group| void == Some(&group.path);
        let whole = |group: &Group| same(&group.path, group.offset, group.end) && !in_void(group);
        let Some(first) = self.groups.iter().position(|group| !whole(group)) else {
            return Verdict::Groups(self.groups.len());
        };
        let at = &self.groups[first];
        let begun = |group: &&Group| same(&group.path, group.offset, group.offset + GROUP_HEADER);
        let (_, later) = self.groups.split_at(first + 1);
        let mut later = later.iter().filter(begun);
        // The header of a later segment says that all before it was synced.
        let header = present
            .iter()
            .any(|path| **path > at.path && void != Some(*path));
        let proven = later.clone().any(|group| !in_void(group)) || header;
        if proven && !in_void(at) {
            return Verdict::Refused(at.path.clone(), Some(at.offset as u64));
        }
        match void {
            Some(void) if later.any(in_void) => Verdict::Refused(void.clone(), None),
            _ => Verdict::Groups(first),
        }
    }

    /// Opens the log with these changes; panics unless it comes out as it must. True when
    /// it opened.
    pub fn check(&self, changed: &BTreeMap<PathBuf, Option<Vec<u8>>>, what: &str) -> Verdict {
        let expected = self.verdict(changed);
        let found = match self.open(changed) {
            Ok(recovered) => {
                let groups = match expected {
                    Verdict::Groups(groups) => groups,
                    Verdict::Refused(..) => panic!("{what}: opened instead of {expected:?}"),
                };
                let (hard, entries) = &self.states[groups];
                assert_eq!(recovered.hard_state, *hard, "{what}");
                assert!(recovered.entries == *entries, "{what}: other entries");
                Verdict::Groups(groups)
            }
            Err(Fatal::Corruption { path, offset, .. }) => {
                let offset = match &expected {
                    Verdict::Refused(_, Some(_)) => Some(offset),
                    _ => None,
                };
                Verdict::Refused(path, offset)
            }
            Err(other) => panic!("{what}: {other} instead of {expected:?}"),
        };
        assert_eq!(found, expected, "{what}");
        found
    }
}
