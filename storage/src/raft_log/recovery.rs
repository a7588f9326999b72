//! Verifying a log: reads every segment, tells a torn tail from corruption.
//! `prepared` then makes the end durable and opens the segment of this boot.
//!
//! Invariants: nothing is written before everything is verified; the log is cut
//! only where no header and no later group proves that more was synced
//! (reliability.md, section 4); a group that is handed out is durable. Limit:
//! one window of `LOG_READ_WINDOW_BYTES`, or one group, in memory at a time,
//! besides the entries that are handed out.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use crate::error::Fatal;
use crate::types::{LogIndex, SegmentNumber, Term};
use crate::vfs::Vfs;

use super::format::{BLOCK, FIRST_GROUP_OFFSET, GROUP_HEADER_BYTES, GroupHeader, seed};
use super::lifecycle::Start;
use super::prepared::Prepared;
use super::scan::{Candidate, Found, Void, clear, scan};
use super::segment::sync_directory;
use super::walk::{Stop, Walk, Window};
use super::{GroupNumber, HardState, LogOptions, RaftLog, Recovered, SegmentInfo, TornTail};

impl RaftLog {
    /// Verifies every group from the first retained segment on. `applied` is
    /// what the manifest covers: entries after it must all be there. Opens a new
    /// segment for this boot, and rewrites and syncs the last group before
    /// returning, so that what was read from the page cache cannot vanish.
    ///
    /// # Errors
    /// `Corruption` naming file and offset, `Refused` for a newer format or a
    /// log that is missing, `Io`.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        directory: &Path,
        options: LogOptions,
        applied: (LogIndex, Term),
    ) -> Result<(RaftLog, Recovered), Fatal> {
        let covered = (applied != (LogIndex(0), Term(0))).then_some(applied);
        Prepared::verify(vfs, directory, options, covered)?.open()
    }

    /// Starts a log whose first entry has the index after `base`. The directory
    /// must hold no segment.
    ///
    /// # Errors
    /// `Io`, or `Refused` when there is a log already.
    pub fn create(
        vfs: Arc<dyn Vfs>,
        directory: &Path,
        options: LogOptions,
        base: (LogIndex, Term),
    ) -> Result<RaftLog, Fatal> {
        check_options(&options);
        create_directory(&*vfs, directory)?;
        let mut found = scan(&*vfs, directory)?;
        if !found.segments.is_empty() {
            return Err(Fatal::refused(directory, "a log is there already"));
        }
        let spares = clear(&*vfs, directory, &options, &mut found)?;
        RaftLog::start(Start {
            salt: options.salt,
            table: Arc::default(),
            segments: BTreeMap::new(),
            previous: None,
            number: SegmentNumber(1),
            last_group: GroupNumber(0),
            chain: 0,
            last: base,
            hard_state: HardState {
                term: base.1,
                commit: base.0,
                ..HardState::default()
            },
            released: base.0,
            slots: VecDeque::new(),
            spares,
            next_spare: found.next_spare,
            vfs,
            directory: directory.to_path_buf(),
            options,
        })
    }
}

/// Creates the log's directory so that it lasts. A parent that is there already
/// is its creator's to sync, except for the one that names this directory.
fn create_directory(vfs: &dyn Vfs, directory: &Path) -> Result<(), Fatal> {
    let mut changed = Vec::new();
    for path in directory.ancestors() {
        let there = vfs
            .exists(path)
            .map_err(|source| Fatal::io("look for", path, source))?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        changed.extend(parent);
        if there {
            break;
        }
    }
    vfs.create_dir_all(directory)
        .map_err(|source| Fatal::io("create the directory", directory, source))?;
    changed
        .iter()
        .try_for_each(|parent| sync_directory(vfs, parent))
}

pub(super) fn check_options(options: &LogOptions) {
    let block = BLOCK as u64;
    for bytes in [options.segment_bytes, options.first_segment_bytes] {
        assert!(
            bytes % block == 0 && bytes >= 2 * block && bytes < u64::from(u32::MAX),
            "a segment is a whole number of blocks below 4 GiB"
        );
    }
}

/// What the walk over all segments found.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) walk: Walk,
    /// The last segment with a group, and where its groups end.
    pub(super) previous: Option<(SegmentNumber, u64)>,
    pub(super) infos: BTreeMap<SegmentNumber, SegmentInfo>,
    /// Segments at the end without a group.
    pub(super) empty: Vec<SegmentNumber>,
    pub(super) torn_tail: Option<TornTail>,
}

pub(super) fn walk_all(
    vfs: &dyn Vfs,
    found: &Found,
    applied: (LogIndex, Term),
    told: &mut dyn FnMut(u64),
) -> Result<Outcome, Fatal> {
    let proven = found.segments.values().map(|c| c.header.synced).max();
    let proven = proven.unwrap_or_default();
    let first = found.segments.values().next().expect("a log has a segment");
    let mut outcome = Outcome {
        walk: Walk::begin(&first.header, applied),
        previous: first.header.previous,
        infos: BTreeMap::new(),
        empty: Vec::new(),
        torn_tail: None,
    };
    let mut before: Option<SegmentNumber> = None;
    let mut candidates = found.segments.iter().peekable();
    while let Some((number, candidate)) = candidates.next() {
        let linked = before.is_some() && candidate.header.previous.map(|p| p.0) == before;
        enter(&mut outcome, candidate, applied, linked)?;
        before = Some(*number);
        let successor = candidates.peek().map(|(_, next)| &next.header);
        let link = successor
            .and_then(|next| next.previous)
            .filter(|p| p.0 == *number);
        // Only what no later header proves synced can differ from the page cache.
        let synced = successor.is_some_and(|next| next.synced.0 + 1 >= next.first_group.0);
        let mut window = Window::open(vfs, &candidate.path, !synced)?;
        let end = link.map_or(window.length, |(_, end)| end);
        let mut info = SegmentInfo::empty(*number);
        info.sealed = true;
        let stop = outcome
            .walk
            .segment(candidate, &mut window, end, &mut info)?;
        if info.bytes_used > FIRST_GROUP_OFFSET {
            outcome.previous = Some((*number, info.bytes_used));
            outcome.empty.clear();
        } else {
            outcome.empty.push(*number);
        }
        told(info.bytes_used);
        outcome.infos.insert(*number, info);
        let Some(stop) = stop else { continue };
        let tail = Tail {
            candidate,
            stop,
            last_group: outcome.walk.last_group,
        };
        let last_before_gap = successor.is_some() && link.is_none();
        let known = if last_before_gap {
            GroupNumber(0)
        } else {
            proven
        };
        tail.check_proven(known)?;
        tail.check_rest(&mut window, end)?;
        if last_before_gap {
            continue;
        }
        outcome.torn_tail = tail.report(&mut window)?;
        for (number, later) in candidates {
            tail.check_segment(vfs, later)?;
            outcome.infos.insert(*number, SegmentInfo::empty(*number));
            outcome.empty.push(*number);
        }
        break;
    }
    if let Some(void) = &found.void {
        let begun = check_void(vfs, void, first.header.salt, &outcome.walk)?;
        let torn = (void.begun || begun).then(|| TornTail {
            path: void.path.clone(),
            offset: 0,
        });
        outcome.torn_tail = outcome.torn_tail.or(torn);
    }
    Ok(outcome)
}

/// A segment without a header was never synced, unless a group other than its first
/// lies in it: that one was written after the flush of header and first group. One with
/// another's header was never written to, unless any group lies in it. True when the
/// first group is there.
fn check_void(vfs: &dyn Vfs, void: &Void, salt: u64, walk: &Walk) -> Result<bool, Fatal> {
    let mut window = Window::open(vfs, &void.path, true)?;
    let end = window.length;
    let segment = (seed(salt, void.number), void.number);
    let mut from = FIRST_GROUP_OFFSET;
    while let Some((offset, header)) = find_group(segment, &mut window, from, end)? {
        let follows = header.number.0 == walk.last_group.0 + 1 && header.chain == walk.chain;
        if offset > FIRST_GROUP_OFFSET || !follows || void.strayed {
            let (at, defect) = &void.defect;
            let detail = format!("{defect}, but a group lies at offset {offset}");
            return Err(Fatal::corruption(&void.path, *at, detail));
        }
        from = offset + BLOCK as u64;
    }
    Ok(from > FIRST_GROUP_OFFSET)
}

/// Steps into a segment: either it continues the one before, or what lies
/// between was retired and is covered by the manifest.
fn enter(
    outcome: &mut Outcome,
    candidate: &Candidate,
    applied: (LogIndex, Term),
    linked: bool,
) -> Result<(), Fatal> {
    let header = &candidate.header;
    if linked {
        if !outcome.walk.enter(header) {
            let detail = "the segment does not continue the one before";
            return Err(Fatal::corruption(&candidate.path, 32, detail));
        }
        return Ok(());
    }
    if header.base.0 > applied.0 {
        let detail = format!(
            "the segment before is missing: this one starts after entry {}, \
             the manifest covers entries up to {}",
            header.base.0.0, applied.0.0
        );
        return Err(Fatal::corruption(&candidate.path, 64, detail));
    }
    let first_of_all = outcome.infos.is_empty();
    if !first_of_all && header.first_group.0 <= outcome.walk.last_group.0 {
        let detail = "the segment repeats groups of the one before";
        return Err(Fatal::corruption(&candidate.path, 48, detail));
    }
    outcome.walk = Walk::begin(header, applied);
    outcome.previous = header.previous;
    outcome.empty.clear();
    Ok(())
}

impl Candidate {
    fn seed(&self) -> (u32, SegmentNumber) {
        (
            seed(self.header.salt, self.header.number),
            self.header.number,
        )
    }
}

/// A place where the log may end.
struct Tail<'a> {
    candidate: &'a Candidate,
    stop: Stop,
    last_group: GroupNumber,
}

impl Tail<'_> {
    fn refuse(&self, evidence: &str) -> Result<(), Fatal> {
        let detail = format!("{}, but {evidence}", self.stop.detail);
        Err(Fatal::corruption(
            &self.candidate.path,
            self.stop.offset,
            detail,
        ))
    }

    fn check_proven(&self, proven: GroupNumber) -> Result<(), Fatal> {
        if proven > self.last_group {
            return self.refuse(&format!("group {} is known to be synced", proven.0));
        }
        Ok(())
    }

    fn check_rest(&self, window: &mut Window, end: u64) -> Result<(), Fatal> {
        match find_group(self.candidate.seed(), window, self.stop.resume, end)? {
            Some((offset, _)) => self.refuse(&format!("a later group lies at offset {offset}")),
            None => Ok(()),
        }
    }

    fn check_segment(&self, vfs: &dyn Vfs, later: &Candidate) -> Result<(), Fatal> {
        let mut window = Window::open(vfs, &later.path, true)?;
        let end = window.length;
        match find_group(later.seed(), &mut window, FIRST_GROUP_OFFSET, end)? {
            Some((offset, _)) => {
                let path = later.path.display();
                self.refuse(&format!("a later group lies in {path} at offset {offset}"))
            }
            None => Ok(()),
        }
    }

    /// A tail worth telling: a group was begun, or bytes lie where zeros should.
    fn report(&self, window: &mut Window) -> Result<Option<TornTail>, Fatal> {
        let rest = window
            .length
            .saturating_sub(self.stop.offset)
            .min(BLOCK as u64);
        let bytes = window.get(self.stop.offset, rest)?.unwrap_or_default();
        let written = !self.candidate.header.recycled && bytes.iter().any(|byte| *byte != 0);
        Ok((self.stop.begun || written).then(|| TornTail {
            path: self.candidate.path.clone(),
            offset: self.stop.offset,
        }))
    }
}

/// The first whole group header of this segment from `from` on, and its offset.
fn find_group(
    (seed, number): (u32, SegmentNumber),
    window: &mut Window,
    from: u64,
    end: u64,
) -> Result<Option<(u64, GroupHeader)>, Fatal> {
    let mut offset = from;
    while offset < end {
        let Some(block) = window.get(offset, GROUP_HEADER_BYTES as u64)? else {
            return Ok(None);
        };
        if let Some(header) = GroupHeader::decode(seed, number, offset, block) {
            return Ok(Some((offset, header)));
        }
        offset += BLOCK as u64;
    }
    Ok(None)
}

pub(super) fn check_applied(
    outcome: &Outcome,
    found: &Found,
    applied: (LogIndex, Term),
) -> Result<(), Fatal> {
    let (path, offset) = match outcome
        .previous
        .map(|(n, end)| (found.segments.get(&n), end))
    {
        Some((Some(candidate), end)) => (&candidate.path, end),
        _ => (
            &found
                .segments
                .values()
                .next_back()
                .expect("a log has a segment")
                .path,
            64,
        ),
    };
    if outcome.walk.last.0 < applied.0 {
        let detail = format!(
            "the log ends with entry {}, the manifest covers entries up to {}",
            outcome.walk.last.0.0, applied.0.0
        );
        return Err(Fatal::corruption(path, offset, detail));
    }
    if outcome.walk.applied_term != Some(applied.1) {
        let detail = format!(
            "entry {} has term {:?} in the log and {} in the manifest",
            applied.0.0, outcome.walk.applied_term, applied.1.0
        );
        return Err(Fatal::corruption(path, offset, detail));
    }
    Ok(())
}
