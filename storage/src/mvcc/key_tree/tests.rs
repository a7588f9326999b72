//! The tree against a map, its invariants asserted after every step.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// Asserts the invariants and answers (keys, live keys, depth).
fn check(node: &Node, is_root: bool) -> (usize, u64, usize) {
    match node {
        Node::Leaf(leaf) => {
            leaf.keys.check();
            assert_eq!(leaf.keys.len(), leaf.newest.len());
            assert!(
                is_root || leaf.keys.len() > 0,
                "no node but the root is empty"
            );
            assert!(leaf.keys.len() <= CAPACITY);
            assert_eq!(
                leaf.live_before(leaf.keys.len()),
                u64::from(leaf.live.count_ones())
            );
            (leaf.keys.len(), u64::from(leaf.live.count_ones()), 1)
        }
        Node::Inner(inner) => {
            inner.separators.check();
            assert_eq!(inner.separators.len() + 1, inner.children.len());
            assert_eq!(inner.live.len(), inner.children.len());
            assert!(inner.children.len() <= CAPACITY);
            let parts: Vec<_> = inner
                .children
                .iter()
                .map(|child| check(child, false))
                .collect();
            let depth = parts[0].2;
            for (part, &live) in parts.iter().zip(&inner.live) {
                assert_eq!(
                    (part.1, part.2),
                    (live, depth),
                    "live keys and depth of a child"
                );
            }
            let sums = parts
                .iter()
                .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            (sums.0, sums.1, depth + 1)
        }
    }
}

#[derive(Default)]
struct Pair {
    tree: KeyTree,
    map: BTreeMap<Vec<u8>, (RecordId, bool)>,
}

impl Pair {
    fn set(&mut self, key: &[u8], number: u32, live: bool) {
        self.tree.set(&Key::from(key), RecordId::from(number), live);
        self.map
            .insert(key.to_vec(), (RecordId::from(number), live));
    }

    fn remove(&mut self, key: &[u8]) {
        if self.map.remove(key).is_some() {
            self.tree.remove(key);
        }
    }

    fn agree(&self) {
        let live = self.map.values().filter(|entry| entry.1).count() as u64;
        let (length, counted, _) = check(&self.tree.root, true);
        assert_eq!((length, counted), (self.map.len(), live));
        assert_eq!((self.tree.len(), self.tree.live()), (length, live));
        let everything = Bounds::everything();
        let entries = self.tree.within(&everything);
        let entries = entries.map(|one| (one.key.to_vec(), (one.newest, one.live)));
        assert!(entries.eq(self.map.clone()));
    }

    fn agree_at(&self, key: &[u8], end: &[u8]) {
        assert_eq!(self.tree.find(key), self.map.get(key).map(|entry| entry.0));
        for end in [end, b"\0", b""] {
            let bounds =
                Bounds::of_request(&Bytes::copy_from_slice(key), &Bytes::copy_from_slice(end));
            let inside = self
                .map
                .iter()
                .filter(|entry| bounds.contains(entry.0) && entry.1.1);
            assert_eq!(
                self.tree.count_live(&bounds),
                inside.count() as u64,
                "{bounds:?}"
            );
            if bounds.as_single().is_none() {
                let keys = self.tree.within(&bounds).map(|entry| entry.key.to_vec());
                let expected = self.map.keys().filter(|key| bounds.contains(key));
                assert!(keys.eq(expected.cloned()), "{bounds:?}");
            }
        }
    }
}

/// Keys with long shared prefixes, zero bytes at the end and bytes of 0xff.
fn a_key() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', 0xff]), 0..6);
    (
        prop::sample::select(vec!["", "/registry/pods/default/", "/registry/", "x"]),
        tail,
    )
        .prop_map(|(prefix, tail)| [prefix.as_bytes(), &tail].concat())
}

proptest! {
    #[test]
    fn agrees_with_a_map(
        steps in prop::collection::vec((a_key(), a_key(), 0..5_u8), 1..400),
    ) {
        let mut pair = Pair::default();
        for (number, (key, other, kind)) in (0..).zip(steps) {
            match kind {
                0 => pair.remove(&key),
                1 => pair.set(&key, number, false),
                _ => pair.set(&key, number, true),
            }
            pair.agree_at(&key, &other);
        }
        pair.agree();
    }
}

#[test]
fn grows_and_shrinks_in_every_order() {
    let count = 20_000_u32;
    let orders: [fn(u32) -> u32; 3] = [|n| n, |n| 19_999 - n, |n| n * 7919 % 20_000];
    for insert in orders {
        for remove in orders {
            let mut pair = Pair::default();
            for number in 0..count {
                let key = format!("/registry/pods/{:06}", insert(number));
                pair.set(key.as_bytes(), number, number % 3 != 0);
            }
            pair.agree();
            for number in 0..count {
                let key = format!("/registry/pods/{:06}", remove(number));
                if number % 4_000 == 0 {
                    pair.agree_at(key.as_bytes(), b"/registry/pods/013");
                    pair.agree();
                }
                pair.remove(key.as_bytes());
                if number == count * 9 / 10 {
                    break;
                }
            }
            let depth = check(&pair.tree.root, true).2;
            assert!(depth <= 3, "2,000 keys after merging lie {depth} deep");
        }
    }
}

#[test]
fn keys_in_order_fill_the_leaves() {
    let mut pair = Pair::default();
    for number in 0..64 * 64 {
        pair.set(format!("{number:06}").as_bytes(), number, true);
    }
    let Node::Inner(root) = &pair.tree.root else {
        panic!("one level of leaves")
    };
    assert!(root.children.iter().all(|leaf| leaf.len() == CAPACITY));
}

#[test]
fn an_emptied_tree_is_as_new() {
    let mut pair = Pair::default();
    for number in 0..5_000_u32 {
        pair.set(&number.to_be_bytes(), number, true);
    }
    for number in 0..5_000_u32 {
        pair.remove(&number.to_be_bytes());
    }
    pair.agree();
    assert!(matches!(pair.tree.root, Node::Leaf(_)));
    pair.set(b"again", 1, true);
    pair.agree();
}
