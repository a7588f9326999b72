//! Keys and values shaped as kube-apiserver's (users.md, section 4): keys of about 50 bytes under
//! `/registry`, 400 objects to a namespace, values of which half the bytes compress away.
//!
//! Everything is drawn from fixed seeds, so both stores get the same objects.

use bytes::Bytes;

/// Objects in one namespace.
pub const NAMESPACE_OBJECTS: u64 = 400;
/// Distinct values; each is far from the next of its kind, so that no store gains by repetition.
const VALUES: usize = 1_024;
/// Bytes in a row that are random, then as many that repeat in every object.
const RUN_BYTES: usize = 64;

/// A small generator of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is above zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The prefix of all objects of a kind, ending in `/`.
pub fn prefix(kind: &str) -> String {
    format!("/registry/{kind}/")
}

/// The prefix of one namespace of a kind, ending in `/`.
pub fn namespace(kind: &str, number: u64) -> String {
    format!("/registry/{kind}/namespace-{number:05}/")
}

/// The key of one object. Numbers that follow each other are neighbours in a namespace.
pub fn key(kind: &str, number: u64) -> Bytes {
    let namespace = namespace(kind, number / NAMESPACE_OBJECTS);
    let suffix = Random::new(number).next() & 0xff_ffff_ffff;
    Bytes::from(format!(
        "{namespace}object-{:03}-{suffix:010x}",
        number % NAMESPACE_OBJECTS
    ))
}

/// The end of the range of all keys with a prefix that ends in `/`.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Bytes::from(end)
}

/// Values of one size.
#[derive(Clone, Debug)]
pub struct Values(std::sync::Arc<[Bytes]>);

impl Values {
    /// Values of `length` bytes each.
    pub fn new(length: usize) -> Values {
        let mut random = Random::new(0x5eed);
        Values((0..VALUES).map(|_| value(&mut random, length)).collect())
    }

    /// One of them.
    pub fn pick(&self, random: &mut Random) -> Bytes {
        let place = usize::try_from(random.below(VALUES as u64)).expect("below the count");
        self.0.get(place).cloned().expect("below the count")
    }
}

fn value(random: &mut Random, length: usize) -> Bytes {
    const REPEATED: &[u8] =
        b"\"metadata\":{\"labels\":{\"app.kubernetes.io/name\":\"bench\"},\"uid\":";
    let mut bytes = Vec::with_capacity(length + 2 * RUN_BYTES);
    while bytes.len() < length {
        for _ in 0..RUN_BYTES / 8 {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.extend(REPEATED.iter().cycle().take(RUN_BYTES));
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_lie_in_their_namespace() {
        let keys: std::collections::BTreeSet<Bytes> = (0..2_000).map(|n| key("pods", n)).collect();
        assert_eq!(keys.len(), 2_000);
        let first = namespace("pods", 3);
        let range = Bytes::from(first.clone())..prefix_end(&first);
        assert_eq!(keys.range(range).count(), 400);
    }

    #[test]
    fn half_of_a_value_is_the_same_in_all_of_them() {
        let values = Values::new(1_024);
        let mut random = Random::new(1);
        let (one, other) = (values.pick(&mut random), values.pick(&mut random));
        assert_eq!((one.len(), other.len()), (1_024, 1_024));
        let equal = one.iter().zip(other.iter()).filter(|(a, b)| a == b).count();
        assert!(
            (512..560).contains(&equal),
            "{equal} bytes of 1,024 are equal"
        );
    }
}
