//! Values that name themselves: made from a number, and told back to it, every byte of
//! them checked. So a history keeps numbers, not values. Also the tests' own randomness.

/// The number of an empty value, which has no room to name itself.
pub const EMPTY: u64 = 0;

/// The value of a number: its 8 bytes, then as many as the number asks for.
pub fn value(number: u64) -> Vec<u8> {
    if number == EMPTY {
        return Vec::new();
    }
    let mut random = Random::new(number);
    let tail = match random.below(100) {
        0 => 200_000,
        1..10 => 8_000,
        10..40 => 1_000,
        _ => 20,
    };
    let mut value = number.to_le_bytes().to_vec();
    while value.len() < 8 + tail {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(8 + tail);
    value
}

/// The number of a value; fails the test when a byte of it is wrong.
pub fn number(found: &[u8]) -> u64 {
    if found.is_empty() {
        return EMPTY;
    }
    let head = found.first_chunk().expect("a value names itself");
    let number = u64::from_le_bytes(*head);
    assert!(found == value(number), "the bytes of value {number} differ");
    number
}

/// SplitMix64: enough to choose operations, the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
