//! The state hash (design, section 5): a set hash of the newest live versions
//! and a chain over revisions. Neither depends on how far compaction has
//! purged, so members and restarts can be compared at any log index.
//!
//! It detects disagreement and damage; it does not resist an attacker. The
//! exact function is part of the manifest's format (docs/format.md).

use super::records::Record;
use crate::types::{LeaseId, Place, RecordMeta, Revision};

/// The hash of a store at its current revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHash {
    /// Wrapping sum over the newest live version of each key.
    pub live: u128,
    /// Each revision's changes folded over the chain before it; 0 at revision 1.
    pub chain: u128,
}

impl StateHash {
    pub(super) fn add(&mut self, record: &Record) {
        self.live = self.live.wrapping_add(of_record(record));
    }

    /// Adds the newest version of a live key, for who has no store to ask.
    pub(crate) fn add_live(&mut self, record: &RecordMeta) {
        let hash = of(&Hashed {
            key: &record.key,
            revision: record.revision,
            tombstone: record.tombstone,
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
            place: record.place,
        });
        self.live = self.live.wrapping_add(hash);
    }

    pub(super) fn subtract(&mut self, record: &Record) {
        self.live = self.live.wrapping_sub(of_record(record));
    }

    pub(super) fn extend_chain(&mut self, record: &Record) {
        let mut lanes = Lanes::new();
        lanes.mix_wide(self.chain);
        lanes.mix_wide(of_record(record));
        self.chain = lanes.finish();
    }
}

/// What of a record is hashed.
struct Hashed<'a> {
    key: &'a [u8],
    revision: Revision,
    tombstone: bool,
    create_revision: i64,
    version: i64,
    lease: LeaseId,
    place: Place,
}

fn of_record(record: &Record) -> u128 {
    of(&Hashed {
        key: &record.key,
        revision: record.revision(),
        tombstone: record.tombstone,
        create_revision: record.create_revision,
        version: record.version,
        lease: record.lease,
        place: record.place,
    })
}

/// 128 bits over key, revision, create revision, version, lease, the value's
/// length and CRC, and whether it is a tombstone.
fn of(record: &Hashed<'_>) -> u128 {
    let revision = record.revision;
    let mut lanes = Lanes::new();
    for word in record.key.chunks(8) {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(word) {
            *to = *from;
        }
        lanes.mix(u64::from_le_bytes(bytes));
    }
    lanes.mix(u64::try_from(record.key.len()).expect("a length fits 64 bits"));
    lanes.mix(revision.main.cast_unsigned());
    lanes.mix(u64::from(revision.sub) << 1 | u64::from(record.tombstone));
    lanes.mix(record.create_revision.cast_unsigned());
    lanes.mix(record.version.cast_unsigned());
    lanes.mix(record.lease.0.cast_unsigned());
    // An empty value has no place, and so whatever stands in the other fields
    // of one must not count.
    let crc = if record.place.length == 0 {
        0
    } else {
        record.place.crc
    };
    lanes.mix(u64::from(record.place.length) << 32 | u64::from(crc));
    lanes.finish()
}

/// Two lanes of multiply-and-fold with odd constants (digits of pi).
struct Lanes(u64, u64);

const SEEDS: (u64, u64) = (0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
const FACTORS: (u64, u64) = (0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89);

impl Lanes {
    fn new() -> Self {
        Lanes(SEEDS.0, SEEDS.1)
    }

    fn mix(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, FACTORS.0).rotate_left(23) ^ word;
        self.1 = fold(self.1.wrapping_add(word), FACTORS.1)
            .rotate_left(41)
            .wrapping_add(word);
    }

    fn mix_wide(&mut self, word: u128) {
        let bytes = word.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        for half in [low, high] {
            self.mix(u64::from_le_bytes(
                half.try_into().expect("a half has 8 bytes"),
            ));
        }
    }

    fn finish(mut self) -> u128 {
        let (first, second) = (self.0, self.1);
        self.mix(second);
        self.mix(first);
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

fn fold(left: u64, right: u64) -> u64 {
    let product = (u128::from(left) * u128::from(right)).to_le_bytes();
    let (low, high) = product.split_at(8);
    let low = u64::from_le_bytes(low.try_into().expect("a half has 8 bytes"));
    let high = u64::from_le_bytes(high.try_into().expect("a half has 8 bytes"));
    low ^ high
}
