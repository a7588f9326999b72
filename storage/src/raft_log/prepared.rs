//! A log between its verification and its first write, so that a start verifies all its
//! parts before it writes to any.
//!
//! Invariant: [`Prepared::verify`] writes nothing; [`Prepared::open`] makes the end durable
//! before it hands out a group.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Fatal;
use crate::planted::{Bug, planted};
use crate::types::{LogIndex, SegmentNumber, Term};
use crate::vfs::{OpenMode, Vfs};

use super::format::seed;
use super::lifecycle::Start;
use super::recovery::{Outcome, check_applied, check_options, walk_all};
use super::scan::{Found, clear, scan};
use super::segment::{SegmentFile, SegmentTable, remove, sync_directory};
use super::walk::LastGroup;
use super::{LogOptions, RaftLog, Recovered, SegmentInfo};

/// A log that was found whole and is not open yet.
#[derive(Debug)]
pub struct Prepared {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    options: LogOptions,
    applied: (LogIndex, Term),
    /// None for a log that is to be made.
    walked: Option<(Found, Outcome)>,
}

impl Prepared {
    /// Verifies every group as [`RaftLog::open`] does, without a write. `covered` is what the
    /// manifest covers; None where there is no manifest. One is published behind the log's
    /// first segment, so it proves that there was a log.
    ///
    /// # Errors
    /// As [`RaftLog::open`].
    pub fn verify(
        vfs: Arc<dyn Vfs>,
        directory: &Path,
        options: LogOptions,
        covered: Option<(LogIndex, Term)>,
    ) -> Result<Prepared, Fatal> {
        let applied = covered.unwrap_or((LogIndex(0), Term(0)));
        check_options(&options);
        let exists = vfs
            .exists(directory)
            .map_err(|source| Fatal::io("look for", directory, source))?;
        let found = if exists {
            scan(&*vfs, directory)?
        } else {
            Found::default()
        };
        let mut walked = None;
        if !found.segments.is_empty() {
            let outcome = walk_all(&*vfs, &found, applied, &mut |_| {})?;
            check_applied(&outcome, &found, applied)?;
            walked = Some((found, outcome));
        } else if covered.is_some() {
            let detail = format!(
                "the log is missing, but the manifest covers it up to {}; \
                 restore the directory or replace the member",
                applied.0.0
            );
            return Err(Fatal::refused(directory, detail));
        }
        Ok(Prepared {
            vfs,
            directory: directory.to_path_buf(),
            options,
            applied,
            walked,
        })
    }

    /// The segments that were found, by number; none of a log that is to be made.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> {
        let found = self.walked.iter();
        found.flat_map(|(_, outcome)| outcome.infos.values().cloned())
    }

    /// Opens the log: from here on it is written to.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(self) -> Result<(RaftLog, Recovered), Fatal> {
        let Prepared {
            vfs,
            directory,
            options,
            applied,
            walked,
        } = self;
        match walked {
            Some(walked) => recover(vfs, &directory, options, applied, walked),
            None => {
                let log = RaftLog::create(vfs, &directory, options, applied)?;
                Ok((log, Recovered::default()))
            }
        }
    }
}

fn recover(
    vfs: Arc<dyn Vfs>,
    directory: &Path,
    options: LogOptions,
    applied: (LogIndex, Term),
    (mut found, outcome): (Found, Outcome),
) -> Result<(RaftLog, Recovered), Fatal> {
    let newest = found
        .segments
        .values()
        .next_back()
        .expect("a log has a segment");
    let (newest, salt) = (newest.header.number, newest.header.salt);
    let newest = found.void.as_ref().map_or(newest, |void| void.number);
    let proven = found.segments.values().map(|c| c.header.synced).max();
    let table = Arc::<SegmentTable>::default();
    let mut infos = outcome.infos;
    let mut empty = Vec::new();
    for (number, candidate) in &found.segments {
        if outcome.empty.contains(number) {
            infos.remove(number);
            empty.push(candidate.path.clone());
            continue;
        }
        let file = vfs
            .open(&candidate.path, OpenMode::ReadWrite)
            .map_err(|source| Fatal::io("open", &candidate.path, source))?;
        let path = candidate.path.clone();
        let seed = seed(salt, *number);
        table.insert(*number, Arc::new(SegmentFile { path, file, seed }));
    }
    // Everything is verified: writes begin here. Names first, since a kill may
    // have left them in memory only.
    sync_directory(&*vfs, directory)?;
    let walk = outcome.walk;
    if let Some(group) = walk.last_whole.filter(|_| Some(walk.last_group) > proven)
        && !planted(Bug::BelieveThePageCache)
    {
        rewrite(&*vfs, &group)?;
    }
    let spares = clear(&*vfs, directory, &options, &mut found)?;
    let mut hard_state = walk.hard_state;
    hard_state.commit = hard_state.commit.max(applied.0);
    let log = RaftLog::start(Start {
        salt,
        table: Arc::clone(&table),
        segments: infos,
        previous: outcome.previous,
        number: SegmentNumber(newest.0.checked_add(1).expect("4 billion boots")),
        last_group: walk.last_group,
        chain: walk.chain,
        last: walk.last,
        hard_state,
        released: applied.0,
        slots: walk.slots,
        spares,
        next_spare: found.next_spare,
        vfs: Arc::clone(&vfs),
        directory: directory.to_path_buf(),
        options,
    })?;
    // The new header proves what follows: these go only after it is durable.
    for path in &empty {
        remove(&*vfs, path)?;
    }
    if let Some((number, end)) = outcome.previous
        && let Some(tail) = table.get(number)
    {
        cut(&tail, end)?;
    }
    sync_directory(&*vfs, directory)?;
    let recovered = Recovered {
        hard_state,
        entries: walk.entries.into(),
        torn_tail: outcome.torn_tail,
    };
    Ok((log, recovered))
}

/// Writes the last group again over itself and syncs it: a kill may have left it
/// in the page cache alone, or a failed sync may have dropped it there. So for the
/// header of its segment when it is the first one.
fn rewrite(vfs: &dyn Vfs, group: &LastGroup) -> Result<(), Fatal> {
    let file = vfs
        .open(&group.path, OpenMode::ReadWrite)
        .map_err(|source| Fatal::io("open", &group.path, source))?;
    let write = |bytes: &[u8], offset| {
        file.write_all_at(bytes, offset)
            .map_err(|source| Fatal::io("write", &group.path, source))
    };
    if let Some(header) = &group.opening {
        write(&header.encode(), 0)?;
    }
    write(&group.bytes, group.offset)?;
    file.sync_data()
        .map_err(|source| Fatal::io("sync", &group.path, source))
}

/// Gives back the unused room of the segment of the boot before, so that a
/// process that restarts often does not fill the disk.
fn cut(segment: &SegmentFile, end: u64) -> Result<(), Fatal> {
    let length = segment
        .file
        .len()
        .map_err(|source| Fatal::io("measure", &segment.path, source))?;
    if length > end {
        segment
            .file
            .set_len(end)
            .map_err(|source| Fatal::io("cut", &segment.path, source))?;
    }
    Ok(())
}
