//! The life of segments: opened at boot and at a roll, sealed, released, retired.
//!
//! Invariants: segment numbers only rise; a segment's name is durable before its
//! first group, its header at the latest with it; a retired segment and all before
//! it hold nothing that replay needs.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::error::Fatal;
use crate::limits::GROUP_ALIGNMENT_BYTES;
use crate::planted::{Bug, planted};
use crate::types::{LogIndex, SegmentNumber, Term};
use crate::vfs::Vfs;

use super::format::{BLOCK, FIRST_GROUP_OFFSET, SegmentHeader, seed};
use super::reader::LogReader;
use super::segment::{
    FileName, SegmentFile, SegmentTable, create_filled, remove, rename, sync_directory,
};
use super::spare::{NextSegment, SpareFile};
use super::writer::Slot;
use super::{GroupNumber, HardState, LogOptions, RaftLog, SegmentInfo};

/// What [`RaftLog::start`] begins with: the end of what was recovered.
#[derive(Debug)]
pub(super) struct Start {
    pub vfs: Arc<dyn Vfs>,
    pub directory: PathBuf,
    pub options: LogOptions,
    pub salt: u64,
    pub table: Arc<SegmentTable>,
    pub segments: BTreeMap<SegmentNumber, SegmentInfo>,
    pub previous: Option<(SegmentNumber, u64)>,
    pub number: SegmentNumber,
    pub last_group: GroupNumber,
    pub chain: u32,
    pub last: (LogIndex, Term),
    pub hard_state: HardState,
    pub released: LogIndex,
    pub slots: VecDeque<Slot>,
    pub spares: Vec<SpareFile>,
    pub next_spare: u32,
}

impl RaftLog {
    /// Opens the segment of this boot. Everything before it is durable.
    pub(super) fn start(start: Start) -> Result<RaftLog, Fatal> {
        let header = SegmentHeader {
            number: start.number,
            salt: start.salt,
            recycled: false,
            previous: start.previous,
            first_group: GroupNumber(start.last_group.0 + 1),
            chain: start.chain,
            synced: start.last_group,
            base: start.last,
            hard_state: start.hard_state,
        };
        let mut spares = start.spares;
        let mut next_spare = start.next_spare;
        let opened = open_segment(
            &*start.vfs,
            &start.directory,
            header,
            spares.pop(),
            start.options.first_segment_bytes,
            &mut next_spare,
        )?;
        let mut log = RaftLog {
            vfs: start.vfs,
            directory: start.directory,
            options: start.options,
            salt: start.salt,
            table: start.table,
            segments: start.segments,
            active: Arc::clone(&opened.0),
            active_number: start.number,
            position: FIRST_GROUP_OFFSET,
            capacity: opened.1,
            next_group: GroupNumber(start.last_group.0 + 1),
            chain: start.chain,
            flushed: start.last_group,
            proven: start.last_group,
            last_content: start.last_group,
            last: start.last,
            hard_state: start.hard_state,
            released: start.released,
            slots: start.slots,
            pending: VecDeque::new(),
            spares,
            next: None,
            wanted_bytes: 0,
            opened_by: GroupNumber(0),
            retired: VecDeque::new(),
            next_spare,
            spare_outstanding: Weak::new(),
            idle_buffers: Vec::new(),
            failed: Arc::new(AtomicBool::new(false)),
        };
        log.activate(start.number, opened);
        Ok(log)
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The segments, by number; the last one is the active one.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> {
        self.segments.values().cloned()
    }

    /// Entries up to `index` are covered by a durable manifest: never needed for
    /// replay again. Their segments stay: they are the home of values.
    pub fn release(&mut self, index: LogIndex) {
        assert!(index <= self.last.0, "only entries that exist are released");
        while self.released < index {
            self.slots
                .pop_front()
                .expect("unreleased entries have slots");
            self.released.0 += 1;
        }
    }

    /// True for a segment that is sealed and flushed and is not needed for replay:
    /// neither it nor one before it holds an unreleased entry. Recovery accepts a
    /// missing segment only below the released entries.
    #[must_use]
    pub fn can_retire(&self, segment: SegmentNumber) -> bool {
        let mut up_to = self.segments.range(..=segment);
        let released = up_to.all(|(_, info)| info.last.is_none_or(|last| last <= self.released));
        self.segments.get(&segment).is_some_and(|info| info.sealed)
            && released
            && self.pending.iter().all(|group| group.segment != segment)
    }

    /// Forgets a sealed, released segment whose values are all dead or moved:
    /// readers get `None` from now on. A later [`RaftLog::spare_job`] makes its
    /// file a spare or removes it; until then a restart finds it again.
    ///
    /// # Errors
    /// None today; the signature leaves room for I/O.
    ///
    /// # Panics
    /// When [`RaftLog::can_retire`] denies it.
    pub fn retire(&mut self, segment: SegmentNumber) -> Result<(), Fatal> {
        assert!(
            self.can_retire(segment),
            "only a sealed, flushed and released segment retires"
        );
        self.segments.remove(&segment);
        self.table.remove(segment);
        self.retired.push_back(segment);
        Ok(())
    }

    /// The active segment's file and where in it the next group goes, for a flush
    /// back end that tries itself with a block of zeros: it is void to the log.
    /// `None` when the segment is no file of the operating system, or is full.
    #[must_use]
    pub fn probe_place(&self) -> Option<(&Path, u64)> {
        let room = self.position + GROUP_ALIGNMENT_BYTES <= self.capacity;
        let real = self.active.file.raw_fd().is_some();
        (room && real && self.pending.is_empty())
            .then_some((self.active.path.as_path(), self.position))
    }

    /// A handle that reads values back.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader {
            table: Arc::clone(&self.table),
        }
    }

    /// Seals the active segment and goes on in the next, with room for `size` bytes:
    /// the prepared one, whose header is to be written with its first group; else one
    /// that is made here and now, header and name durable.
    pub(super) fn roll(&mut self, size: u64) -> Result<Option<Box<[u8; BLOCK]>>, Fatal> {
        let needed = FIRST_GROUP_OFFSET + size;
        assert!(needed < u64::from(u32::MAX), "a place is 32 bits wide");
        let number = self.next_number();
        let mut header = SegmentHeader {
            number,
            salt: self.salt,
            recycled: false,
            previous: Some((self.active_number, self.position)),
            first_group: self.next_group,
            chain: self.chain,
            synced: self.flushed,
            base: self.last,
            hard_state: if planted(Bug::HardStateLostAtRoll) {
                HardState::default()
            } else {
                self.hard_state
            },
        };
        let next = self.next.take().filter(|next| next.spare.length >= needed);
        let (opened, block) = if let Some(NextSegment { number, spare }) = next {
            assert_eq!(number, header.number, "the next segment is prepared");
            header.recycled = spare.recycled;
            self.opened_by = self.next_group;
            let segment = SegmentFile {
                path: spare.path,
                file: spare.file,
                seed: seed(self.salt, number),
            };
            let block = Box::new(header.encode());
            ((Arc::new(segment), spare.length), Some(block))
        } else {
            (self.make_segment(header, needed)?, None)
        };
        let sealed = self.segments.get_mut(&self.active_number);
        sealed.expect("the active segment is listed").sealed = true;
        self.activate(number, opened);
        self.wanted_bytes = 0;
        Ok(block)
    }

    /// The way of those who do not ask `has_room` first.
    fn make_segment(
        &mut self,
        header: SegmentHeader,
        needed: u64,
    ) -> Result<(Arc<SegmentFile>, u64), Fatal> {
        assert!(
            self.spare_outstanding.strong_count() == 0,
            "a job under way may be giving a file the name of this segment"
        );
        assert!(
            self.flushed >= self.opened_by,
            "a header that lasts must not come before the one that it follows"
        );
        self.opened_by = GroupNumber(0);
        let fitting = self.spares.iter().position(|spare| spare.length >= needed);
        let spare = fitting.map(|at| self.spares.swap_remove(at));
        open_segment(
            &*self.vfs,
            &self.directory,
            header,
            spare,
            self.options.first_segment_bytes.max(needed),
            &mut self.next_spare,
        )
        .inspect_err(|_| self.failed.store(true, Ordering::SeqCst))
    }

    fn activate(&mut self, number: SegmentNumber, opened: (Arc<SegmentFile>, u64)) {
        let (file, capacity) = opened;
        self.table.insert(number, Arc::clone(&file));
        self.active = file;
        self.active_number = number;
        self.position = FIRST_GROUP_OFFSET;
        self.capacity = capacity;
        self.segments.insert(number, SegmentInfo::empty(number));
    }
}

impl SegmentInfo {
    pub(super) fn empty(number: SegmentNumber) -> Self {
        SegmentInfo {
            number,
            first: None,
            last: None,
            bytes_used: FIRST_GROUP_OFFSET,
            sealed: false,
        }
    }

    pub(super) fn note(&mut self, index: LogIndex) {
        self.first = Some(self.first.map_or(index, |first| first.min(index)));
        self.last = Some(self.last.map_or(index, |last| last.max(index)));
    }
}

/// Makes a segment out of a spare, or of a new file of `length` bytes: header
/// synced first, then the name, then the directory.
fn open_segment(
    vfs: &dyn Vfs,
    directory: &Path,
    mut header: SegmentHeader,
    spare: Option<SpareFile>,
    length: u64,
    next_spare: &mut u32,
) -> Result<(Arc<SegmentFile>, u64), Fatal> {
    let spare = match spare {
        Some(spare) => spare,
        None => {
            let path = FileName::Filling(*next_spare).path(directory);
            *next_spare += 1;
            let file = match create_filled(vfs, &path, length) {
                Ok(file) => file,
                Err(error) => {
                    // Gives the space back; the first error is the one that matters.
                    remove(vfs, &path).unwrap_or_default();
                    return Err(error);
                }
            };
            SpareFile {
                path,
                file,
                length,
                recycled: false,
            }
        }
    };
    header.recycled = spare.recycled;
    let path = FileName::Segment(header.number).path(directory);
    spare
        .file
        .write_all_at(&header.encode(), 0)
        .map_err(|source| Fatal::io("write", &spare.path, source))?;
    spare
        .file
        .sync_data()
        .map_err(|source| Fatal::io("sync", &spare.path, source))?;
    rename(vfs, &spare.path, &path)?;
    sync_directory(vfs, directory)?;
    let segment = SegmentFile {
        path,
        file: spare.file,
        seed: seed(header.salt, header.number),
    };
    Ok((Arc::new(segment), spare.length))
}
