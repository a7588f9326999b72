//! The small buckets (everything but `key`) and the root: given whole, laid
//! out as soon as they are known, rendered page by page. Memory: what was
//! given, plus 48 bytes per page.

use bytes::Bytes;

use super::page::{
    BUCKET_HEADER_BYTES, ELEMENT_BUCKET, ELEMENT_BYTES, LeafPage, PAGE_BYTES, PAGE_HEADER_BYTES,
    pad, pages_of, put_branch,
};

/// A leaf of at most this many bytes is kept inside the value that names the
/// bucket (a quarter of a page, as bbolt decides it).
const INLINE_BYTES_MAX: u64 = 1024;

/// One bucket with all it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: &'static str,
    /// Invariant: keys rise strictly. May be empty.
    pub pairs: Vec<(Bytes, Bytes)>,
}

/// A tree of pages over pairs that are in memory. Never empty.
#[derive(Debug)]
pub(super) struct Tree {
    /// [`ELEMENT_BUCKET`] in the root, 0 elsewhere.
    flags: u32,
    pairs: Vec<(Bytes, Bytes)>,
    /// In file order: leaves first, the root of the tree last.
    nodes: Vec<Node>,
    /// Nodes rendered so far.
    rendered: usize,
}

#[derive(Debug)]
struct Node {
    leaf: bool,
    /// Range of pairs of a leaf, of nodes of a branch.
    start: usize,
    end: usize,
    /// The pair whose key is the first one below this node.
    first_pair: usize,
    page: u64,
    pages: u64,
}

impl Tree {
    /// Lays the pairs out from `first_page` on.
    pub(super) fn new(flags: u32, pairs: Vec<(Bytes, Bytes)>, first_page: u64) -> Tree {
        assert!(!pairs.is_empty(), "an empty bucket is inline");
        assert!(
            pairs.is_sorted_by(|left, right| left.0 < right.0),
            "the keys of a bucket rise strictly"
        );
        let mut tree = Tree {
            flags,
            pairs,
            nodes: Vec::new(),
            rendered: 0,
        };
        let mut page = first_page;
        let sizes: Vec<usize> = tree.pairs.iter().map(|(k, v)| k.len() + v.len()).collect();
        tree.add_level(true, 0, &sizes, &mut page);
        let mut level = 0;
        while tree.nodes.len() - level > 1 {
            let end = tree.nodes.len();
            let below = tree.nodes.get(level..).expect("level is within nodes");
            let sizes: Vec<usize> = below.iter().map(|n| tree.key(n.first_pair).len()).collect();
            tree.add_level(false, level, &sizes, &mut page);
            level = end;
        }
        tree
    }

    /// Packs consecutive children (the first one is number `base`) into nodes.
    /// A branch takes at least two, so that every level is shorter than the one below.
    fn add_level(&mut self, leaf: bool, base: usize, sizes: &[usize], next_page: &mut u64) {
        let least = if leaf { 1 } else { 2 };
        let mut start = 0;
        while start < sizes.len() {
            let mut bytes = PAGE_HEADER_BYTES;
            let mut count = 0;
            for size in sizes.iter().skip(start) {
                let longer = bytes + ELEMENT_BYTES + size;
                if count >= least && longer > PAGE_BYTES {
                    break;
                }
                bytes = longer;
                count += 1;
            }
            let first_pair = match self.nodes.get(base + start) {
                Some(child) if !leaf => child.first_pair,
                _ => start,
            };
            let pages = pages_of(bytes as u64);
            self.nodes.push(Node {
                leaf,
                start: base + start,
                end: base + start + count,
                first_pair,
                page: *next_page,
                pages,
            });
            *next_page += pages;
            start += count;
        }
    }

    fn key(&self, pair: usize) -> &Bytes {
        &self
            .pairs
            .get(pair)
            .expect("nodes name pairs of this tree")
            .0
    }

    fn last(&self) -> &Node {
        self.nodes.last().expect("a tree has a root")
    }

    /// The page of the tree's root.
    pub(super) fn root(&self) -> u64 {
        self.last().page
    }

    /// The first page behind the tree.
    pub(super) fn end(&self) -> u64 {
        self.last().page + self.last().pages
    }

    /// Appends the next page of the tree, padded; false when all are out.
    pub(super) fn render_next(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(node) = self.nodes.get(self.rendered) else {
            return false;
        };
        let start = out.len();
        if node.leaf {
            let pairs = self.pairs.get(node.start..node.end);
            put_leaf(
                out,
                self.flags,
                pairs.expect("leaves name pairs"),
                node.page,
                node.pages,
            );
        } else {
            let below = self
                .nodes
                .get(node.start..node.end)
                .expect("branches name nodes");
            let children: Vec<(Vec<u8>, u64)> = below
                .iter()
                .map(|child| (self.key(child.first_pair).to_vec(), child.page))
                .collect();
            put_branch(out, node.page, node.pages, &children);
        }
        pad(out, start);
        assert_eq!(
            pages_of((out.len() - start) as u64),
            node.pages,
            "a page has the length that was laid out for it"
        );
        self.rendered += 1;
        true
    }
}

fn put_leaf(out: &mut Vec<u8>, flags: u32, pairs: &[(Bytes, Bytes)], page: u64, pages: u64) {
    let mut leaf = LeafPage::default();
    for (key, value) in pairs {
        leaf.push(flags, |data| data.extend_from_slice(key), value);
    }
    leaf.render(out, page, pages);
}

/// The value by which the root names a bucket whose tree starts at `root`.
pub(super) fn bucket_value(root: u64) -> Bytes {
    let mut value = Vec::with_capacity(BUCKET_HEADER_BYTES);
    value.extend_from_slice(&root.to_le_bytes());
    value.extend_from_slice(&0u64.to_le_bytes());
    value.into()
}

/// The value of a bucket small enough to lie inside it; None for a larger one.
pub(super) fn inline_value(pairs: &[(Bytes, Bytes)]) -> Option<Bytes> {
    let elements: usize = pairs
        .iter()
        .map(|(key, value)| ELEMENT_BYTES + key.len() + value.len())
        .sum();
    if (PAGE_HEADER_BYTES + elements) as u64 > INLINE_BYTES_MAX {
        return None;
    }
    assert!(
        pairs.is_sorted_by(|left, right| left.0 < right.0),
        "the keys of a bucket rise strictly"
    );
    let mut value = bucket_value(0).to_vec();
    put_leaf(&mut value, 0, pairs, 0, 1);
    Some(value.into())
}

/// The tree of the root, which names the buckets.
pub(super) fn root_tree(mut names: Vec<(Bytes, Bytes)>, first_page: u64) -> Tree {
    names.sort();
    Tree::new(ELEMENT_BUCKET, names, first_page)
}
