//! The key tree: an order-statistic B+tree of our own.
//!
//! A leaf entry is a key, its newest record and whether that is live; an inner
//! node carries the number of live keys per child, so the live keys of any
//! interval are counted in O(log n). A key whose newest record is a tombstone
//! stays until that is purged and counts 0.
//!
//! Limit: as many keys as there are records (2^32 - 1).

use super::bounds::Bounds;
use super::records::RecordId;
use crate::types::Key;
use node::{Inner, Leaf, Node};

mod node;
mod sorted_keys;
#[cfg(test)]
mod tests;

/// Keys per leaf and children per inner node: the bits of `Leaf::live`.
const CAPACITY: usize = 64;

/// One key of the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a Key,
    pub(super) newest: RecordId,
    pub(super) live: bool,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct KeyTree {
    root: Node,
    length: usize,
    live: u64,
}

impl Default for KeyTree {
    fn default() -> Self {
        KeyTree {
            root: Node::empty_leaf(),
            length: 0,
            live: 0,
        }
    }
}

impl KeyTree {
    /// The newest record of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<RecordId> {
        let (leaf, position) = self.descend(key);
        leaf.newest.get(position.ok()?).copied()
    }

    /// Inserts a key or changes its newest record.
    pub(super) fn set(&mut self, key: &Key, newest: RecordId, live: bool) {
        let change = self.root.set(key, newest, live);
        self.length += usize::from(change.inserted);
        self.live += u64::from(live);
        self.live -= u64::from(change.was_live);
        if let Some(split) = change.split {
            let left = std::mem::replace(&mut self.root, Node::empty_leaf());
            let left_live = self.live - split.live;
            self.root = Node::Inner(Box::new(Inner::over(left, left_live, split)));
        }
    }

    /// Removes a key that is there.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let was_live = self.root.remove(key);
        self.length -= 1;
        self.live -= u64::from(was_live);
        while let Node::Inner(inner) = &mut self.root
            && inner.children.len() < 2
        {
            self.root = inner.children.pop().unwrap_or_else(Node::empty_leaf);
        }
    }

    /// Live keys.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// Keys, live or not.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Live keys of an interval.
    pub(super) fn count_live(&self, bounds: &Bounds) -> u64 {
        if let Some(key) = bounds.as_single() {
            let (leaf, position) = self.descend(key);
            return u64::from(position.is_ok_and(|position| leaf.is_live(position)));
        }
        let before_end = bounds
            .end_before()
            .map_or(self.live, |end| self.live_before(end));
        // An end at or below the start is an empty interval.
        before_end.saturating_sub(self.live_before(bounds.start()))
    }

    /// The keys of an interval that is not a single key, in order.
    pub(super) fn within<'a>(&'a self, bounds: &'a Bounds) -> Entries<'a> {
        let (key, end) = (bounds.start(), bounds.end_before());
        let mut above = Vec::new();
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    above.push(inner.children.get(child + 1..).unwrap_or(&[]).iter());
                    node = inner.children.get(child).expect("a child for every key");
                }
                Node::Leaf(leaf) => {
                    let position = leaf.keys.search(key).unwrap_or_else(|position| position);
                    return Entries {
                        above,
                        leaf,
                        position,
                        stop: leaf.position_before(end),
                        end,
                    };
                }
            }
        }
    }

    /// Live keys below this one.
    fn live_before(&self, key: &[u8]) -> u64 {
        let mut count = 0;
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    count += inner.live.iter().take(child).sum::<u64>();
                    node = inner.children.get(child).expect("a child for every key");
                }
                Node::Leaf(leaf) => {
                    let position = leaf.keys.search(key).unwrap_or_else(|position| position);
                    return count + leaf.live_before(position);
                }
            }
        }
    }

    /// The leaf that holds the key if any does, and where.
    fn descend(&self, key: &[u8]) -> (&Leaf, Result<usize, usize>) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    node = inner.children.get(child).expect("a child for every key");
                }
                Node::Leaf(leaf) => return (leaf, leaf.keys.search(key)),
            }
        }
    }
}

/// Keys in order. The end of the interval is looked for once in a leaf: to compare
/// with each key would touch each.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    /// For each level above the leaf, the children that are still to come.
    above: Vec<std::slice::Iter<'a, Node>>,
    leaf: &'a Leaf,
    position: usize,
    /// Where the interval ends in the leaf; its length when it goes on.
    stop: usize,
    end: Option<&'a [u8]>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let position = self.position;
            if position < self.stop {
                self.position += 1;
                let key = self.leaf.keys.get(position);
                let key = key.expect("a stop lies in the leaf");
                let newest = *self
                    .leaf
                    .newest
                    .get(position)
                    .expect("a record for every key");
                return Some(Entry {
                    key,
                    newest,
                    live: self.leaf.is_live(position),
                });
            }
            if self.stop < self.leaf.keys.len() {
                return None;
            }
            self.next_leaf()?;
        }
    }
}

impl Entries<'_> {
    fn next_leaf(&mut self) -> Option<()> {
        let mut node = loop {
            match self.above.last_mut()?.next() {
                Some(node) => break node,
                None => {
                    self.above.pop();
                }
            }
        };
        loop {
            match node {
                Node::Inner(inner) => {
                    let mut children = inner.children.iter();
                    node = children.next().expect("an inner node has children");
                    self.above.push(children);
                }
                Node::Leaf(leaf) => {
                    self.leaf = leaf;
                    self.position = 0;
                    self.stop = leaf.position_before(self.end);
                    return Some(());
                }
            }
        }
    }
}
