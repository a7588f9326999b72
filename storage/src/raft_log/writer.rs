//! The writing side of the log: encodes flush groups, rolls to the next
//! segment, and keeps where every unreleased entry lies.
//!
//! Owned by one thread. Invariants: `slots` holds exactly the entries after
//! `released` up to `last`; `pending` holds exactly the groups after `flushed`;
//! group numbers and segment numbers only rise. Limits: `PENDING_GROUPS_MAX`
//! groups in flight, `GROUP_BYTES_MAX` per group.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::error::Fatal;
use crate::limits::{GROUP_BYTES_MAX, PENDING_GROUPS_MAX};
use crate::types::{LogIndex, SegmentNumber, Term};
use crate::vfs::Vfs;
use crate::vfs::aligned::AlignedBuffer;

use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, RECORD_HEADER_BYTES, RECORD_HEADER_LENGTH, entry_header,
    hard_state_bytes, hard_state_record, padded, record_bytes, record_is_whole, record_position,
};
use super::group::{GroupWrite, refuse_after_failure};
use super::segment::{SegmentFile, SegmentTable};
use super::spare::{NextSegment, SpareFile, Urgency};
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
pub(super) struct PendingGroup {
    number: GroupNumber,
    pub(super) segment: SegmentNumber,
    offset: u64,
    buffer: Arc<AlignedBuffer>,
}

fn records_bytes(hard_state: Option<HardState>, entries: &[LogEntry]) -> usize {
    let records: usize = entries.iter().map(|e| record_bytes(e.data.len())).sum();
    records + hard_state.map_or(0, |_| hard_state_bytes())
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
    pub(super) last_content: GroupNumber,
    pub(super) last: (LogIndex, Term),
    pub(super) hard_state: HardState,
    pub(super) released: LogIndex,
    pub(super) slots: VecDeque<Slot>,
    pub(super) pending: VecDeque<PendingGroup>,
    pub(super) spares: Vec<SpareFile>,
    /// The segment after the active one, once it is prepared.
    pub(super) next: Option<NextSegment>,
    /// The length of a segment that someone waits for; 0 for nobody.
    pub(super) wanted_bytes: u64,
    /// The group that carries the active segment's header; 0 where that was durable before.
    pub(super) opened_by: GroupNumber,
    /// Forgotten segments whose files still bear their names.
    pub(super) retired: VecDeque<SegmentNumber>,
    pub(super) next_spare: u32,
    pub(super) spare_outstanding: Weak<Urgency>,
    pub(super) idle_buffers: Vec<AlignedBuffer>,
    pub(super) failed: Arc<AtomicBool>,
}

impl RaftLog {
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

    /// Bytes that a group of these takes in the log.
    #[must_use]
    pub fn group_bytes(hard_state: Option<HardState>, entries: &[LogEntry]) -> u64 {
        padded(records_bytes(hard_state, entries) as u64)
    }

    /// Encodes one flush group. No I/O where [`RaftLog::has_room`] says so, else the
    /// next segment is made here. An entry whose index is not above the last one
    /// replaces the suffix.
    ///
    /// # Errors
    /// `Io` when a segment cannot be made or an earlier write failed: ends the process.
    ///
    /// # Panics
    /// When the group is empty, too large or not contiguous, or when the hard
    /// state goes backward; when a segment has to be made here while a job is under
    /// way or a header is not flushed: a broken invariant of the caller.
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
                data: self.read_data(slot, LogIndex(index))?,
            });
        }
        Ok(entries)
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
        let records = records_bytes(hard_state, entries);
        let size = padded(records as u64);
        assert!(
            size <= GROUP_BYTES_MAX,
            "a group has at most {GROUP_BYTES_MAX} bytes"
        );
        let opening = if self.position + size > self.capacity {
            self.roll(size)?
        } else {
            None
        };
        let lead = opening.as_ref().map_or(0, |block| block.len());
        let offset = u32::try_from(self.position).expect("a segment is below 4 GiB");
        let size = usize::try_from(size).expect("bounded by GROUP_BYTES_MAX");
        let mut buffer = self.idle_buffers.pop().unwrap_or_default();
        buffer.reset(lead + size);
        if let Some(block) = &opening {
            buffer.extend(&block[..]);
        }
        self.encode(&mut buffer, offset, hard_state, entries);
        buffer.fill_to(lead + size);
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
        let group = buffer.as_mut_slice().get_mut(lead..);
        let group = group.expect("the group follows the segment's header");
        self.chain = header.seal(self.active.seed, group);
        let group = self.enqueue(buffer, lead, entries.last().map(|e| (e.index, e.term)));
        self.hurry();
        Ok(group)
    }

    /// Numbers the encoded group and advances behind it; `lead` bytes of the segment's
    /// header stand before it.
    fn enqueue(
        &mut self,
        buffer: AlignedBuffer,
        lead: usize,
        last: Option<(LogIndex, Term)>,
    ) -> GroupWrite {
        let buffer = Arc::new(buffer);
        let group = GroupWrite {
            number: self.next_group,
            last,
            segment: Arc::clone(&self.active),
            offset: self.position - lead as u64,
            buffer: Arc::clone(&buffer),
            failed: Arc::clone(&self.failed),
        };
        self.position = group.offset + buffer.as_slice().len() as u64;
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

    /// Appends room for the group's header and the records, and notes where entries lie.
    fn encode(
        &mut self,
        buffer: &mut AlignedBuffer,
        offset: u32,
        hard_state: Option<HardState>,
        entries: &[LogEntry],
    ) {
        let lead = buffer.as_slice().len();
        buffer.fill_to(lead + GROUP_HEADER_BYTES);
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
            let at = start - lead + RECORD_HEADER_BYTES;
            let at = u32::try_from(at).expect("bounded");
            let place = DataPlace {
                segment: self.active_number,
                offset: offset.checked_add(at).expect("a segment is below 4 GiB"),
                length: u32::try_from(entry.data.len()).expect("bounded"),
            };
            self.note_entry(entry, place);
        }
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

    fn read_data(&self, slot: &Slot, index: LogIndex) -> Result<Bytes, Fatal> {
        let place = slot.place;
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
        let record = segment.read(start, place.length + RECORD_HEADER_LENGTH)?;
        if !record_is_whole(segment.seed, &record) {
            let detail = format!("an entry of {} bytes fails its checksum", place.length);
            return Err(Fatal::corruption(&segment.path, start, detail));
        }
        // A whole record of the same segment, written to the wrong place.
        let found = record_position(&record);
        if found != (index, slot.term) {
            let detail = format!("entry {} lies where {} should", found.0.0, index.0);
            return Err(Fatal::corruption(&segment.path, start, detail));
        }
        Ok(Bytes::from(record).slice(RECORD_HEADER_BYTES..))
    }
}
