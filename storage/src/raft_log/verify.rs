//! Verification of a log at rest, for the offline checker: what opening it would
//! find, without a write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Fatal;
use crate::types::{LogIndex, SegmentNumber, Term};
use crate::vfs::{OpenMode, Vfs};

use super::format::seed;
use super::reader::LogReader;
use super::recovery::{check_applied, walk_all};
use super::scan::scan;
use super::segment::{FileName, SegmentFile, SegmentTable};
use super::{LogEntry, SegmentInfo, TornTail};

/// What a log at rest holds.
#[derive(Debug)]
pub struct Verified {
    /// Its segments, by number.
    pub segments: Vec<SegmentInfo>,
    /// Index and term of the last entry.
    pub last: (LogIndex, Term),
    /// Entries after the applied one.
    pub entries: Vec<LogEntry>,
    /// What a start would cut off.
    pub torn_tail: Option<TornTail>,
    /// Reads values of the log's segments.
    pub reader: LogReader,
}

/// Where a segment lies, for reports.
#[must_use]
pub fn segment_path(directory: &Path, number: SegmentNumber) -> PathBuf {
    FileName::Segment(number).path(directory)
}

/// Verifies every group as [`super::RaftLog::open`] does; None when there is no
/// segment. `progress` hears after each segment how many bytes are done, and of how many.
///
/// # Errors
/// `Corruption` naming file and offset, `Refused` for a newer format, `Io`.
pub fn verify(
    vfs: &dyn Vfs,
    directory: &Path,
    applied: (LogIndex, Term),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Verified>, Fatal> {
    let exists = vfs
        .exists(directory)
        .map_err(|source| Fatal::io("look for", directory, source))?;
    if !exists {
        return Ok(None);
    }
    let found = scan(vfs, directory)?;
    if found.segments.is_empty() {
        return Ok(None);
    }
    let mut total = 0;
    for candidate in found.segments.values() {
        let length = vfs
            .open(&candidate.path, OpenMode::Read)
            .and_then(|file| file.len());
        total += length.map_err(|source| Fatal::io("measure", &candidate.path, source))?;
    }
    let mut done = 0;
    let outcome = walk_all(vfs, &found, applied, &mut |bytes| {
        done += bytes;
        progress(done, total);
    })?;
    check_applied(&outcome, &found, applied)?;
    let table = Arc::<SegmentTable>::default();
    for (number, candidate) in &found.segments {
        let file = vfs
            .open(&candidate.path, OpenMode::Read)
            .map_err(|source| Fatal::io("open", &candidate.path, source))?;
        let path = candidate.path.clone();
        let seed = seed(candidate.header.salt, *number);
        table.insert(*number, Arc::new(SegmentFile { path, file, seed }));
    }
    Ok(Some(Verified {
        segments: outcome.infos.into_values().collect(),
        last: outcome.walk.last,
        entries: outcome.walk.entries.into(),
        torn_tail: outcome.torn_tail,
        reader: LogReader { table },
    }))
}
