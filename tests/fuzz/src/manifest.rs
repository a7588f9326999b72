//! A manifest: bytes as they are, and an edited one whose checksums are right. What decodes
//! encodes to the same bytes.

use std::path::Path;

use storage::apply::command::Alarm;
use storage::checkpoint::{Identity, Manifest, Member, Membership, SetDigest};
use storage::error::Fatal;
use storage::types::{LeaseId, LogIndex, MemberId, Revision, SegmentNumber, Term};

use crate::source::Source;

const HEADER_BYTES: usize = 28;
const SECTION_HEADER_BYTES: usize = 16;

pub fn check(data: &[u8]) -> bool {
    let mut source = Source::new(data);
    let bytes = match source.byte() % 4 {
        0 => source.rest().to_vec(),
        1 => {
            let mut bytes = full().encode();
            source.edit(&mut bytes);
            bytes
        }
        _ => edited_and_sealed(&mut source),
    };
    match Manifest::decode(&bytes, Path::new("/member/MANIFEST")) {
        Ok(manifest) => {
            assert_eq!(manifest.encode(), bytes);
            true
        }
        Err(Fatal::Corruption { offset, .. }) => {
            assert!(offset <= bytes.len() as u64);
            false
        }
        Err(Fatal::Refused { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

/// One section with an edited payload, of any length; lengths and checksums fit.
fn edited_and_sealed(source: &mut Source<'_>) -> Vec<u8> {
    let whole = full().encode();
    let chosen = source.below(7);
    let mut file = whole[..HEADER_BYTES].to_vec();
    let mut at = HEADER_BYTES;
    let mut number = 0;
    while at < whole.len() {
        let length = u64::from_le_bytes(whole[at + 4..at + 12].try_into().unwrap()) as usize;
        let start = at + SECTION_HEADER_BYTES;
        let mut payload = whole[start..start + length].to_vec();
        if number == chosen {
            source.edit(&mut payload);
        }
        let mut section = whole[at..at + 4].to_vec();
        section.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&section);
        hasher.update(&payload);
        section.extend_from_slice(&hasher.finalize().to_le_bytes());
        file.extend_from_slice(&section);
        file.extend_from_slice(&payload);
        at = start + length;
        number += 1;
    }
    let length = (file.len() as u64).to_le_bytes();
    file[16..24].copy_from_slice(&length);
    let checksum = crc32fast::hash(&file[..24]).to_le_bytes();
    file[24..28].copy_from_slice(&checksum);
    file
}

/// A manifest with something in every list.
fn full() -> Manifest {
    Manifest {
        members: vec![Member {
            id: MemberId(1),
            name: "one".into(),
            peer_urls: vec!["http://a:2380".into()],
            client_urls: vec!["http://a:2379".into(), "http://b:2379".into()],
        }],
        membership: Membership {
            voters: vec![MemberId(1), MemberId(2)],
            learners: vec![MemberId(7)],
            ..Membership::default()
        },
        cluster_version: "3.7.0".into(),
        applied_index: LogIndex(41),
        applied_term: Term(3),
        first_needed_index: LogIndex(42),
        segments: vec![SegmentNumber(2), SegmentNumber(5)],
        current_revision: 30,
        compacted_revision: 12,
        bound: Revision::new(30, 4),
        index: SetDigest { count: 17, hash: 5 },
        removed: vec![
            Revision::new(2, 0),
            Revision::new(2, 3),
            Revision::new(9, 1),
        ],
        leases: vec![(LeaseId(-5), 60), (LeaseId(7), 9_000_000_000)],
        alarms: vec![(MemberId(1), Alarm::NoSpace), (MemberId(2), Alarm::Corrupt)],
        ..Manifest::empty(Identity {
            cluster_id: 11,
            member_id: MemberId(1),
        })
    }
}
