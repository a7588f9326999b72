//! Reads groups in order and follows the state that they describe.
//!
//! Invariants: a group is believed only when its header, its checksum, its
//! number and the checksum of its predecessor all agree; an I/O error is never
//! taken for the end of the log.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fatal;
use crate::limits::LOG_READ_WINDOW_BYTES;
use crate::types::{LogIndex, Term};
use crate::vfs::{OpenMode, Vfs, VfsFile};

use super::format::{
    BLOCK, FIRST_GROUP_OFFSET, GROUP_HEADER_BYTES, GroupHeader, Record, SegmentHeader,
    decode_record, padded, seed,
};
use super::scan::Candidate;
use super::writer::Slot;
use super::{DataPlace, GroupNumber, HardState, LogEntry, SegmentInfo};

/// Reads a file in pieces, so that small groups do not cost a call each.
pub(super) struct Window {
    pub file: Arc<dyn VfsFile>,
    pub path: PathBuf,
    pub length: u64,
    pub start: u64,
    pub bytes: Vec<u8>,
}

impl Window {
    pub(super) fn open(vfs: &dyn Vfs, path: &Path, uncached: bool) -> Result<Window, Fatal> {
        let opened = if uncached {
            vfs.open_uncached(path)
        } else {
            vfs.open(path, OpenMode::Read)
        };
        let file = opened.map_err(|source| Fatal::io("open", path, source))?;
        let length = file
            .len()
            .map_err(|source| Fatal::io("measure", path, source))?;
        Ok(Window {
            file,
            path: path.to_path_buf(),
            length,
            start: 0,
            bytes: Vec::new(),
        })
    }

    /// The bytes at `offset`; `None` when the file ends before their end.
    pub(super) fn get(&mut self, offset: u64, length: u64) -> Result<Option<&[u8]>, Fatal> {
        let end = offset + length;
        if end > self.length {
            return Ok(None);
        }
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let span = length.max(LOG_READ_WINDOW_BYTES).min(self.length - offset);
            self.bytes
                .resize(usize::try_from(span).expect("fits memory"), 0);
            self.start = offset;
            self.file
                .read_exact_at(&mut self.bytes, offset)
                .map_err(|source| Fatal::io("read", &self.path, source))?;
        }
        let at = usize::try_from(offset - self.start).expect("within the window");
        let length = usize::try_from(length).expect("within the window");
        Ok(self.bytes.get(at..at + length))
    }
}

/// The last whole group, to be rewritten.
#[derive(Debug)]
pub(super) struct LastGroup {
    pub path: PathBuf,
    pub offset: u64,
    pub bytes: Bytes,
    /// The header of its segment, when it was written with this group.
    pub opening: Option<SegmentHeader>,
}

/// The state of a walk over the groups, in order.
#[derive(Debug)]
pub(super) struct Walk {
    pub applied: (LogIndex, Term),
    pub last_group: GroupNumber,
    pub chain: u32,
    pub last: (LogIndex, Term),
    pub hard_state: HardState,
    pub slots: VecDeque<Slot>,
    pub entries: VecDeque<LogEntry>,
    /// The term seen at the applied index, while the log holds that entry.
    pub applied_term: Option<Term>,
    pub last_whole: Option<LastGroup>,
}

/// Why the walk stopped within a segment.
pub(super) struct Stop {
    pub offset: u64,
    pub detail: &'static str,
    /// Where a later group could start.
    pub resume: u64,
    /// The header of the expected group was whole: it was being written.
    pub begun: bool,
}

impl Walk {
    pub(super) fn begin(header: &SegmentHeader, applied: (LogIndex, Term)) -> Walk {
        Walk {
            applied,
            last_group: GroupNumber(header.first_group.0 - 1),
            chain: header.chain,
            last: header.base,
            hard_state: header.hard_state,
            slots: VecDeque::new(),
            entries: VecDeque::new(),
            applied_term: (header.base.0 == applied.0).then_some(header.base.1),
            last_whole: None,
        }
    }

    /// Reads groups from one segment up to `end`. `None` when it ends there exactly.
    pub(super) fn segment(
        &mut self,
        candidate: &Candidate,
        window: &mut Window,
        end: u64,
        info: &mut SegmentInfo,
    ) -> Result<Option<Stop>, Fatal> {
        let number = candidate.header.number;
        let seed = seed(candidate.header.salt, number);
        let mut offset = FIRST_GROUP_OFFSET;
        while offset < end {
            let next = offset + BLOCK as u64;
            let mut stop = Stop {
                offset,
                detail: "no whole group header",
                resume: next,
                begun: false,
            };
            let block = window.get(offset, GROUP_HEADER_BYTES as u64)?;
            let Some(header) = block.and_then(|b| GroupHeader::decode(seed, number, offset, b))
            else {
                return Ok(Some(stop));
            };
            if header.number.0 != self.last_group.0 + 1 || header.chain != self.chain {
                let detail = format!(
                    "group {} does not follow group {}",
                    header.number.0, self.last_group.0
                );
                return Err(Fatal::corruption(&candidate.path, offset, detail));
            }
            let size = padded(u64::from(header.length));
            stop.begun = true;
            stop.resume = offset + size;
            let Some(group) = window.get(offset, size)?.filter(|_| offset + size <= end) else {
                stop.detail = "the file ends within a group";
                return Ok(Some(stop));
            };
            if GroupHeader::group_checksum(seed, group) != header.crc {
                stop.detail = "a group fails its checksum";
                return Ok(Some(stop));
            }
            self.group(candidate, &header, group, info)?;
            offset += size;
            info.bytes_used = offset;
        }
        Ok(None)
    }

    fn group(
        &mut self,
        candidate: &Candidate,
        header: &GroupHeader,
        group: &[u8],
        info: &mut SegmentInfo,
    ) -> Result<(), Fatal> {
        let offset = u64::from(header.offset);
        let end = GROUP_HEADER_BYTES + header.length as usize;
        let group = Bytes::copy_from_slice(group);
        let records = group.slice(GROUP_HEADER_BYTES..end);
        let mut at = 0;
        let mut count = 0;
        while at < records.len() {
            let position = offset + (GROUP_HEADER_BYTES + at) as u64;
            let nonsense = |detail: &str| Fatal::corruption(&candidate.path, position, detail);
            let (record, next) = decode_record(&records, at)
                .ok_or_else(|| nonsense("a record of an unknown kind or length"))?;
            match record {
                Record::HardState(state) => self.hard_state = state,
                Record::Entry {
                    kind,
                    term,
                    index,
                    data_offset,
                    length,
                } => {
                    let place = DataPlace {
                        segment: header.segment,
                        offset: header.offset
                            + u32::try_from(GROUP_HEADER_BYTES + data_offset).expect("bounded"),
                        length,
                    };
                    if index.0 == 0 || index.0 > self.last.0.0 + 1 {
                        return Err(nonsense("an entry leaves a gap"));
                    }
                    let data = records.slice(data_offset..data_offset + length as usize);
                    self.entry(
                        LogEntry {
                            term,
                            index,
                            kind,
                            data,
                        },
                        place,
                    );
                    info.note(index);
                }
            }
            at = next;
            count += 1;
        }
        if count != header.records {
            let detail = format!("{count} records instead of {}", header.records);
            return Err(Fatal::corruption(&candidate.path, offset, detail));
        }
        self.last_group = header.number;
        self.chain = header.crc;
        self.last_whole = Some(LastGroup {
            path: candidate.path.clone(),
            offset,
            bytes: group,
            opening: (offset == FIRST_GROUP_OFFSET).then(|| candidate.header.clone()),
        });
        Ok(())
    }

    fn entry(&mut self, entry: LogEntry, place: DataPlace) {
        let applied = self.applied.0;
        self.last = (entry.index, entry.term);
        if entry.index <= applied {
            self.slots.clear();
            self.entries.clear();
            self.applied_term = (entry.index == applied).then_some(entry.term);
            return;
        }
        let keep = usize::try_from(entry.index.0 - applied.0 - 1).unwrap_or(usize::MAX);
        self.slots.truncate(keep);
        self.entries.truncate(keep);
        self.slots.push_back(Slot {
            term: entry.term,
            kind: entry.kind,
            place,
        });
        self.entries.push_back(entry);
    }

    /// Goes on into the next segment; false when its header does not continue
    /// this state. A boot may have raised the commit index to the applied one.
    pub(super) fn enter(&mut self, header: &SegmentHeader) -> bool {
        let before = self.hard_state;
        self.hard_state = header.hard_state;
        header.first_group.0 == self.last_group.0 + 1
            && header.chain == self.chain
            && header.base == self.last
            && header.hard_state.term == before.term
            && header.hard_state.vote == before.vote
            && header.hard_state.commit >= before.commit
    }
}
