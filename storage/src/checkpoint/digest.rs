//! A count and an order-independent hash over a set of records, kept up to date
//! by addition and subtraction. It proves that a store holds exactly the set a
//! manifest names; that each record is intact is its own CRC's business. Where
//! a value lies does not count: it changes when the value goes cold.
//!
//! Limit: the hash tells accidents (loss, duplicates, misplaced records), not
//! an adversary who chooses records.

use crate::types::{Place, Revision};

/// Count and hash of a set of records, each by its revision and its value's
/// length and CRC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetDigest {
    /// Number of elements.
    pub count: u64,
    /// Sum, modulo 2^128, of the elements' hashes.
    pub hash: u128,
}

impl SetDigest {
    /// Puts one element in. The caller never adds the same one twice.
    pub fn add(&mut self, revision: Revision, place: Place) {
        self.count += 1;
        self.hash = self.hash.wrapping_add(element(revision, place));
    }

    /// Takes one element out. The caller only takes out what was put in.
    pub fn remove(&mut self, revision: Revision, place: Place) {
        assert!(self.count > 0, "an element leaves an empty set");
        self.count -= 1;
        self.hash = self.hash.wrapping_sub(element(revision, place));
    }
}

/// Hash of one element: its numbers absorbed one after the other into two
/// independent lanes. An empty value has no CRC.
fn element(revision: Revision, place: Place) -> u128 {
    let crc = if place.length == 0 { 0 } else { place.crc };
    let words = [
        revision.main.cast_unsigned(),
        u64::from(revision.sub),
        u64::from(place.length) << 32 | u64::from(crc),
    ];
    let mut low = 0x9e37_79b9_7f4a_7c15_u64;
    let mut high = 0xc2b2_ae3d_27d4_eb4f_u64;
    for word in words {
        low = mix(low ^ word);
        high = mix(high.rotate_left(17) ^ word);
    }
    u128::from(high) << 64 | u128::from(low)
}

/// A bijection of 64-bit numbers in which every input bit reaches every output
/// bit (two rounds of multiply and xor-shift).
fn mix(mut value: u64) -> u64 {
    value ^= value >> 32;
    value = value.wrapping_mul(0xd6e8_feb8_6659_fd93);
    value ^= value >> 32;
    value = value.wrapping_mul(0xd6e8_feb8_6659_fd93);
    value ^ value >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SegmentNumber;

    fn place(offset: u32) -> Place {
        Place {
            segment: SegmentNumber(3),
            offset,
            length: 10,
            crc: 0xabcd,
        }
    }

    #[test]
    fn order_does_not_matter_and_removal_undoes_addition() {
        let mut forth = SetDigest::default();
        let mut back = SetDigest::default();
        for main in 2..200 {
            forth.add(Revision::new(main, 0), place(7));
        }
        for main in (2..200).rev() {
            back.add(Revision::new(main, 0), place(7));
        }
        assert_eq!(forth, back);
        for main in 2..200 {
            forth.remove(Revision::new(main, 0), place(7));
        }
        assert_eq!(forth, SetDigest::default());
    }

    #[test]
    fn every_field_counts_but_where_the_value_lies() {
        let (revision, place) = (Revision::new(5, 1), place(9));
        let variants = [
            (revision, place),
            (Revision::new(6, 1), place),
            (Revision::new(5, 2), place),
            (
                revision,
                Place {
                    length: 11,
                    ..place
                },
            ),
            (revision, Place { crc: 1, ..place }),
            (revision, Place::default()),
        ];
        let hashes: std::collections::BTreeSet<u128> = variants
            .iter()
            .map(|(revision, place)| element(*revision, *place))
            .collect();
        assert_eq!(hashes.len(), variants.len());
        let moved = Place {
            segment: SegmentNumber(4),
            offset: 1,
            ..place
        };
        assert_eq!(element(revision, moved), element(revision, place));
    }

    #[test]
    #[should_panic(expected = "leaves an empty set")]
    fn an_empty_set_gives_nothing() {
        SetDigest::default().remove(Revision::new(2, 0), place(0));
    }
}
