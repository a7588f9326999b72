//! The byte forms of what a checkpoint store holds: keys (a revision), index
//! records and cold values (docs/format.md, "Index checkpoint" and "Cold
//! values"). Both carry a CRC of ours that also covers the key, so that a
//! record found under another key is refused too.

use std::sync::Arc;

use crate::types::{LeaseId, Place, RecordMeta, Revision, SegmentNumber};

use super::codec::{Malformed, Reader, Writer};

/// Length of a key of the store, bytes.
pub(crate) const REVISION_KEY_BYTES: usize = 12;

/// Version byte of an index record.
const INDEX_RECORD_VERSION: u8 = 1;

/// Bit of the flags byte that marks a deletion; all others are 0.
const FLAG_TOMBSTONE: u8 = 1;

/// The key of a revision: main (8 bytes) and sub (4 bytes), big-endian, so that
/// byte order is revision order.
pub(crate) fn revision_key(revision: Revision) -> [u8; REVISION_KEY_BYTES] {
    assert!(revision.main >= 0, "a revision is never negative");
    let mut key = [0; REVISION_KEY_BYTES];
    let (main, sub) = key.split_at_mut(8);
    main.copy_from_slice(&revision.main.to_be_bytes());
    sub.copy_from_slice(&revision.sub.to_be_bytes());
    key
}

/// Reads a key.
pub(crate) fn parse_revision_key(key: &[u8]) -> Result<Revision, Malformed> {
    let parsed = key.split_first_chunk::<8>().and_then(|(main, rest)| {
        let sub: [u8; 4] = rest.try_into().ok()?;
        let main = i64::from_be_bytes(*main);
        (main >= 0).then(|| Revision::new(main, u32::from_be_bytes(sub)))
    });
    parsed.ok_or_else(|| Malformed::new(0, format!("{key:02x?} is not the key of a revision")))
}

/// The stored form of an index record, without its key.
pub(crate) fn encode_index_record(record: &RecordMeta) -> Vec<u8> {
    let mut writer = Writer(Vec::with_capacity(40 + record.key.len()));
    writer.u32(0);
    writer.u8(INDEX_RECORD_VERSION);
    writer.u8(if record.tombstone { FLAG_TOMBSTONE } else { 0 });
    writer.varint(record.create_revision.cast_unsigned());
    writer.varint(record.version.cast_unsigned());
    writer.i64(record.lease.0);
    writer.u32(record.place.segment.0);
    writer.u32(record.place.offset);
    writer.u32(record.place.length);
    writer.u32(record.place.crc);
    writer.bytes(&record.key);
    seal(record.revision, writer.0)
}

/// Reads and checks an index record found under `revision`.
pub(crate) fn decode_index_record(
    revision: Revision,
    bytes: &[u8],
) -> Result<RecordMeta, Malformed> {
    let mut reader = unseal(revision, bytes, "index record")?;
    let version_byte = reader.u8()?;
    if version_byte != INDEX_RECORD_VERSION {
        return Err(Malformed::new(
            4,
            format!("index record {revision:?} has the unknown version {version_byte}"),
        ));
    }
    let flags = reader.u8()?;
    if flags & !FLAG_TOMBSTONE != 0 {
        return Err(Malformed::new(
            5,
            format!("index record {revision:?} has the unknown flags {flags:#x}"),
        ));
    }
    let create_revision = reader.varint()?.cast_signed();
    let version = reader.varint()?.cast_signed();
    let lease = LeaseId(reader.i64()?);
    let place = Place {
        segment: SegmentNumber(reader.u32()?),
        offset: reader.u32()?,
        length: reader.u32()?,
        crc: reader.u32()?,
    };
    let key = reader.bytes(reader.remaining())?;
    Ok(RecordMeta {
        key: Arc::from(key),
        revision,
        create_revision,
        version,
        lease,
        tombstone: flags & FLAG_TOMBSTONE != 0,
        place,
    })
}

/// The stored form of a cold value, without its key.
pub(crate) fn encode_cold_value(revision: Revision, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(value);
    seal(revision, bytes)
}

/// Checks a cold value found under `revision` and gives its bytes.
pub(crate) fn decode_cold_value(revision: Revision, bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = unseal(revision, bytes, "cold value")?;
    reader.bytes(reader.remaining())
}

/// Writes the CRC into the four bytes left free at the front.
fn seal(revision: Revision, mut bytes: Vec<u8>) -> Vec<u8> {
    let (crc, body) = bytes
        .split_first_chunk_mut::<4>()
        .expect("the caller leaves four bytes free");
    *crc = checksum(revision, body).to_le_bytes();
    bytes
}

/// Checks the CRC at the front and gives a reader of what follows.
fn unseal<'a>(revision: Revision, bytes: &'a [u8], what: &str) -> Result<Reader<'a>, Malformed> {
    let Some((stored, body)) = bytes.split_first_chunk::<4>() else {
        return Err(Malformed::new(
            0,
            format!("{what} {revision:?} has only {} bytes", bytes.len()),
        ));
    };
    let stored = u32::from_le_bytes(*stored);
    let computed = checksum(revision, body);
    if stored != computed {
        return Err(Malformed::new(
            0,
            format!("{what} {revision:?}: CRC {stored:#010x} stored, {computed:#010x} computed"),
        ));
    }
    Ok(Reader::new(body, 4))
}

fn checksum(revision: Revision, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&revision_key(revision));
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = RecordMeta> {
        (
            (any::<[u8; 20]>(), 0..=20usize),
            (0..=i64::MAX, any::<u32>()),
            (0..=i64::MAX, 0..=i64::MAX, any::<i64>(), any::<bool>()),
            any::<[u32; 4]>(),
        )
            .prop_map(|((key, length), (main, sub), rest, place)| RecordMeta {
                key: Arc::from(&key[..length]),
                revision: Revision::new(main, sub),
                create_revision: rest.0,
                version: rest.1,
                lease: LeaseId(rest.2),
                tombstone: rest.3,
                place: Place {
                    segment: SegmentNumber(place[0]),
                    offset: place[1],
                    length: place[2],
                    crc: place[3],
                },
            })
    }

    proptest! {
        #[test]
        fn an_index_record_comes_back(record in record()) {
            let bytes = encode_index_record(&record);
            prop_assert_eq!(decode_index_record(record.revision, &bytes), Ok(record));
        }

        #[test]
        fn a_flip_or_a_cut_anywhere_is_found(record in record(), mask in 1..=255u8) {
            let bytes = encode_index_record(&record);
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                prop_assert!(decode_index_record(record.revision, &flipped).is_err());
                prop_assert!(decode_index_record(record.revision, &bytes[..at]).is_err());
            }
        }

        #[test]
        fn a_record_under_another_key_is_refused(record in record(), sub in any::<u32>()) {
            prop_assume!(sub != record.revision.sub);
            let elsewhere = Revision::new(record.revision.main, sub);
            prop_assert!(decode_index_record(elsewhere, &encode_index_record(&record)).is_err());
            let value = encode_cold_value(record.revision, &record.key);
            prop_assert!(decode_cold_value(elsewhere, &value).is_err());
            prop_assert_eq!(decode_cold_value(record.revision, &value), Ok(&record.key[..]));
        }

        #[test]
        fn key_order_is_revision_order(
            a in (0..=i64::MAX, any::<u32>()),
            b in (0..=i64::MAX, any::<u32>()),
        ) {
            let (a, b) = (Revision::new(a.0, a.1), Revision::new(b.0, b.1));
            prop_assert_eq!(revision_key(a).cmp(&revision_key(b)), a.cmp(&b));
            prop_assert_eq!(parse_revision_key(&revision_key(a)), Ok(a));
        }
    }

    #[test]
    fn a_key_of_another_length_or_a_negative_revision_is_refused() {
        assert!(parse_revision_key(&[0; 11]).is_err());
        assert!(parse_revision_key(&[0; 13]).is_err());
        assert!(parse_revision_key(&[0xff; 12]).is_err());
    }
}
