//! Transactions are atomic: two keys that are only ever written together, with
//! the same value, never differ in any read of both.

use std::collections::BTreeMap;

use crate::answer::KeyValue;

use super::Verdict;

/// Keys of pairs are this prefix, a number, and one of `/a` and `/b`.
pub const PAIR_PREFIX: &[u8] = b"/pair/";

/// Judges a read of all keys at one revision.
pub fn check(key_values: &[KeyValue]) -> Verdict {
    let mut pairs: BTreeMap<&[u8], Vec<&KeyValue>> = BTreeMap::new();
    for key_value in key_values {
        if key_value.key.starts_with(PAIR_PREFIX) {
            let pair = &key_value.key[..key_value.key.len() - 1];
            pairs.entry(pair).or_default().push(key_value);
        }
    }
    for (pair, both) in pairs {
        let whole = both.len() == 2
            && both[0].value == both[1].value
            && both[0].modified == both[1].modified
            && both[0].version == both[1].version;
        if !whole {
            return Err(format!(
                "a transaction is half there: of the pair {:?} there is {both:?}",
                String::from_utf8_lossy(pair)
            ));
        }
    }
    Ok(())
}
