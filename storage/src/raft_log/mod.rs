//! The Raft log: group-committed, zero-filled, recycled segments that stay the
//! home of values. The only truth of a member; formats in docs/format.md, "Log".
//!
//! One owner (the core loop) holds [`RaftLog`]; [`GroupWrite`]s are performed
//! by a flush worker, one at a time and in order; [`SpareJob`]s by any
//! background thread; [`LogReader`]s are everybody's.
//!
//! Invariants: a group is acknowledged only after its flush; a failed write or
//! sync is never retried; recovery returns exactly the longest prefix of groups
//! that is not contradicted by later evidence, or refuses naming file and offset.

mod format;
mod group;
mod lifecycle;
mod prepared;
mod reader;
mod recovery;
mod scan;
mod scrub;
mod segment;
mod spare;
mod verify;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bytes::Bytes;

use crate::limits::{FIRST_SEGMENT_BYTES, SEGMENT_BYTES, SPARE_SEGMENTS_MAX};
use crate::types::{LogIndex, MemberId, SegmentNumber, Term};

pub use group::GroupWrite;
pub use prepared::Prepared;
pub use reader::LogReader;
pub use scrub::LogScrub;
pub use spare::{Spare, SpareJob, Unprepared};
pub use verify::{Verified, segment_path, verify};
pub use writer::RaftLog;

/// The number of a flush group. Rises by one per group over the whole life of
/// the log; the first group has 1, 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u64);

/// What the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command of the state machine, or nothing.
    Normal,
    /// A membership change, first form.
    ConfChange,
    /// A membership change, second form (joint consensus).
    ConfChangeV2,
}

/// One entry of the Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Term of the leader that proposed it.
    pub term: Term,
    /// Position.
    pub index: LogIndex,
    /// What `data` is.
    pub kind: EntryKind,
    /// The payload; may be empty.
    pub data: Bytes,
}

/// What a member must remember besides entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term; never falls.
    pub term: Term,
    /// Whom this member voted for in that term; 0 for nobody.
    pub vote: MemberId,
    /// Commit index as last written; never falls.
    pub commit: LogIndex,
}

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of a segment, bytes, a multiple of 4096.
    pub segment_bytes: u64,
    /// Size of a segment made while someone waits (first start, roll without a
    /// spare), bytes, a multiple of 4096.
    pub first_segment_bytes: u64,
    /// Spares kept ready, the prepared next segment included.
    pub spares_max: usize,
    /// Any number that differs between members; mixed into every checksum of a
    /// log created now, so that a foreign segment never verifies. An existing
    /// log keeps its own.
    pub salt: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: SEGMENT_BYTES,
            first_segment_bytes: FIRST_SEGMENT_BYTES,
            spares_max: SPARE_SEGMENTS_MAX,
            salt: 0,
        }
    }
}

/// Where the data of an entry lies: byte `n` of it at `offset + n` of the segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPlace {
    /// The segment.
    pub segment: SegmentNumber,
    /// Byte offset within the segment's file.
    pub offset: u32,
    /// Length of the data, bytes.
    pub length: u32,
}

/// One segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: SegmentNumber,
    /// Lowest index of an entry in it; `None` without entries.
    pub first: Option<LogIndex>,
    /// Highest index of an entry in it; `None` without entries.
    pub last: Option<LogIndex>,
    /// Bytes used by header and groups.
    pub bytes_used: u64,
    /// Nothing is appended to it any more.
    pub sealed: bool,
}

/// What was found behind the last whole group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub path: PathBuf,
    /// Where the log was cut, byte offset.
    pub offset: u64,
}

/// What [`RaftLog::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state; all zeros in a new log.
    pub hard_state: HardState,
    /// Entries after the applied one, contiguous.
    pub entries: Vec<LogEntry>,
    /// A group that was being written when the process ended; worth a log line.
    pub torn_tail: Option<TornTail>,
}
