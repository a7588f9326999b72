//! The nodes of the key tree. All leaves lie at the same depth.
//!
//! Invariants: no node but an empty root is empty; child `i` holds the keys
//! from separator `i - 1` (inclusive) to separator `i`; `live[i]` is the number
//! of live keys below child `i`. Nodes may be small: one below a quarter is
//! merged into a neighbour where both fit with room to spare, which keeps the
//! tree from flickering between split and merge.

#![expect(
    clippy::indexing_slicing,
    reason = "positions come from searches in the same node"
)]

use super::super::records::RecordId;
use super::CAPACITY;
use super::sorted_keys::SortedKeys;
use crate::types::Key;

/// A node below this size is merged when a neighbour has room.
const SMALL: usize = CAPACITY / 4;

/// Two nodes are merged up to this size.
const MERGED_MAX: usize = CAPACITY * 3 / 4;

#[derive(Debug)]
pub(super) enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) keys: SortedKeys,
    pub(super) newest: Vec<RecordId>,
    /// Bit `i`: the newest record of key `i` is a put.
    pub(super) live: u64,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) separators: SortedKeys,
    pub(super) children: Vec<Node>,
    pub(super) live: Vec<u64>,
}

/// What setting a key did to a node.
pub(super) struct Change {
    /// The key was not there before.
    pub(super) inserted: bool,
    /// The key was live before.
    pub(super) was_live: bool,
    /// The right part, if the node was split.
    pub(super) split: Option<Split>,
}

/// The right part of a node that was split.
pub(super) struct Split {
    /// Its smallest key.
    pub(super) separator: Key,
    pub(super) right: Node,
    /// Live keys in it.
    pub(super) live: u64,
}

impl Node {
    pub(super) fn empty_leaf() -> Self {
        Node::Leaf(Box::new(Leaf::new()))
    }

    /// Keys of a leaf, children of an inner node.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.newest.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    pub(super) fn set(&mut self, key: &Key, newest: RecordId, live: bool) -> Change {
        match self {
            Node::Leaf(leaf) => leaf.set(key, newest, live),
            Node::Inner(inner) => inner.set(key, newest, live),
        }
    }

    /// Removes a key that is there; true when it was live. The node may be empty after.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.remove(key),
            Node::Inner(inner) => inner.remove(key),
        }
    }

    /// Appends a neighbour to the right, whose smallest possible key is `separator`.
    fn merge(&mut self, separator: Key, right: Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.merge(*right),
            (Node::Inner(left), Node::Inner(right)) => left.merge(separator, *right),
            _ => unreachable!("neighbours have the same depth"),
        }
    }
}

impl Leaf {
    fn new() -> Self {
        Leaf {
            keys: SortedKeys::new(),
            newest: Vec::with_capacity(CAPACITY),
            live: 0,
        }
    }

    pub(super) fn is_live(&self, position: usize) -> bool {
        self.live >> position & 1 == 1
    }

    /// How many of the keys lie before the end of an interval.
    pub(super) fn position_before(&self, end: Option<&[u8]>) -> usize {
        let length = self.keys.len();
        let last = length.checked_sub(1).and_then(|last| self.keys.get(last));
        match (end, last) {
            (Some(end), Some(last)) if last.as_ref() >= end => {
                self.keys.search(end).unwrap_or_else(|position| position)
            }
            _ => length,
        }
    }

    /// Live keys before this position.
    pub(super) fn live_before(&self, position: usize) -> u64 {
        u64::from((self.live & low_bits(position)).count_ones())
    }

    fn set(&mut self, key: &Key, newest: RecordId, live: bool) -> Change {
        let position = match self.keys.search(key) {
            Ok(position) => {
                let was_live = self.is_live(position);
                self.newest[position] = newest;
                self.live = self.live & !(1 << position) | u64::from(live) << position;
                return Change {
                    inserted: false,
                    was_live,
                    split: None,
                };
            }
            Err(position) => position,
        };
        let length = self.newest.len();
        if length < CAPACITY {
            self.insert(position, key, newest, live);
            return Change {
                inserted: true,
                was_live: false,
                split: None,
            };
        }
        // Keys that come in order would leave halves behind for ever.
        let at = if position == length {
            length
        } else {
            length / 2
        };
        let mut right = self.split_off(at);
        if position > at || at == length {
            right.insert(position - at, key, newest, live);
        } else {
            self.insert(position, key, newest, live);
        }
        let separator = Key::clone(right.keys.get(0).expect("both parts have keys"));
        let live = u64::from(right.live.count_ones());
        let right = Node::Leaf(Box::new(right));
        Change {
            inserted: true,
            was_live: false,
            split: Some(Split {
                separator,
                right,
                live,
            }),
        }
    }

    fn insert(&mut self, position: usize, key: &Key, newest: RecordId, live: bool) {
        self.keys.insert(position, Key::clone(key));
        self.newest.insert(position, newest);
        let low = low_bits(position);
        self.live = self.live & low | (self.live & !low) << 1 | u64::from(live) << position;
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let position = self
            .keys
            .search(key)
            .expect("a key that is removed was there");
        let was_live = self.is_live(position);
        self.keys.remove(position);
        self.newest.remove(position);
        let low = low_bits(position);
        self.live = self.live & low | self.live >> 1 & !low;
        was_live
    }

    fn split_off(&mut self, at: usize) -> Leaf {
        let mut right = Leaf::new();
        right.keys = self.keys.split_off(at);
        right.newest.extend(self.newest.drain(at..));
        right.live = self.live & !low_bits(at);
        right.live = right
            .live
            .checked_shr(u32::try_from(at).expect("at most 64"))
            .unwrap_or(0);
        self.live &= low_bits(at);
        right
    }

    fn merge(&mut self, right: Leaf) {
        let length = self.newest.len();
        assert!(
            length + right.newest.len() <= CAPACITY,
            "a merged node fits"
        );
        self.live |= right
            .live
            .checked_shl(u32::try_from(length).expect("at most 64"))
            .unwrap_or(0);
        self.keys.append(right.keys);
        self.newest.extend(right.newest);
    }
}

impl Inner {
    /// A root over the two parts of a split one.
    pub(super) fn over(left: Node, live: u64, split: Split) -> Self {
        let mut inner = Inner::new();
        inner.separators.insert(0, split.separator);
        inner.children.extend([left, split.right]);
        inner.live.extend([live, split.live]);
        inner
    }

    fn new() -> Self {
        // A node holds one child too many until it is split.
        Inner {
            separators: SortedKeys::new(),
            children: Vec::with_capacity(CAPACITY + 1),
            live: Vec::with_capacity(CAPACITY + 1),
        }
    }

    /// The child that holds the key if any does.
    pub(super) fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(position) => position + 1,
            Err(position) => position,
        }
    }

    fn set(&mut self, key: &Key, newest: RecordId, live: bool) -> Change {
        let child = self.child_of(key);
        let mut change = self.children[child].set(key, newest, live);
        self.live[child] += u64::from(live);
        self.live[child] -= u64::from(change.was_live);
        let Some(split) = change.split.take() else {
            return change;
        };
        self.live[child] -= split.live;
        self.separators.insert(child, split.separator);
        self.children.insert(child + 1, split.right);
        self.live.insert(child + 1, split.live);
        let length = self.children.len();
        if length > CAPACITY {
            let at = if child + 2 == length {
                length - 2
            } else {
                length / 2
            };
            change.split = Some(self.split_off(at));
        }
        change
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let child = self.child_of(key);
        let was_live = self.children[child].remove(key);
        self.live[child] -= u64::from(was_live);
        let length = self.children[child].len();
        if length == 0 {
            self.children.remove(child);
            self.live.remove(child);
            if self.separators.len() > 0 {
                self.separators.remove(child.saturating_sub(1));
            }
        } else if length < SMALL {
            if child + 1 < self.children.len() && self.fit(child) {
                self.merge_children(child);
            } else if child > 0 && self.fit(child - 1) {
                self.merge_children(child - 1);
            }
        }
        was_live
    }

    fn fit(&self, left: usize) -> bool {
        self.children[left].len() + self.children[left + 1].len() <= MERGED_MAX
    }

    fn merge_children(&mut self, left: usize) {
        let right = self.children.remove(left + 1);
        let separator = self.separators.remove(left);
        self.live[left] += self.live.remove(left + 1);
        self.children[left].merge(separator, right);
    }

    fn split_off(&mut self, at: usize) -> Split {
        let mut right = Inner::new();
        right.separators = self.separators.split_off(at);
        let separator = self.separators.remove(at - 1);
        right.children.extend(self.children.drain(at..));
        right.live.extend(self.live.drain(at..));
        let live = right.live.iter().sum();
        Split {
            separator,
            right: Node::Inner(Box::new(right)),
            live,
        }
    }

    fn merge(&mut self, separator: Key, right: Inner) {
        assert!(
            self.children.len() + right.children.len() <= CAPACITY,
            "a merged node fits"
        );
        self.separators.insert(self.separators.len(), separator);
        self.separators.append(right.separators);
        self.children.extend(right.children);
        self.live.extend(right.live);
    }
}

/// A mask of the bits below this position.
fn low_bits(position: usize) -> u64 {
    let position = u32::try_from(position).expect("a position in a node");
    u64::MAX
        .checked_shl(position)
        .map_or(u64::MAX, |high| !high)
}
