//! The writing side of the log: encodes flush groups, rolls to the next
//! segment, and keeps where every unreleased entry lies.
//!
//! Owned by one thread. Invariants: `slots` holds exactly the entries after
//! `released` up to `last`; `pending` holds exactly the groups after `flushed`;
//! group numbers and segment numbers only rise. Limits: `PENDING_GROUPS_MAX`
//! groups in flight, `GROUP_BYTES_MAX` per group.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::error::Fatal;
use crate::limits::{GROUP_BYTES_MAX, PENDING_GROUPS_MAX};
use crate::types::{LogIndex, SegmentNumber, Term};
use crate::vfs::aligned::AlignedBuffer;
use crate::vfs::{Vfs, VfsFile};

use super::format::{
    FIRST_GROUP_OFFSET, GROUP_HEADER_BYTES, GroupHeader, RECORD_HEADER_BYTES, SegmentHeader,
    entry_header, hard_state_bytes, hard_state_record, padded, record_bytes, record_is_whole, seed,
};
use super::reader::LogReader;
use super::segment::{
    FileName, SegmentFile, SegmentTable, create_filled, remove, rename, sync_directory,
};
use super::spare::{Spare, SpareFile, SpareJob, Work};
use super::{DataPlace, EntryKind, GroupNumber, HardState, LogEntry, LogOptions, SegmentInfo};

/// A buffer larger than this is given back to the allocator after its flush.
const REUSED_BUFFER_BYTES_MAX: usize = 4 << 20;

/// Where one entry lies, and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub term: Term,
    pub kind: EntryKind,
    pub place: DataPlace,
}

#[derive(Debug)]
struct PendingGroup {
    number: GroupNumber,
    segment: SegmentNumber,
    offset: u64,
    buffer: Arc<AlignedBuffer>,
}

/// The log of one member. See the module.
#[derive(Debug)]
pub struct RaftLog {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) directory: PathBuf,
    pub(super) options: LogOptions,
    pub(super) salt: u64,
    pub(super) table: Arc<SegmentTable>,
    pub(super) segments: BTreeMap<SegmentNumber, SegmentInfo>,
    /// The segment that takes the next group.
    pub(super) active: Arc<SegmentFile>,
    pub(super) active_number: SegmentNumber,
    /// Where the next group goes. Invariant: a multiple of 4096, at most `capacity`.
    pub(super) position: u64,
    pub(super) capacity: u64,
    pub(super) next_group: GroupNumber,
    /// Checksum of the group before `next_group`.
    pub(super) chain: u32,
    pub(super) flushed: GroupNumber,
    /// Groups up to this one are proven durable by a later group or header.
    pub(super) proven: GroupNumber,
    /// The last group that holds something; an empty one needs no proof.
    last_content: GroupNumber,
    pub(super) last: (LogIndex, Term),
    pub(super) hard_state: HardState,
    pub(super) released: LogIndex,
    pub(super) slots: VecDeque<Slot>,
    pending: VecDeque<PendingGroup>,
    pub(super) spares: Vec<SpareFile>,
    /// Forgotten segments whose files still bear their names.
    retired: VecDeque<SegmentNumber>,
    pub(super) next_spare: u32,
    spare_outstanding: Weak<()>,
    idle_buffers: Vec<AlignedBuffer>,
    failed: Arc<AtomicBool>,
}

/// One encoded flush group, to be written in place and synced.
#[derive(Debug)]
pub struct GroupWrite {
    number: GroupNumber,
    last: Option<(LogIndex, Term)>,
    segment: Arc<SegmentFile>,
    offset: u64,
    buffer: Arc<AlignedBuffer>,
    failed: Arc<AtomicBool>,
}

impl GroupWrite {
    /// Its number, for [`RaftLog::flushed`].
    #[must_use]
    pub fn number(&self) -> GroupNumber {
        self.number
    }
    /// Its last entry, for `Persisted`; `None` without entries.
    #[must_use]
    pub fn last(&self) -> Option<(LogIndex, Term)> {
        self.last
    }
    /// The file to write to.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn VfsFile> {
        &self.segment.file
    }
    /// The file's path, for a backend that opens it with flags of its own.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.segment.path
    }
    /// Where to write, a multiple of 4096.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
    /// What to write; address and length are multiples of 4096.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// Writes and syncs the group. After a failure the log takes no more groups
    /// and nothing is retried: the kernel may have dropped what it could not write.
    ///
    /// # Errors
    /// `Io`, which ends the process.
    pub fn perform(&self) -> Result<(), Fatal> {
        refuse_after_failure(&self.failed, &self.segment.path)?;
        let path = &self.segment.path;
        let written = match self.segment.file.write_all_at(self.bytes(), self.offset) {
            Ok(()) => self
                .segment
                .file
                .sync_data()
                .map_err(|source| Fatal::io("sync", path, source)),
            Err(source) => Err(Fatal::io("write", path, source)),
        };
        if written.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        written
    }
}

fn refuse_after_failure(failed: &AtomicBool, path: &Path) -> Result<(), Fatal> {
    if failed.load(Ordering::SeqCst) {
        let source = std::io::Error::other("an earlier write or sync of the log failed");
        return Err(Fatal::io("append to", path, source));
    }
    Ok(())
}

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
            retired: VecDeque::new(),
            next_spare,
            spare_outstanding: Weak::new(),
            idle_buffers: Vec::new(),
            failed: Arc::new(AtomicBool::new(false)),
        };
        log.activate(start.number, opened);
        Ok(log)
    }

    /// The last entry, flushed or not; the base of an empty log.
    #[must_use]
    pub fn last(&self) -> (LogIndex, Term) {
        self.last
    }

    /// The hard state as last appended or recovered.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The term of an entry after the released ones.
    #[must_use]
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        self.slot(index).map(|slot| slot.term)
    }

    /// Encodes one flush group. No I/O besides a roll to the next segment. An
    /// entry whose index is not above the last one replaces the suffix.
    ///
    /// # Errors
    /// `Io` when a roll fails or an earlier write failed: ends the process.
    ///
    /// # Panics
    /// When the group is empty, too large or not contiguous, or when the hard
    /// state goes backward: a broken invariant of the caller.
    pub fn append(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[LogEntry],
    ) -> Result<GroupWrite, Fatal> {
        assert!(
            hard_state.is_some() || !entries.is_empty(),
            "a group holds something"
        );
        self.check_entries(hard_state, entries);
        let group = self.append_group(hard_state, entries)?;
        self.last_content = group.number;
        Ok(group)
    }

    /// An empty group that proves everything before it synced (sent after 100 ms
    /// of idleness); `None` when that is proven already or a group is in flight.
    ///
    /// # Errors
    /// As [`RaftLog::append`].
    pub fn proof_group(&mut self) -> Result<Option<GroupWrite>, Fatal> {
        if !self.pending.is_empty() || self.proven >= self.last_content {
            return Ok(None);
        }
        self.append_group(None, &[]).map(Some)
    }

    /// The group so numbered is durable. Groups are flushed one at a time and in order.
    pub fn flushed(&mut self, group: GroupNumber) {
        let pending = self
            .pending
            .pop_front()
            .expect("only an appended group is flushed");
        assert_eq!(pending.number, group, "groups are flushed in order");
        assert_eq!(group.0, self.flushed.0 + 1, "groups are flushed in order");
        assert!(
            !self.failed.load(Ordering::SeqCst),
            "nothing is durable after a failed flush"
        );
        self.flushed = group;
        if let Ok(buffer) = Arc::try_unwrap(pending.buffer)
            && buffer.capacity() <= REUSED_BUFFER_BYTES_MAX
            && self.idle_buffers.is_empty()
        {
            self.idle_buffers.push(buffer);
        }
    }

    /// Where the data of an entry lies. Known from append on until release.
    #[must_use]
    pub fn data_place(&self, index: LogIndex) -> Option<DataPlace> {
        self.slot(index).map(|slot| slot.place)
    }

    /// Unreleased entries from `low` to below `high`, at most `max_bytes` of
    /// data but at least one entry. Read from disk, or from the group in flight.
    ///
    /// # Errors
    /// `Io`, or `Corruption` naming file and offset.
    ///
    /// # Panics
    /// When the range is not within the unreleased entries.
    pub fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        max_bytes: u64,
    ) -> Result<Vec<LogEntry>, Fatal> {
        assert!(
            low > self.released && high.0 <= self.last.0.0 + 1 && low <= high,
            "entries {low:?}..{high:?} asked, {:?} released, last {:?}",
            self.released,
            self.last.0
        );
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in low.0..high.0 {
            let slot = self
                .slot(LogIndex(index))
                .expect("unreleased entries have slots");
            bytes += u64::from(slot.place.length);
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(LogEntry {
                term: slot.term,
                index: LogIndex(index),
                kind: slot.kind,
                data: self.read_data(slot.place)?,
            });
        }
        Ok(entries)
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

    /// Forgets a sealed, released segment whose values are all dead or moved:
    /// readers get `None` from now on. A later [`RaftLog::spare_job`] makes its
    /// file a spare or removes it; until then a restart finds it again.
    ///
    /// # Errors
    /// None today; the signature leaves room for I/O.
    ///
    /// # Panics
    /// When the segment is active, unflushed or holds unreleased entries.
    pub fn retire(&mut self, segment: SegmentNumber) -> Result<(), Fatal> {
        let info = self
            .segments
            .get(&segment)
            .expect("only a listed segment retires");
        assert!(info.sealed, "the active segment never retires");
        assert!(
            info.last.is_none_or(|last| last <= self.released),
            "only a released segment retires"
        );
        assert!(
            self.pending.iter().all(|group| group.segment != segment),
            "only a flushed segment retires"
        );
        self.segments.remove(&segment);
        self.table.remove(segment);
        self.retired.push_back(segment);
        Ok(())
    }

    /// A background job: makes a retired segment's file a spare or removes it,
    /// or prepares a new one when none is ready. One job at a time.
    pub fn spare_job(&mut self) -> Option<SpareJob> {
        if self.spare_outstanding.strong_count() > 0 {
            return None;
        }
        let wanted = self.spares.len() < self.options.spares_max;
        let work = match self.retired.pop_front() {
            Some(number) if wanted => Work::Recycle(number),
            Some(number) => Work::Remove(number),
            None if self.spares.is_empty() && wanted => Work::Create,
            None => return None,
        };
        let outstanding = Arc::new(());
        self.spare_outstanding = Arc::downgrade(&outstanding);
        let number = self.next_spare;
        self.next_spare += 1;
        Some(SpareJob {
            vfs: Arc::clone(&self.vfs),
            directory: self.directory.clone(),
            work,
            number,
            length: self.options.segment_bytes,
            outstanding,
        })
    }

    /// Takes what a job made.
    pub fn add_spare(&mut self, spare: Spare) {
        self.spares.extend(spare.file);
        assert!(
            self.spares.len() <= self.options.spares_max.max(1),
            "one job at a time"
        );
    }

    /// A handle that reads values back.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader {
            table: Arc::clone(&self.table),
        }
    }

    fn slot(&self, index: LogIndex) -> Option<&Slot> {
        let at = index.0.checked_sub(self.released.0 + 1)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    fn check_entries(&self, hard_state: Option<HardState>, entries: &[LogEntry]) {
        let mut last = self.last;
        if let Some(first) = entries.first() {
            assert!(
                first.index.0 <= last.0.0 + 1,
                "entry {:?} leaves a gap after {:?}",
                first.index,
                last.0
            );
            assert!(
                first.index > self.hard_state.commit && first.index > self.released,
                "a committed entry is never replaced"
            );
            if first.index.0 <= last.0.0 {
                last = (LogIndex(first.index.0 - 1), Term(0));
            }
        }
        for entry in entries {
            assert_eq!(entry.index.0, last.0.0 + 1, "entries are contiguous");
            assert!(entry.term >= last.1, "terms never fall along the log");
            last = (entry.index, entry.term);
        }
        if let Some(state) = hard_state {
            assert!(state.term >= self.hard_state.term, "the term never falls");
            assert!(state.commit >= self.hard_state.commit, "commit never falls");
            assert!(state.commit <= last.0, "what is committed is in the log");
        }
    }

    fn append_group(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[LogEntry],
    ) -> Result<GroupWrite, Fatal> {
        refuse_after_failure(&self.failed, &self.active.path)?;
        assert!(
            self.pending.len() < PENDING_GROUPS_MAX,
            "groups are flushed"
        );
        let records: usize = entries.iter().map(|e| record_bytes(e.data.len())).sum();
        let records = records + hard_state.map_or(0, |_| hard_state_bytes());
        let size = padded(records as u64);
        assert!(
            size <= GROUP_BYTES_MAX,
            "a group has at most {GROUP_BYTES_MAX} bytes"
        );
        if self.position + size > self.capacity {
            self.roll(size)?;
        }
        let offset = u32::try_from(self.position).expect("a segment is below 4 GiB");
        let mut buffer = self.idle_buffers.pop().unwrap_or_default();
        buffer.reset(usize::try_from(size).expect("bounded by GROUP_BYTES_MAX"));
        self.encode(&mut buffer, offset, hard_state, entries);
        let header = GroupHeader {
            number: self.next_group,
            length: u32::try_from(records).expect("bounded by GROUP_BYTES_MAX"),
            crc: 0,
            chain: self.chain,
            segment: self.active_number,
            offset,
            first: entries
                .first()
                .map_or_else(Default::default, |e| (e.index, e.term)),
            synced: self.flushed,
            records: u32::try_from(entries.len() + usize::from(hard_state.is_some()))
                .expect("each record has at least 32 bytes"),
        };
        self.chain = header.seal(self.active.seed, buffer.as_mut_slice());
        Ok(self.enqueue(buffer, entries.last().map(|e| (e.index, e.term))))
    }

    /// Numbers the encoded group and advances behind it.
    fn enqueue(&mut self, buffer: AlignedBuffer, last: Option<(LogIndex, Term)>) -> GroupWrite {
        let buffer = Arc::new(buffer);
        let group = GroupWrite {
            number: self.next_group,
            last,
            segment: Arc::clone(&self.active),
            offset: self.position,
            buffer: Arc::clone(&buffer),
            failed: Arc::clone(&self.failed),
        };
        self.position += buffer.as_slice().len() as u64;
        assert!(
            self.position <= self.capacity,
            "a group lies within its segment"
        );
        self.pending.push_back(PendingGroup {
            number: group.number,
            segment: self.active_number,
            offset: group.offset,
            buffer,
        });
        self.proven = self.flushed;
        self.next_group.0 += 1;
        let position = self.position;
        let info = self.segments.get_mut(&self.active_number);
        info.expect("the active segment is listed").bytes_used = position;
        group
    }

    /// Writes the records behind room for the header, and notes where entries lie.
    fn encode(
        &mut self,
        buffer: &mut AlignedBuffer,
        offset: u32,
        hard_state: Option<HardState>,
        entries: &[LogEntry],
    ) {
        let size = padded(
            (entries
                .iter()
                .map(|e| record_bytes(e.data.len()))
                .sum::<usize>()
                + hard_state.map_or(0, |_| hard_state_bytes())) as u64,
        );
        buffer.fill_to(GROUP_HEADER_BYTES);
        if let Some(state) = hard_state {
            buffer.extend(&hard_state_record(self.active.seed, state));
            self.hard_state = state;
        }
        for entry in entries {
            let head = entry_header(
                self.active.seed,
                entry.kind,
                entry.index,
                entry.term,
                &entry.data,
            );
            let start = buffer.as_slice().len();
            buffer.extend(&head);
            buffer.extend(&entry.data);
            buffer.fill_to(start + record_bytes(entry.data.len()));
            let at = u32::try_from(start + RECORD_HEADER_BYTES).expect("bounded");
            let place = DataPlace {
                segment: self.active_number,
                offset: offset.checked_add(at).expect("a segment is below 4 GiB"),
                length: u32::try_from(entry.data.len()).expect("bounded"),
            };
            self.note_entry(entry, place);
        }
        buffer.fill_to(usize::try_from(size).expect("bounded by GROUP_BYTES_MAX"));
    }

    fn note_entry(&mut self, entry: &LogEntry, place: DataPlace) {
        let keep = entry.index.0 - self.released.0 - 1;
        self.slots
            .truncate(usize::try_from(keep).expect("slots are in memory"));
        self.slots.push_back(Slot {
            term: entry.term,
            kind: entry.kind,
            place,
        });
        self.last = (entry.index, entry.term);
        let info = self.segments.get_mut(&self.active_number);
        info.expect("the active segment is listed")
            .note(entry.index);
    }

    fn read_data(&self, place: DataPlace) -> Result<Bytes, Fatal> {
        let offset = u64::from(place.offset);
        for group in &self.pending {
            let end = group.offset + group.buffer.as_slice().len() as u64;
            if group.segment == place.segment && (group.offset..end).contains(&offset) {
                let at = usize::try_from(offset - group.offset).expect("within the buffer");
                let data = group.buffer.as_slice().get(at..at + place.length as usize);
                return Ok(Bytes::copy_from_slice(data.expect("within the group")));
            }
        }
        let segment = self
            .table
            .get(place.segment)
            .expect("unreleased segments stay");
        let start = offset - RECORD_HEADER_BYTES as u64;
        let record = segment.read(start, place.length + RECORD_HEADER_BYTES as u32)?;
        if !record_is_whole(segment.seed, &record) {
            let detail = format!("an entry of {} bytes fails its checksum", place.length);
            return Err(Fatal::corruption(&segment.path, start, detail));
        }
        Ok(Bytes::from(record).slice(RECORD_HEADER_BYTES..))
    }

    /// Seals the active segment and opens the next, with room for `size` bytes.
    fn roll(&mut self, size: u64) -> Result<(), Fatal> {
        let needed = FIRST_GROUP_OFFSET + size;
        assert!(needed < u64::from(u32::MAX), "a place is 32 bits wide");
        let number = SegmentNumber(
            self.active_number
                .0
                .checked_add(1)
                .expect("4 billion rolls"),
        );
        let header = SegmentHeader {
            number,
            salt: self.salt,
            recycled: false,
            previous: Some((self.active_number, self.position)),
            first_group: self.next_group,
            chain: self.chain,
            synced: self.flushed,
            base: self.last,
            hard_state: self.hard_state,
        };
        let fitting = self.spares.iter().position(|spare| spare.length >= needed);
        let spare = fitting.map(|at| self.spares.swap_remove(at));
        let opened = open_segment(
            &*self.vfs,
            &self.directory,
            header,
            spare,
            self.options.first_segment_bytes.max(needed),
            &mut self.next_spare,
        )
        .inspect_err(|_| self.failed.store(true, Ordering::SeqCst))?;
        let sealed = self.segments.get_mut(&self.active_number);
        sealed.expect("the active segment is listed").sealed = true;
        self.activate(number, opened);
        Ok(())
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
