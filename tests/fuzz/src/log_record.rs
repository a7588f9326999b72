//! The pieces of a log: record, group header, segment header, and the command in an entry.
//! What decodes encodes to the same bytes; a record never reaches behind its group.

use bytes::Bytes;
use storage::apply::codec;
use storage::raft_log::{EntryKind, GroupNumber, HardState};
use storage::types::SegmentNumber;

#[path = "../../../storage/src/raft_log/format.rs"]
#[allow(dead_code, reason = "the log uses all of it")]
mod format;

use format::{BLOCK, GROUP_HEADER_BYTES, GroupHeader, RECORD_HEADER_BYTES, Record, SegmentHeader};

const SALT: u64 = 0x5EED;
/// The last field of a record's header ends here; reserved bytes follow.
const RECORD_FIELDS_END: usize = 25;

pub fn check(data: &[u8]) -> bool {
    let records = check_records(data);
    let command = check_command(data);
    check_headers(data);
    records || command
}

fn check_records(data: &[u8]) -> bool {
    let seed = format::seed(SALT, SegmentNumber(1));
    let mut at = 0;
    while let Some((record, next)) = format::decode_record(data, at) {
        assert!(next >= at + RECORD_HEADER_BYTES && next <= data.len());
        let (header, length) = match record {
            Record::HardState(state) => {
                let bytes = format::hard_state_record(seed, state);
                assert_eq!(bytes[RECORD_HEADER_BYTES..], data[next - 8..next]);
                (bytes, 8)
            }
            Record::Entry {
                kind,
                term,
                index,
                data_offset,
                length,
            } => {
                let end = data_offset + length as usize;
                assert!(data_offset == at + RECORD_HEADER_BYTES && end <= next);
                let body = &data[data_offset..end];
                let header = format::entry_header(seed, kind, index, term, body);
                (header.to_vec(), body.len())
            }
        };
        assert_eq!(
            header[4..RECORD_FIELDS_END],
            data[at + 4..at + RECORD_FIELDS_END]
        );
        assert_eq!(next - at, format::record_bytes(length));
        at = next;
    }
    at > 0
}

/// Every command has exactly one byte form.
fn check_command(data: &[u8]) -> bool {
    let data = Bytes::copy_from_slice(data);
    match codec::decode(&data) {
        Ok(envelope) => {
            assert_eq!(codec::encode(&envelope), Ok(data));
            true
        }
        Err(error) => {
            assert!(error.offset <= data.len(), "{error}");
            false
        }
    }
}

/// Headers with the checksums that belong to them, so that their fields are reached.
fn check_headers(data: &[u8]) {
    let mut block = [0; BLOCK];
    let length = data.len().min(BLOCK);
    block[..length].copy_from_slice(&data[..length]);
    block[..8].copy_from_slice(&format::SEGMENT_MAGIC);
    block[8..12].copy_from_slice(&format::FORMAT_VERSION.to_le_bytes());
    seal_segment(&mut block);
    if let Ok(header) = SegmentHeader::decode(&block) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
    let mut group = block;
    seal_group(SALT, SegmentNumber(1), &mut group);
    let seed = format::seed(SALT, SegmentNumber(1));
    let offset = u64::from(format::get_u32(&group, 56));
    if let Some(header) = GroupHeader::decode(seed, SegmentNumber(1), offset, &group) {
        let (crc, mut again) = (header.crc, group);
        assert_eq!(header.seal(seed, &mut again), crc);
        assert_eq!(again, group);
    }
}

/// Gives the header of a segment the checksum that belongs to it.
pub fn seal_segment(block: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..BLOCK]);
    block[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// Gives a group the checksums that belong to it; returns the one that the next one chains.
pub fn seal_group(salt: u64, number: SegmentNumber, group: &mut [u8]) -> u32 {
    let seed = format::seed(salt, number);
    group[..4].copy_from_slice(&format::GROUP_MAGIC.to_le_bytes());
    let crc = GroupHeader::group_checksum(seed, group);
    group[20..24].copy_from_slice(&crc.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&group[8..GROUP_HEADER_BYTES]);
    group[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
    crc
}

#[cfg(test)]
mod tests {
    use storage::types::{LogIndex, MemberId, Term};

    use super::*;

    /// Groups count from 1, and no log lives to see half of the numbers: a header that says
    /// otherwise under a good checksum made the recovery compute past the ends.
    #[test]
    fn a_segment_header_with_numbers_out_of_range_is_damaged() {
        let decoded = |first_group: u64, synced: u64, base: u64| {
            let header = SegmentHeader {
                number: SegmentNumber(1),
                salt: SALT,
                recycled: false,
                previous: None,
                first_group: GroupNumber(first_group),
                chain: 0,
                synced: GroupNumber(synced),
                base: (LogIndex(base), Term(0)),
                hard_state: HardState {
                    term: Term(0),
                    vote: MemberId(0),
                    commit: LogIndex(0),
                },
            };
            SegmentHeader::decode(&header.encode()).is_ok()
        };
        assert!(decoded(1, 0, 0));
        for (first_group, synced, base) in [(0, 0, 0), (u64::MAX, 0, 0), (1, u64::MAX, 0)] {
            assert!(!decoded(first_group, synced, base));
        }
        assert!(!decoded(1, 0, u64::MAX));
    }
}
