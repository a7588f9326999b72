//! Reads the groups of a running log back, past the page cache, and compares them with
//! their checksums and with each other (docs/design/0004-scrub.md).
//!
//! Owns a list of segments taken at one moment and a share of the table of open ones.
//! Invariants: it stops before the group that nothing on disk proves, which a start would
//! take for a torn write; a segment that has left the table is no finding, whatever was read.
//! Limit: a step reads [`SCRUB_READ_BYTES`], or one group.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::error::Fatal;
use crate::limits::SCRUB_READ_BYTES;
use crate::planted::{Bug, planted};
use crate::types::SegmentNumber;
use crate::vfs::{Vfs, VfsFile};

use super::format::{BLOCK, FIRST_GROUP_OFFSET, GroupHeader, SegmentHeader, padded, seed};
use super::segment::{SegmentFile, SegmentTable};
use super::{GroupNumber, RaftLog};

/// A segment to be read.
#[derive(Debug)]
struct Planned {
    number: SegmentNumber,
    segment: Arc<SegmentFile>,
    /// Where its groups ended when the pass began.
    end: u64,
}

/// A segment that is being read.
#[derive(Debug)]
struct Reading {
    planned: Planned,
    file: Arc<dyn VfsFile>,
    offset: u64,
    at: Position,
}

/// The last group that was verified, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    group: GroupNumber,
    chain: u32,
}

/// One pass over the log. See the head of the file.
#[derive(Debug)]
pub struct LogScrub {
    vfs: Arc<dyn Vfs>,
    table: Arc<SegmentTable>,
    proven: GroupNumber,
    planned: VecDeque<Planned>,
    reading: Option<Reading>,
    /// How the segment read before this one ended.
    before: Option<(SegmentNumber, u64, Position)>,
}

impl RaftLog {
    /// A pass over every group that something on disk proves now: the last one that was
    /// flushed proves those before it; itself it is proven only by the header of a segment
    /// that begins after it.
    #[must_use]
    pub fn scrub(&self) -> LogScrub {
        let unproven = u64::from(self.position > FIRST_GROUP_OFFSET);
        let proven = GroupNumber(self.flushed.0.saturating_sub(unproven));
        // A header that came with its first group is proven with it; while that is in flight
        // the segment before may hold nothing else that is proven.
        let left_out = if self.opened_by <= proven {
            0
        } else if self.opened_by <= self.flushed {
            1
        } else {
            2
        };
        let whole = self.segments.len().saturating_sub(left_out);
        let planned = self.segments.values().take(whole).filter_map(|info| {
            Some(Planned {
                number: info.number,
                segment: self.table.get(info.number)?,
                end: info.bytes_used,
            })
        });
        LogScrub {
            vfs: Arc::clone(&self.vfs),
            table: Arc::clone(&self.table),
            proven,
            planned: planned.collect(),
            reading: None,
            before: None,
        }
    }
}

impl LogScrub {
    /// Verifies the next piece; how many bytes it read, `None` at the end.
    ///
    /// # Errors
    /// `Corruption` naming file and offset, `Io` when the disk does not give the bytes.
    pub fn step(&mut self) -> Result<Option<u64>, Fatal> {
        let (number, verified) = match self.reading.take() {
            Some(reading) => (reading.planned.number, self.groups(reading)),
            None => match self.planned.pop_front() {
                Some(planned) => (planned.number, self.open(planned)),
                None => return Ok(None),
            },
        };
        // Its file may have been recycled under our hands; only its absence from the table
        // after the read tells that from damage.
        if self.table.get(number).is_none() && !planted(Bug::ScrubBelievesRecycled) {
            self.reading = None;
            self.before = None;
            return Ok(Some(0));
        }
        verified.map(Some)
    }

    /// Verifies the header and that it goes on where the segment before ended.
    fn open(&mut self, planned: Planned) -> Result<u64, Fatal> {
        let path = &planned.segment.path;
        let file = self.vfs.open_uncached(path).map_err(|source| {
            if source.kind() == ErrorKind::NotFound {
                Fatal::corruption(path, 0, "the segment is gone while the member runs")
            } else {
                Fatal::io("open", path, source)
            }
        })?;
        let mut block = [0; BLOCK];
        read(&*file, &planned, 0, &mut block)?;
        let header = SegmentHeader::decode(&block)
            .ok()
            .filter(|header| header.number == planned.number)
            .filter(|header| seed(header.salt, header.number) == planned.segment.seed);
        let Some(header) = header else {
            let detail = "the segment header is not what was written";
            return Err(Fatal::corruption(path, 0, detail));
        };
        let at = Position {
            group: GroupNumber(header.first_group.0 - 1),
            chain: header.chain,
        };
        if let Some((number, end, position)) = self.before
            && header.previous == Some((number, end))
            && position != at
        {
            let detail = format!("the segment does not go on where segment {} ends", number.0);
            return Err(Fatal::corruption(path, 0, detail));
        }
        self.reading = Some(Reading {
            planned,
            file,
            offset: FIRST_GROUP_OFFSET,
            at,
        });
        Ok(BLOCK as u64)
    }

    /// Verifies the groups of one read; a group that it cuts is left to the next.
    fn groups(&mut self, mut reading: Reading) -> Result<u64, Fatal> {
        let begin = reading.offset;
        let length = (reading.planned.end - begin).min(SCRUB_READ_BYTES);
        let mut bytes = vec![0; usize::try_from(length).expect("a step fits memory")];
        read(&*reading.file, &reading.planned, begin, &mut bytes)?;
        let mut rest = bytes.as_slice();
        while reading.goes_on(self.proven) {
            let (header, size) = reading.header(rest)?;
            if size > rest.len() && rest.len() < bytes.len() {
                self.reading = Some(reading);
                return Ok(length);
            }
            let whole;
            let group = match rest.split_at_checked(size) {
                Some((group, others)) => {
                    rest = others;
                    group
                }
                None => {
                    whole = reading.large_group(size)?;
                    rest = &[];
                    &whole
                }
            };
            reading.verify(&header, group)?;
            if rest.is_empty() && reading.goes_on(self.proven) {
                self.reading = Some(reading);
                return Ok(length.max(size as u64));
            }
        }
        let planned = &reading.planned;
        self.before = Some((planned.number, reading.offset, reading.at));
        Ok(length)
    }
}

impl Reading {
    fn goes_on(&self, proven: GroupNumber) -> bool {
        self.offset < self.planned.end && self.at.group < proven
    }

    fn damaged(&self, detail: impl Into<String>) -> Fatal {
        Fatal::corruption(&self.planned.segment.path, self.offset, detail)
    }

    /// The verified header of the group that begins here, and the group's size.
    fn header(&self, bytes: &[u8]) -> Result<(GroupHeader, usize), Fatal> {
        let (seed, number) = (self.planned.segment.seed, self.planned.number);
        let header = GroupHeader::decode(seed, number, self.offset, bytes)
            .ok_or_else(|| self.damaged("no whole group header"))?;
        let size = padded(u64::from(header.length));
        if self.offset + size > self.planned.end {
            return Err(self.damaged("a group reaches beyond what was written"));
        }
        if header.number.0 != self.at.group.0 + 1 || header.chain != self.at.chain {
            let detail = format!(
                "group {} does not follow group {}",
                header.number.0, self.at.group.0
            );
            return Err(self.damaged(detail));
        }
        let size = usize::try_from(size).expect("a group fits memory");
        Ok((header, size))
    }

    /// A group that is larger than what is read at once.
    fn large_group(&self, size: usize) -> Result<Vec<u8>, Fatal> {
        let mut bytes = vec![0; size];
        read(&*self.file, &self.planned, self.offset, &mut bytes)?;
        Ok(bytes)
    }

    fn verify(&mut self, header: &GroupHeader, group: &[u8]) -> Result<(), Fatal> {
        let seed = self.planned.segment.seed;
        let whole = GroupHeader::group_checksum(seed, group) == header.crc;
        if !whole && !planted(Bug::ScrubSkipsChecksums) {
            return Err(self.damaged("a group fails its checksum"));
        }
        self.at = Position {
            group: header.number,
            chain: header.crc,
        };
        self.offset += group.len() as u64;
        Ok(())
    }
}

fn read(file: &dyn VfsFile, planned: &Planned, offset: u64, bytes: &mut [u8]) -> Result<(), Fatal> {
    let path = &planned.segment.path;
    file.read_exact_at(bytes, offset).map_err(|source| {
        if source.kind() == ErrorKind::UnexpectedEof {
            Fatal::corruption(path, offset, "the file ends before what was written")
        } else {
            Fatal::io("read", path, source)
        }
    })
}
