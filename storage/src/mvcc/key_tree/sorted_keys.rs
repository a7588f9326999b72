//! The keys of one node, in order, laid out so that a search touches few keys.
//!
//! Stored keys share long prefixes, and each is an allocation of its own: to
//! compare with one is a cache miss. So a node knows how many bytes all its
//! keys share, and keeps the eight bytes that follow as a number (`heads`). A
//! search compares numbers that lie side by side and looks at keys only to
//! check the shared prefix and to break ties.
//!
//! Invariants: keys rise strictly; the first `shared` bytes of all are equal;
//! `heads` are those of the keys at `shared`, so they never fall.

#![expect(
    clippy::indexing_slicing,
    reason = "positions come from binary searches in the vectors"
)]

use super::CAPACITY;
use crate::types::Key;

#[derive(Debug)]
pub(super) struct SortedKeys {
    keys: Vec<Key>,
    heads: Vec<u64>,
    shared: usize,
}

impl SortedKeys {
    pub(super) fn new() -> Self {
        SortedKeys {
            keys: Vec::with_capacity(CAPACITY),
            heads: Vec::with_capacity(CAPACITY),
            shared: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn get(&self, position: usize) -> Option<&Key> {
        self.keys.get(position)
    }

    /// Where the key is, or where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(first) = self.keys.first() else {
            return Err(0);
        };
        let prefix = &first[..self.shared];
        let comparable = &key[..key.len().min(self.shared)];
        match comparable.cmp(prefix) {
            // A key that ends inside the shared prefix is smaller, too.
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(self.keys.len()),
            std::cmp::Ordering::Equal => {}
        }
        let head = head_of(key, self.shared);
        let from = self.heads.partition_point(|&other| other < head);
        let ties = self.heads[from..].partition_point(|&other| other == head);
        let tied = &self.keys[from..from + ties];
        let rest = &key[self.shared..];
        match tied.binary_search_by(|other| other[self.shared..].cmp(rest)) {
            Ok(position) => Ok(from + position),
            Err(position) => Err(from + position),
        }
    }

    /// Inserts at the position that `search` gave.
    pub(super) fn insert(&mut self, position: usize, key: Key) {
        match self.keys.first() {
            None => self.shared = key.len(),
            Some(first) => {
                let shared = common_prefix(first, &key).min(self.shared);
                if shared < self.shared {
                    self.share(shared);
                }
            }
        }
        self.heads.insert(position, head_of(&key, self.shared));
        self.keys.insert(position, key);
    }

    pub(super) fn remove(&mut self, position: usize) -> Key {
        self.heads.remove(position);
        self.keys.remove(position)
    }

    /// Moves the keys from this position on into a node of their own.
    pub(super) fn split_off(&mut self, position: usize) -> SortedKeys {
        let mut right = SortedKeys::new();
        right.keys.extend(self.keys.drain(position..));
        self.heads.truncate(position);
        self.share_all();
        right.share_all();
        right
    }

    /// Appends the keys of a node that lies behind this one.
    pub(super) fn append(&mut self, right: SortedKeys) {
        self.keys.extend(right.keys);
        self.share_all();
    }

    /// Finds the longest prefix that all keys share: that of first and last.
    fn share_all(&mut self) {
        let shared = match (self.keys.first(), self.keys.last()) {
            (Some(first), Some(last)) => common_prefix(first, last),
            _ => 0,
        };
        self.share(shared);
    }

    fn share(&mut self, shared: usize) {
        self.shared = shared;
        self.heads.clear();
        self.heads
            .extend(self.keys.iter().map(|key| head_of(key, shared)));
    }

    /// Asserts the invariants of the file's head.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.keys.is_sorted_by(|left, right| left < right));
        assert_eq!(self.keys.len(), self.heads.len());
        for (key, &head) in self.keys.iter().zip(&self.heads) {
            assert_eq!(key[..self.shared], self.keys[0][..self.shared]);
            assert_eq!(head, head_of(key, self.shared));
        }
    }
}

/// The eight bytes from `from` on as a number that orders as they do; bytes
/// that are not there count as zero, so equal heads do not mean equal keys.
fn head_of(key: &[u8], from: usize) -> u64 {
    let rest = key.get(from..).unwrap_or(&[]);
    if let Some(head) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count()
}
