//! Segments ahead of their use: files that are prepared or recycled in the
//! background, so that a roll does no I/O of its own (docs/design/0008). The jobs
//! touch only files that the log does not use, and run on any thread, one at a time.
//!
//! Invariants: a prepared segment bears its name durably, with nothing but zeros in
//! its header's block, before the log writes to it; a job begins only while the active
//! segment's header is durable. Limit: `LogOptions::spares_max` files are
//! kept, the prepared segment included.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Fatal;
use crate::limits::LOG_HURRY_SHARE;
use crate::planted::{Bug, planted};
use crate::types::SegmentNumber;
use crate::vfs::aligned::AlignedBuffer;
use crate::vfs::{OpenMode, Vfs, VfsFile};

use super::RaftLog;
use super::format::{BLOCK, FIRST_GROUP_OFFSET};
use super::segment::{FileName, remove, rename, sync_directory, write_zeros, zero_fill, zeros};

/// A file that can become a segment.
#[derive(Debug)]
pub(super) struct SpareFile {
    pub path: PathBuf,
    pub file: Arc<dyn VfsFile>,
    pub length: u64,
    /// It held other bytes before.
    pub recycled: bool,
}

/// The next segment: it has its name, and room for the header and first group.
#[derive(Debug)]
pub(super) struct NextSegment {
    pub number: SegmentNumber,
    pub spare: SpareFile,
}

/// What a job made; hand it to [`RaftLog::add_spare`].
#[derive(Debug)]
pub struct Spare {
    pub(super) file: Option<SpareFile>,
    named: Option<SegmentNumber>,
    _outstanding: Arc<Urgency>,
}

/// A job that could not be done. Nothing of the log is harmed; dropped, it makes
/// room for the next one.
#[derive(Debug)]
pub struct Unprepared {
    /// Why.
    pub error: Fatal,
    _outstanding: Arc<Urgency>,
}

impl Unprepared {
    /// True when there was no space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match &self.error {
            Fatal::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            Fatal::Corruption { .. } | Fatal::Refused { .. } => false,
        }
    }
}

/// How much the log's owner wants what a job under way makes.
#[derive(Debug, Default)]
pub(super) struct Urgency {
    /// The active segment is nearly full.
    soon: AtomicBool,
    /// A group waits for a segment of so many bytes; 0 for none.
    now: AtomicU64,
}

#[derive(Debug)]
pub(super) enum Work {
    Create,
    Recycle(SegmentNumber),
    Take(SpareFile),
    Remove(SegmentNumber),
}

/// A background job on a file outside the log. Dropping it undone is fine: the
/// log offers it again.
#[derive(Debug)]
pub struct SpareJob {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    work: Work,
    /// The number of its own that the file has meanwhile.
    number: u32,
    /// The segment that it becomes.
    named: Option<SegmentNumber>,
    length: u64,
    urgency: Arc<Urgency>,
}

impl RaftLog {
    /// A background job: prepares the next segment, or makes a retired segment's file
    /// a spare or removes it. One job at a time, and none while the header of the active
    /// segment is on its way: so at most one segment has a name and no header, and a
    /// power cut never finds the segments before it recycled and it without a header.
    pub fn spare_job(&mut self) -> Option<SpareJob> {
        let durable = self.flushed >= self.opened_by || planted(Bug::PrepareBeforeHeader);
        if !durable || self.spare_outstanding.strong_count() > 0 {
            return None;
        }
        let next = self.next.as_ref().map(|next| next.spare.length);
        let ready = self.spares.len() + usize::from(next.is_some());
        let unfit = next.is_none_or(|length| length < self.wanted_bytes);
        let wanted = unfit && (self.wanted_bytes > 0 || self.options.spares_max > 0);
        let named = wanted.then(|| self.next_number());
        let fitting = self
            .spares
            .iter()
            .position(|spare| spare.length >= self.wanted_bytes)
            .filter(|_| wanted);
        let mut length = self.options.segment_bytes.max(self.wanted_bytes);
        let work = if let Some(at) = fitting {
            Work::Take(self.spares.swap_remove(at))
        } else if let Some(number) = self.retired.pop_front() {
            if wanted || ready < self.options.spares_max {
                Work::Recycle(number)
            } else {
                Work::Remove(number)
            }
        } else if wanted {
            if self.wanted_bytes > 0 {
                length = self.options.first_segment_bytes.max(self.wanted_bytes);
            }
            Work::Create
        } else {
            return None;
        };
        let urgency = Arc::<Urgency>::default();
        urgency.now.store(self.wanted_bytes, Ordering::Relaxed);
        self.spare_outstanding = Arc::downgrade(&urgency);
        let number = self.next_spare;
        self.next_spare += 1;
        Some(SpareJob {
            vfs: Arc::clone(&self.vfs),
            directory: self.directory.clone(),
            named: named.filter(|_| !matches!(work, Work::Remove(_))),
            work,
            number,
            length,
            urgency,
        })
    }

    /// Takes what a job made.
    pub fn add_spare(&mut self, spare: Spare) {
        let Some(file) = spare.file else {
            return;
        };
        match spare.named {
            Some(number) => {
                assert_eq!(number, self.next_number(), "no roll passes a job under way");
                self.next = Some(NextSegment {
                    number,
                    spare: file,
                });
            }
            None => self.spares.push(file),
        }
        assert!(
            self.spares.len() <= self.options.spares_max.max(1),
            "one job at a time"
        );
    }

    /// True when the group of these can be appended without making a file: there is
    /// room in the active segment, or the next one is prepared. Else the next job
    /// makes one of that size; append once it is added.
    pub fn has_room(&mut self, group_bytes: u64) -> bool {
        let needed = FIRST_GROUP_OFFSET + group_bytes;
        let fits = self.position + group_bytes <= self.capacity;
        let room = fits
            || self
                .next
                .as_ref()
                .is_some_and(|next| next.spare.length >= needed);
        self.wanted_bytes = if room { 0 } else { needed };
        if !room && let Some(job) = self.spare_outstanding.upgrade() {
            job.now.store(needed, Ordering::Relaxed);
        }
        room
    }

    /// Bytes that can be appended before a segment has to be made.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let next = self.next.as_ref().map_or(0, |next| next.spare.length);
        self.capacity - self.position + next
    }

    /// True when the next segment is prepared.
    #[must_use]
    pub fn next_is_ready(&self) -> bool {
        self.next.is_some()
    }

    /// Tells a job under way that the active segment is nearly full.
    pub(super) fn hurry(&self) {
        if self.capacity - self.position < self.capacity / LOG_HURRY_SHARE
            && self.next.is_none()
            && let Some(job) = self.spare_outstanding.upgrade()
        {
            job.soon.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn next_number(&self) -> SegmentNumber {
        let next = self.active_number.0.checked_add(1);
        SegmentNumber(next.expect("4 billion rolls"))
    }
}

impl SpareJob {
    /// Prepares the file and makes it durable, a piece at a time; `between` runs where
    /// the disk may be left to others, unless the log waits.
    ///
    /// # Errors
    /// `Io`; of kind `StorageFull` when the disk is full: then nothing of the
    /// log is harmed, a later job may succeed, and the caller may raise NOSPACE
    /// instead of ending the process.
    pub fn perform(self, between: &mut dyn FnMut()) -> Result<Spare, Unprepared> {
        let named = self.named;
        let outstanding = Arc::clone(&self.urgency);
        match self.work(between) {
            Ok(file) => Ok(Spare {
                file,
                named,
                _outstanding: outstanding,
            }),
            Err(error) => Err(Unprepared {
                error,
                _outstanding: outstanding,
            }),
        }
    }

    fn work(mut self, between: &mut dyn FnMut()) -> Result<Option<SpareFile>, Fatal> {
        let filling = FileName::Filling(self.number).path(&self.directory);
        let (from, spare) = match std::mem::replace(&mut self.work, Work::Create) {
            Work::Remove(number) => {
                remove(&*self.vfs, &FileName::Segment(number).path(&self.directory))?;
                sync_directory(&*self.vfs, &self.directory)?;
                return Ok(None);
            }
            Work::Take(spare) => {
                // What lies in a header's block must not be taken for a header.
                zero_fill(&*spare.file, &spare.path, 0, BLOCK as u64)?;
                (spare.path.clone(), spare)
            }
            Work::Create => {
                let spare = self.create(&filling, between);
                (filling.clone(), self.or_give_back(&filling, spare)?)
            }
            Work::Recycle(number) => {
                let segment = FileName::Segment(number).path(&self.directory);
                rename(&*self.vfs, &segment, &filling)?;
                // The old name must be gone for good before the bytes change.
                sync_directory(&*self.vfs, &self.directory)?;
                let spare = self.recycle(&filling, between);
                (filling.clone(), self.or_give_back(&filling, spare)?)
            }
        };
        let name = match self.named {
            Some(number) => FileName::Segment(number),
            None => FileName::Spare(self.number),
        };
        let path = name.path(&self.directory);
        rename(&*self.vfs, &from, &path)?;
        sync_directory(&*self.vfs, &self.directory)?;
        Ok(Some(SpareFile { path, ..spare }))
    }

    /// Gives the space of a file back that could not be filled; the first error is
    /// the one that matters.
    fn or_give_back<T>(&self, path: &Path, made: Result<T, Fatal>) -> Result<T, Fatal> {
        if made.is_err() {
            remove(&*self.vfs, path).unwrap_or_default();
        }
        made
    }

    fn create(&self, path: &Path, between: &mut dyn FnMut()) -> Result<SpareFile, Fatal> {
        let file = self
            .vfs
            .open(path, OpenMode::CreateNew)
            .map_err(|source| Fatal::io("create", path, source))?;
        let length = self.fill(&*file, path, 0, between)?;
        Ok(SpareFile {
            path: path.to_path_buf(),
            file,
            length,
            recycled: false,
        })
    }

    fn recycle(&self, path: &Path, between: &mut dyn FnMut()) -> Result<SpareFile, Fatal> {
        let file = self
            .vfs
            .open(path, OpenMode::ReadWrite)
            .map_err(|source| Fatal::io("open", path, source))?;
        let length = file
            .len()
            .map_err(|source| Fatal::io("measure", path, source))?;
        if length > self.length {
            file.set_len(self.length)
                .map_err(|source| Fatal::io("cut", path, source))?;
        }
        // As above; synced with the rest.
        let header = BLOCK as u64;
        write_zeros(&*file, &zeros(header), 0, header)
            .map_err(|source| Fatal::io("fill with zeros", path, source))?;
        let length = self.fill(&*file, path, length.min(self.length), between)?;
        Ok(SpareFile {
            path: path.to_path_buf(),
            file,
            length,
            recycled: true,
        })
    }

    /// Fills the file with zeros from `from` on and syncs it; its length. Whoever waits
    /// for it gets it with what is filled by then; the rest is space that was taken.
    fn fill(
        &self,
        file: &dyn VfsFile,
        path: &Path,
        from: u64,
        between: &mut dyn FnMut(),
    ) -> Result<u64, Fatal> {
        let mut at = from;
        let mut length = self.length;
        // Told at once when there is not so much, and before anything is written.
        let allocated = from < length
            && file
                .allocate(length)
                .map_err(|source| Fatal::io("take space for", path, source))?;
        let zeros = zeros(length - from);
        let mut direct = self.vfs.open_direct(path).ok();
        while at < self.length {
            let now = self.urgency.now.load(Ordering::Relaxed);
            if now > 0 && (allocated || at >= now) {
                if !allocated {
                    length = at;
                }
                break;
            }
            at += fill_piece(&mut direct, file, &zeros, at..self.length)
                .map_err(|source| Fatal::io("fill with zeros", path, source))?;
            if now == 0 && !self.urgency.soon.load(Ordering::Relaxed) {
                between();
            }
        }
        file.sync_data()
            .map_err(|source| Fatal::io("sync", path, source))?;
        Ok(length)
    }
}

/// Brings the first zeros of a range to the disk: past the page cache, which costs a third to
/// a tenth of the processor time, or through it where that is refused. How many.
fn fill_piece(
    direct: &mut Option<Arc<dyn VfsFile>>,
    file: &dyn VfsFile,
    zeros: &AlignedBuffer,
    range: Range<u64>,
) -> io::Result<u64> {
    if let Some(past_the_cache) = direct {
        match write_zeros(&**past_the_cache, zeros, range.start, range.end) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => *direct = None,
            written => return written,
        }
    }
    let piece = write_zeros(file, zeros, range.start, range.end)?;
    file.write_back(range.start, piece)?;
    Ok(piece)
}
