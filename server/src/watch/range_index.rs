//! Who is interested in a key: an index from key intervals to targets.
//!
//! Single keys and prefixes (nearly all watches of a Kubernetes cluster) are
//! found by hashing, one look-up for each prefix length in use, however many
//! watchers there are. Other intervals are scanned.
//!
//! Owned by whoever embeds it; not shared. Grows with the watchers.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

/// A key interval in etcd's form: empty end is the single key, one zero byte is
/// "from key on" (contract 1.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyInterval {
    pub(super) key: Bytes,
    pub(super) range_end: Bytes,
}

impl KeyInterval {
    /// True when `key` lies in the interval.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            return self.key == key;
        }
        let below = self.range_end[..] == [0] || key < &self.range_end[..];
        key >= &self.key[..] && below
    }

    /// True when no key can lie in the interval.
    pub(super) fn is_empty(&self) -> bool {
        !self.range_end.is_empty() && self.range_end[..] != [0] && self.key >= self.range_end
    }

    /// True for exactly the keys that begin with `key`.
    fn is_prefix(&self) -> bool {
        let Some(last) = self.key.iter().rposition(|byte| *byte != 0xff) else {
            return false;
        };
        let Some((end_last, end)) = self.range_end.split_last() else {
            return false;
        };
        let (head, tail) = self.key.split_at(last);
        end == head && tail.first().and_then(|byte| byte.checked_add(1)) == Some(*end_last)
    }
}

/// Targets by the intervals they are interested in.
#[derive(Debug)]
pub(super) struct RangeIndex<T> {
    singles: HashMap<Bytes, Vec<T>>,
    prefixes: HashMap<Bytes, Vec<T>>,
    /// How many prefixes of each length are filed.
    prefix_lengths: BTreeMap<usize, usize>,
    others: Vec<(KeyInterval, T)>,
}

impl<T> Default for RangeIndex<T> {
    fn default() -> Self {
        RangeIndex {
            singles: HashMap::new(),
            prefixes: HashMap::new(),
            prefix_lengths: BTreeMap::new(),
            others: Vec::new(),
        }
    }
}

impl<T: PartialEq> RangeIndex<T> {
    /// Files a target under an interval; one target may be filed many times.
    pub(super) fn insert(&mut self, interval: &KeyInterval, target: T) {
        if interval.range_end.is_empty() {
            self.singles
                .entry(interval.key.clone())
                .or_default()
                .push(target);
        } else if interval.is_prefix() {
            self.prefixes
                .entry(interval.key.clone())
                .or_default()
                .push(target);
            *self.prefix_lengths.entry(interval.key.len()).or_default() += 1;
        } else {
            self.others.push((interval.clone(), target));
        }
    }

    /// Takes back one filing of this target under this interval.
    ///
    /// # Panics
    /// When it was not filed so.
    pub(super) fn remove(&mut self, interval: &KeyInterval, target: &T) {
        if interval.range_end.is_empty() {
            take_from(&mut self.singles, &interval.key, target);
        } else if interval.is_prefix() {
            take_from(&mut self.prefixes, &interval.key, target);
            let length = interval.key.len();
            let count = self
                .prefix_lengths
                .get_mut(&length)
                .expect("a filed prefix is counted");
            *count -= 1;
            if *count == 0 {
                self.prefix_lengths.remove(&length);
            }
        } else {
            let place = self
                .others
                .iter()
                .position(|(i, t)| i == interval && t == target);
            self.others
                .swap_remove(place.expect("the interval is filed"));
        }
    }

    /// Calls `visit` for every filing whose interval holds `key`.
    pub(super) fn matching(&self, key: &[u8], mut visit: impl FnMut(&T)) {
        if let Some(targets) = self.singles.get(key) {
            targets.iter().for_each(&mut visit);
        }
        for length in self.prefix_lengths.keys() {
            let Some(prefix) = key.get(..*length) else {
                break;
            };
            if let Some(targets) = self.prefixes.get(prefix) {
                targets.iter().for_each(&mut visit);
            }
        }
        for (interval, target) in &self.others {
            if interval.contains(key) {
                visit(target);
            }
        }
    }
}

fn take_from<T: PartialEq>(map: &mut HashMap<Bytes, Vec<T>>, key: &Bytes, target: &T) {
    let targets = map.get_mut(key).expect("the interval is filed");
    let place = targets.iter().position(|candidate| candidate == target);
    targets.swap_remove(place.expect("the target is filed"));
    if targets.is_empty() {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(key: &'static [u8], range_end: &'static [u8]) -> KeyInterval {
        KeyInterval {
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(range_end),
        }
    }

    #[test]
    fn finds_what_a_scan_finds_and_forgets_what_was_removed() {
        let intervals = [
            interval(b"a", b""),
            interval(b"a/", b"a0"),
            interval(b"a/b/", b"a/b0"),
            interval(b"a", b"\0"),
            interval(b"\0", b"\0"),
            interval(b"a/b", b"a/z"),
            interval(b"\xff", b"\0"),
            interval(b"a\xff", b"b"),
            interval(b"z", b"a"),
        ];
        let keys: [&[u8]; 9] = [
            b"a",
            b"a/",
            b"a/b/c",
            b"a/c",
            b"b",
            b"\xff\xff",
            b"a\xffq",
            b"\0",
            b"a0",
        ];
        let mut index = RangeIndex::default();
        for (number, interval) in intervals.iter().enumerate() {
            index.insert(interval, number);
        }
        for removed in 0..=intervals.len() {
            for key in keys {
                let mut found = Vec::new();
                index.matching(key, |number| found.push(*number));
                found.sort_unstable();
                let wanted: Vec<_> = (removed..intervals.len())
                    .filter(|number| intervals[*number].contains(key))
                    .collect();
                assert_eq!(found, wanted, "key {key:?} with {removed} removed");
            }
            if removed < intervals.len() {
                index.remove(&intervals[removed], &removed);
            }
        }
        assert!(index.prefix_lengths.is_empty());
    }
}
