//! Round trips and every malformed byte of a manifest.

use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A manifest with something in every field.
pub(crate) fn full() -> Manifest {
    let digest = |seed: u64| SetDigest {
        count: seed,
        hash: u128::from(seed) << 70 | 5,
    };
    Manifest {
        sequence: 9,
        identity: Identity {
            cluster_id: 0xcdf8_181e_3a2c_b6de,
            member_id: MemberId(0x8e9e_05c5_2164_694d),
        },
        members: vec![
            Member {
                id: MemberId(1),
                name: "one".into(),
                peer_urls: vec!["http://a:2380".into(), "http://b:2380".into()],
                client_urls: vec!["http://a:2379".into()],
            },
            Member {
                id: MemberId(2),
                ..Member::default()
            },
        ],
        membership: Membership {
            voters: vec![MemberId(1), MemberId(2)],
            learners: vec![MemberId(7)],
            voters_outgoing: vec![MemberId(1)],
            learners_next: vec![MemberId(3)],
            auto_leave: true,
        },
        cluster_version: "3.7.0".into(),
        applied_index: LogIndex(41),
        applied_term: Term(3),
        first_needed_index: LogIndex(42),
        segments: vec![SegmentNumber(2), SegmentNumber(5)],
        current_revision: 30,
        compacted_revision: 12,
        bound: Revision::new(30, 4),
        index: digest(17),
        cold: digest(3),
        removed: vec![
            Revision::new(2, 0),
            Revision::new(2, 3),
            Revision::new(2, 4),
            Revision::new(9, 1),
            Revision::new(30, 0),
        ],
        live_hash: 1 << 100,
        chain_hash: 77,
        leases: vec![(LeaseId(-5), 60), (LeaseId(7), 9_000_000_000)],
        alarms: vec![
            (MemberId(1), Alarm::NoSpace),
            (MemberId(1), Alarm::Corrupt),
            (MemberId(2), Alarm::NoSpace),
        ],
    }
}

fn path() -> &'static Path {
    Path::new("/data/MANIFEST")
}

/// The offset that a refusal as corrupt names.
fn corruption_offset(result: Result<Manifest, Fatal>) -> u64 {
    match result {
        Err(Fatal::Corruption {
            path: named,
            offset,
            ..
        }) => {
            assert_eq!(named, path());
            offset
        }
        other => panic!("a refusal as corrupt expected, not {other:?}"),
    }
}

#[test]
fn manifests_come_back() {
    for manifest in [full(), Manifest::empty(Identity::default())] {
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes, path()).unwrap(), manifest);
    }
}

#[test]
fn every_flipped_byte_is_refused_with_file_and_offset() {
    let bytes = full().encode();
    for mask in [1, 0x80, 0xff] {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let offset = corruption_offset(Manifest::decode(&flipped, path()));
            assert!(
                offset <= at as u64,
                "the flip at {at} is reported at {offset}"
            );
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let bytes = full().encode();
    for length in 0..bytes.len() {
        let offset = corruption_offset(Manifest::decode(&bytes[..length], path()));
        assert!(offset <= length as u64);
    }
    let mut longer = bytes.clone();
    longer.push(0);
    corruption_offset(Manifest::decode(&longer, path()));
}

/// Writes the header's CRC anew, so that only the field itself is wrong.
fn reseal_header(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_newer_version_is_refused_by_its_name_and_not_as_corrupt() {
    let mut bytes = full().encode();
    bytes[8] = 2;
    reseal_header(&mut bytes);
    for bytes in [&bytes[..], &bytes[..28]] {
        match Manifest::decode(bytes, path()) {
            Err(Fatal::Refused { detail, .. }) => {
                assert!(detail.contains("format version 2 is newer"), "{detail}");
            }
            other => panic!("a refusal expected, not {other:?}"),
        }
    }
    bytes[8] = 0;
    reseal_header(&mut bytes);
    assert_eq!(corruption_offset(Manifest::decode(&bytes, path())), 8);
}

#[test]
fn an_unknown_section_is_an_error_in_version_1() {
    let mut bytes = full().encode();
    bytes[12] += 1;
    reseal_header(&mut bytes);
    assert_eq!(corruption_offset(Manifest::decode(&bytes, path())), 12);

    let mut bytes = full().encode();
    bytes[28] = 8;
    let length = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let payload = 44..44 + usize::try_from(length).unwrap();
    let mut covered = bytes[28..40].to_vec();
    covered.extend_from_slice(&bytes[payload]);
    bytes[40..44].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
    assert_eq!(corruption_offset(Manifest::decode(&bytes, path())), 28);
}

#[test]
fn a_manifest_that_contradicts_itself_is_neither_written_nor_read() {
    type Spoil = fn(&mut Manifest);
    let spoils: [Spoil; 9] = [
        |m| m.first_needed_index = LogIndex(41),
        |m| m.current_revision = 0,
        |m| m.compacted_revision = m.current_revision + 1,
        |m| m.bound = Revision::new(m.current_revision + 1, 0),
        |m| m.removed.push(Revision::new(30, 5)),
        |m| m.cold.count = m.index.count + 1,
        |m| m.leases.insert(1, (LeaseId(0), 5)),
        |m| m.segments.reverse(),
        |m| m.membership.voters.push(MemberId(2)),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let mut manifest = full();
        spoil(&mut manifest);
        assert!(manifest.check_invariants().is_err(), "case {number}");
        let written = std::panic::catch_unwind(|| manifest.encode());
        assert!(written.is_err(), "case {number}");
        if number != 4 && number != 7 {
            let bytes = manifest_codec::encode(&manifest);
            corruption_offset(Manifest::decode(&bytes, path()));
        }
    }
}

proptest! {
    #[test]
    fn removed_revisions_come_back(
        removed in prop::collection::btree_set((0..=i64::MAX, any::<u32>()), 0..50),
    ) {
        let mut manifest = full();
        manifest.current_revision = i64::MAX;
        manifest.bound = Revision::new(i64::MAX, u32::MAX);
        manifest.removed = removed.iter().map(|(main, sub)| Revision::new(*main, *sub)).collect();
        let bytes = manifest.encode();
        prop_assert_eq!(Manifest::decode(&bytes, path()).unwrap(), manifest);
    }

    #[test]
    fn garbage_under_good_checksums_never_panics(
        section in 0..7usize,
        payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = manifest_codec::with_payload(&full(), section, &payload);
        match Manifest::decode(&bytes, path()) {
            Ok(manifest) => {
                let again = Manifest::decode(&manifest.encode(), path()).unwrap();
                prop_assert_eq!(again, manifest);
            }
            Err(Fatal::Corruption { offset, .. }) => prop_assert!(offset <= bytes.len() as u64),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn raw_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::decode(&bytes, path()).is_err());
    }
}
