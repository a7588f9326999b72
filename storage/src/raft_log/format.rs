//! The bytes of a log segment: segment header, group header, record header
//! (docs/format.md, "Log"). Pure functions, no I/O; little-endian throughout.
//!
//! Invariants: every checksum is seeded by the log's salt and the segment's
//! number, so that bytes of another segment (recycled file, another member's
//! log) never verify; every header names its own position.

use crate::planted::{Bug, planted};
use crate::types::{LogIndex, MemberId, SegmentNumber, Term};

use super::{EntryKind, GroupNumber, HardState};

pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"SPOSTLOG";
pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const BLOCK: usize = 4096;
/// The first group of a segment starts here: the header has a block of its own.
pub(super) const FIRST_GROUP_OFFSET: u64 = 4096;
pub(super) const GROUP_MAGIC: u32 = 0x5052_4753;
pub(super) const GROUP_HEADER_BYTES: usize = 64;
pub(super) const RECORD_HEADER_LENGTH: u32 = 32;
pub(super) const RECORD_HEADER_BYTES: usize = RECORD_HEADER_LENGTH as usize;
/// A hard state record's data is the vote.
const VOTE_BYTES: u32 = 8;
const RECORD_ALIGNMENT: usize = 8;
const RECORD_HARD_STATE: u8 = 1;
const FLAG_RECYCLED: u32 = 1;
const FLAG_PREVIOUS: u32 = 2;
/// No log counts its groups or entries this far; what is below can be added to.
const COUNT_END: u64 = 1 << 62;

/// What the header of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub number: SegmentNumber,
    pub salt: u64,
    /// The file held other bytes before: what lies behind the last group is not zeros.
    pub recycled: bool,
    /// The segment before, and the offset at which its groups end.
    pub previous: Option<(SegmentNumber, u64)>,
    /// The number that the first group of this segment has.
    pub first_group: GroupNumber,
    /// Checksum of the group before it.
    pub chain: u32,
    /// Groups up to this one were known synced when the header was written.
    pub synced: GroupNumber,
    /// The last entry before this segment.
    pub base: (LogIndex, Term),
    /// The hard state before this segment.
    pub hard_state: HardState,
}

/// Why a block is not a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    NotOurs,
    NewerFormat(u32),
    Damaged,
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes
        .get_mut(at..at + field.len())
        .expect("a field lies within its block")
        .copy_from_slice(field);
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).expect("a field lies within its block")
}

/// The seed of all checksums of one segment.
pub(super) fn seed(salt: u64, number: SegmentNumber) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    if !planted(Bug::BelieveOldGroup) {
        hasher.update(&number.0.to_le_bytes());
    }
    hasher.finalize()
}

fn checksum(seed: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let (previous, end) = self.previous.unwrap_or_default();
        let mut flags = 0;
        if self.recycled {
            flags |= FLAG_RECYCLED;
        }
        if self.previous.is_some() {
            flags |= FLAG_PREVIOUS;
        }
        put(&mut block, 0, &SEGMENT_MAGIC);
        put(&mut block, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 16, &self.number.0.to_le_bytes());
        put(&mut block, 20, &flags.to_le_bytes());
        put(&mut block, 24, &self.salt.to_le_bytes());
        put(&mut block, 32, &previous.0.to_le_bytes());
        put(&mut block, 36, &self.chain.to_le_bytes());
        put(&mut block, 40, &end.to_le_bytes());
        put(&mut block, 48, &self.first_group.0.to_le_bytes());
        put(&mut block, 56, &self.synced.0.to_le_bytes());
        put(&mut block, 64, &self.base.0.0.to_le_bytes());
        put(&mut block, 72, &self.base.1.0.to_le_bytes());
        put(&mut block, 80, &self.hard_state.term.0.to_le_bytes());
        put(&mut block, 88, &self.hard_state.vote.0.to_le_bytes());
        put(&mut block, 96, &self.hard_state.commit.0.to_le_bytes());
        let crc = Self::block_checksum(&block);
        put(&mut block, 12, &crc.to_le_bytes());
        block
    }

    fn block_checksum(block: &[u8; BLOCK]) -> u32 {
        checksum(0, &[part(block, 0, 12), part(block, 16, BLOCK)])
    }

    pub(super) fn decode(block: &[u8; BLOCK]) -> Result<SegmentHeader, BadHeader> {
        if part(block, 0, 8) != SEGMENT_MAGIC {
            return Err(BadHeader::NotOurs);
        }
        // Before the version is believed, so that a flip in it is not taken for a newer one.
        if get_u32(block, 12) != Self::block_checksum(block) {
            return Err(BadHeader::Damaged);
        }
        let version = get_u32(block, 8);
        if version > FORMAT_VERSION {
            return Err(BadHeader::NewerFormat(version));
        }
        let flags = get_u32(block, 20);
        if version != FORMAT_VERSION || flags & !(FLAG_RECYCLED | FLAG_PREVIOUS) != 0 {
            return Err(BadHeader::Damaged);
        }
        let (first_group, synced, base) =
            (get_u64(block, 48), get_u64(block, 56), get_u64(block, 64));
        // What was synced when a header was written lies before its first group.
        if synced >= first_group || first_group.max(base) >= COUNT_END {
            return Err(BadHeader::Damaged);
        }
        Ok(SegmentHeader {
            number: SegmentNumber(get_u32(block, 16)),
            salt: get_u64(block, 24),
            recycled: flags & FLAG_RECYCLED != 0,
            previous: (flags & FLAG_PREVIOUS != 0)
                .then(|| (SegmentNumber(get_u32(block, 32)), get_u64(block, 40))),
            first_group: GroupNumber(first_group),
            chain: get_u32(block, 36),
            synced: GroupNumber(synced),
            base: (LogIndex(base), Term(get_u64(block, 72))),
            hard_state: HardState {
                term: Term(get_u64(block, 80)),
                vote: MemberId(get_u64(block, 88)),
                commit: LogIndex(get_u64(block, 96)),
            },
        })
    }
}

/// What the header of a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub number: GroupNumber,
    /// Bytes of records, without this header and without padding.
    pub length: u32,
    /// Checksum over header, records and padding.
    pub crc: u32,
    /// `crc` of the group before.
    pub chain: u32,
    pub segment: SegmentNumber,
    /// Where in the file this group starts.
    pub offset: u32,
    /// First entry's position; zeros in a group without entries.
    pub first: (LogIndex, Term),
    /// Groups up to this one were known synced when this one was built.
    pub synced: GroupNumber,
    pub records: u32,
}

/// Bytes that a group of `length` bytes of records takes on disk.
pub(super) fn padded(length: u64) -> u64 {
    (length + GROUP_HEADER_BYTES as u64).next_multiple_of(BLOCK as u64)
}

impl GroupHeader {
    /// Fills the first [`GROUP_HEADER_BYTES`] of `group`, which holds records
    /// and padding already, and returns the checksum over all of it.
    pub(super) fn seal(mut self, seed: u32, group: &mut [u8]) -> u32 {
        put(group, 0, &GROUP_MAGIC.to_le_bytes());
        put(group, 8, &self.number.0.to_le_bytes());
        put(group, 16, &self.length.to_le_bytes());
        put(group, 24, &self.chain.to_le_bytes());
        put(group, 28, &self.segment.0.to_le_bytes());
        put(group, 32, &self.first.0.0.to_le_bytes());
        put(group, 40, &self.first.1.0.to_le_bytes());
        put(group, 48, &self.synced.0.to_le_bytes());
        put(group, 56, &self.offset.to_le_bytes());
        put(group, 60, &self.records.to_le_bytes());
        self.crc = Self::group_checksum(seed, group);
        put(group, 20, &self.crc.to_le_bytes());
        let own = checksum(seed, &[part(group, 8, GROUP_HEADER_BYTES)]);
        put(group, 4, &own.to_le_bytes());
        self.crc
    }

    /// Checksum over a whole group as it lies on disk, padding included.
    pub(super) fn group_checksum(seed: u32, group: &[u8]) -> u32 {
        checksum(seed, &[part(group, 8, 20), part(group, 24, group.len())])
    }

    /// None when the bytes are not a header of this segment at this offset.
    pub(super) fn decode(
        seed: u32,
        segment: SegmentNumber,
        offset: u64,
        bytes: &[u8],
    ) -> Option<GroupHeader> {
        let block = bytes.get(..GROUP_HEADER_BYTES)?;
        if get_u32(block, 0) != GROUP_MAGIC
            || get_u32(block, 4) != checksum(seed, &[part(block, 8, GROUP_HEADER_BYTES)])
        {
            return None;
        }
        let header = GroupHeader {
            number: GroupNumber(get_u64(block, 8)),
            length: get_u32(block, 16),
            crc: get_u32(block, 20),
            chain: get_u32(block, 24),
            segment: SegmentNumber(get_u32(block, 28)),
            offset: get_u32(block, 56),
            first: (LogIndex(get_u64(block, 32)), Term(get_u64(block, 40))),
            synced: GroupNumber(get_u64(block, 48)),
            records: get_u32(block, 60),
        };
        let here = header.segment == segment || planted(Bug::BelieveOldGroup);
        (here && u64::from(header.offset) == offset).then_some(header)
    }
}

/// One record of a group, borrowed from its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    HardState(HardState),
    /// An entry; its data lies at `data_offset` from the start of the records.
    Entry {
        kind: EntryKind,
        term: Term,
        index: LogIndex,
        data_offset: usize,
        length: u32,
    },
}

/// Bytes that a record with `length` bytes of data takes.
pub(super) fn record_bytes(length: usize) -> usize {
    RECORD_HEADER_BYTES + length.next_multiple_of(RECORD_ALIGNMENT)
}

/// Bytes that a hard state record takes.
pub(super) fn hard_state_bytes() -> usize {
    record_bytes(VOTE_BYTES as usize)
}

fn record_header(
    seed: u32,
    kind: u8,
    index: LogIndex,
    term: Term,
    data: &[u8],
) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0; RECORD_HEADER_BYTES];
    let length = u32::try_from(data.len()).expect("a group is bounded by GROUP_BYTES_MAX");
    put(&mut header, 4, &length.to_le_bytes());
    put(&mut header, 8, &index.0.to_le_bytes());
    put(&mut header, 16, &term.0.to_le_bytes());
    put(&mut header, 24, &[kind]);
    let crc = checksum(seed, &[part(&header, 4, RECORD_HEADER_BYTES), data]);
    put(&mut header, 0, &crc.to_le_bytes());
    header
}

/// The header of an entry's record.
pub(super) fn entry_header(
    seed: u32,
    kind: EntryKind,
    index: LogIndex,
    term: Term,
    data: &[u8],
) -> [u8; RECORD_HEADER_BYTES] {
    let kind = match kind {
        EntryKind::Normal => 2,
        EntryKind::ConfChange => 3,
        EntryKind::ConfChangeV2 => 4,
    };
    record_header(seed, kind, index, term, data)
}

/// The whole record of a hard state.
pub(super) fn hard_state_record(seed: u32, state: HardState) -> Vec<u8> {
    let vote = state.vote.0.to_le_bytes();
    let mut record =
        record_header(seed, RECORD_HARD_STATE, state.commit, state.term, &vote).to_vec();
    record.extend_from_slice(&vote);
    record
}

/// True when `record` (header and data, no padding) carries its own checksum.
pub(super) fn record_is_whole(seed: u32, record: &[u8]) -> bool {
    record.len() >= RECORD_HEADER_BYTES
        && get_u32(record, 0) == checksum(seed, &[part(record, 4, record.len())])
}

/// The position that the header of a record names.
pub(super) fn record_position(record: &[u8]) -> (LogIndex, Term) {
    (LogIndex(get_u64(record, 8)), Term(get_u64(record, 16)))
}

/// Decodes the record at `at`; returns it and where the next one starts.
/// None when the bytes make no sense.
pub(super) fn decode_record(records: &[u8], at: usize) -> Option<(Record, usize)> {
    let header = records.get(at..at.checked_add(RECORD_HEADER_BYTES)?)?;
    let length = get_u32(header, 4);
    let data_offset = at + RECORD_HEADER_BYTES;
    let next = at + record_bytes(usize::try_from(length).ok()?);
    let data = records.get(data_offset..next)?;
    let index = LogIndex(get_u64(header, 8));
    let term = Term(get_u64(header, 16));
    let kind = match header.get(24).copied()? {
        RECORD_HARD_STATE if length == VOTE_BYTES => {
            let vote = MemberId(get_u64(data, 0));
            let commit = index;
            return Some((Record::HardState(HardState { term, vote, commit }), next));
        }
        2 => EntryKind::Normal,
        3 => EntryKind::ConfChange,
        4 => EntryKind::ConfChangeV2,
        _ => return None,
    };
    let entry = Record::Entry {
        kind,
        term,
        index,
        data_offset,
        length,
    };
    Some((entry, next))
}
