//! Tests of the log. `basics` drives it as its owner does, on real
//! files; `crash` and `damage` take a simulated disk apart.

#![expect(
    clippy::cast_possible_truncation,
    reason = "the logs of these tests are small"
)]

mod basics;
mod crash;
mod damage;
mod scrub;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{EntryKind, GroupWrite, HardState, LogEntry, LogOptions, RaftLog, Recovered};
use crate::error::Fatal;
use crate::types::{LogIndex, MemberId, Term};
use crate::vfs::Vfs;

/// Small segments, so that a few groups roll.
pub(super) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 32 << 10,
        first_segment_bytes: 16 << 10,
        spares_max: 1,
        salt: 0x5EED,
    }
}

pub(super) const START: (LogIndex, Term) = (LogIndex(0), Term(0));

pub(super) fn directory() -> PathBuf {
    PathBuf::from("/member/log")
}

pub(super) fn open(
    vfs: Arc<dyn Vfs>,
    directory: &Path,
    applied: (LogIndex, Term),
) -> Result<(RaftLog, Recovered), Fatal> {
    RaftLog::open(vfs, directory, options(), applied)
}

/// An entry whose data can be told from any other entry's.
pub(super) fn entry(index: u64, term: u64, length: usize) -> LogEntry {
    let kind = match index % 5 {
        3 => EntryKind::ConfChange,
        4 => EntryKind::ConfChangeV2,
        _ => EntryKind::Normal,
    };
    let mut data = format!("entry {index} of term {term}, ").into_bytes();
    data.extend((0..length).map(|at| (at as u64 * 31 + index * 7 + term) as u8));
    data.truncate(length);
    LogEntry {
        term: Term(term),
        index: LogIndex(index),
        kind,
        data: Bytes::from(data),
    }
}

pub(super) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: MemberId(vote),
        commit: LogIndex(commit),
    }
}

/// Flushes a group as the flush worker and the core loop do together.
pub(super) fn flush(log: &mut RaftLog, group: &GroupWrite) {
    group.perform().unwrap();
    log.flushed(group.number());
}

pub(super) fn put(log: &mut RaftLog, state: Option<HardState>, entries: &[LogEntry]) {
    let group = log.append(state, entries).unwrap();
    flush(log, &group);
}
