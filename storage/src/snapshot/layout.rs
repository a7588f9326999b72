//! Pass 1: where every page of the file will lie, from the sizes of the
//! records alone.
//!
//! The file: meta 0, meta 1, an empty freelist, the leaves of bucket `key`,
//! its branches level by level, the small buckets, the root. A leaf takes
//! records as long as they fit one page; a record that does not fit one page
//! has a leaf with overflow pages of its own.
//!
//! Memory: 16 bytes per leaf of `key`, so at most 1/256 of the file (a file of
//! 8 GiB: 32 MiB), in blocks of 64 KiB, so that no push moves what is there.

use bytes::Bytes;

use super::emitter::Emitter;
use super::page::{ELEMENT_BYTES, FIRST_DATA_PAGE, PAGE_BYTES, PAGE_HEADER_BYTES, pages_of};
use super::record_key::{RECORD_KEY_BYTES, RecordKey};
use super::tree::{Bucket, Tree, bucket_value, inline_value, root_tree};
use crate::limits::SNAPSHOT_RECORD_BYTES_MAX;
use crate::types::Revision;

/// Leaves per block: 64 KiB of them.
const BLOCK_LEAVES: usize = 4096;

/// Children of a branch of `key`. Fixed, so that page numbers above the leaves
/// are arithmetic: this many keys of 18 bytes fit one page.
pub(super) const FAN_OUT: u64 =
    ((PAGE_BYTES - PAGE_HEADER_BYTES) / (ELEMENT_BYTES + RECORD_KEY_BYTES + 1)) as u64;

/// Pass 1 of writing a snapshot. Feed every record in revision order, in
/// slices of any size, then [`Layout::finish`].
#[derive(Debug, Default)]
pub struct Layout {
    leaves: Leaves,
    open: Option<(RecordKey, u64)>,
    tally: Tally,
}

/// What both passes must agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) last: Option<Revision>,
    checksum: u32,
}

impl Tally {
    /// Takes the next record in; false when its revision does not rise.
    pub(super) fn push(&mut self, key: RecordKey, encoded_bytes: u32) -> bool {
        if key.revision.main < 0 || self.last >= Some(key.revision) {
            return false;
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(self.checksum);
        hasher.update(&key.revision.main.to_le_bytes());
        hasher.update(&key.revision.sub.to_le_bytes());
        hasher.update(&[u8::from(key.tombstone)]);
        hasher.update(&encoded_bytes.to_le_bytes());
        self.checksum = hasher.finalize();
        self.records += 1;
        self.last = Some(key.revision);
        true
    }
}

/// The one packing rule: a record of this size joins a leaf that holds
/// `leaf_bytes` already, or opens the next one.
pub(super) fn joins(leaf_bytes: u64, element_bytes: u64) -> bool {
    leaf_bytes + element_bytes <= PAGE_BYTES as u64
}

/// Bytes that a record takes within a leaf.
pub(super) fn element_bytes(key: RecordKey, encoded_bytes: u32) -> u64 {
    (ELEMENT_BYTES + key.encoded_bytes()) as u64 + u64::from(encoded_bytes)
}

/// One leaf of `key`: its first key and its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    main: i64,
    sub: u32,
    /// Length in pages, times 2, plus 1 when the first record is a tombstone.
    pages_and_tombstone: u32,
}

impl Leaf {
    fn new(first: RecordKey, pages: u64) -> Leaf {
        let pages = u32::try_from(pages).expect("a record is bounded by a named limit");
        Leaf {
            main: first.revision.main,
            sub: first.revision.sub,
            pages_and_tombstone: pages * 2 + u32::from(first.tombstone),
        }
    }

    pub(super) fn first(self) -> RecordKey {
        let tombstone = self.pages_and_tombstone % 2 == 1;
        RecordKey::new(Revision::new(self.main, self.sub), tombstone)
    }

    pub(super) fn pages(self) -> u64 {
        u64::from(self.pages_and_tombstone / 2)
    }
}

/// All leaves of `key`, in order.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    blocks: Vec<Vec<Leaf>>,
    count: u64,
    pages: u64,
}

impl Leaves {
    fn push(&mut self, leaf: Leaf) {
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK_LEAVES => block.push(leaf),
            _ => {
                let mut block = Vec::with_capacity(BLOCK_LEAVES);
                block.push(leaf);
                self.blocks.push(block);
            }
        }
        self.count += 1;
        self.pages += leaf.pages();
    }

    pub(super) fn get(&self, number: u64) -> Option<Leaf> {
        let number = usize::try_from(number).ok()?;
        let block = self.blocks.get(number / BLOCK_LEAVES)?;
        block.get(number % BLOCK_LEAVES).copied()
    }
}

/// The branches of `key`: how many pages each level has, from the lowest.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) first_page: u64,
    pub(super) pages: u64,
    /// Nodes of the level below, and its first page.
    pub(super) children: u64,
    pub(super) children_page: u64,
    /// Leaves below one node.
    pub(super) leaves_per_child: u64,
}

impl Layout {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Layout {
        Layout::default()
    }

    /// Takes in the next record: its key and the length of its encoded
    /// `KeyValue`, bytes, at most `limits::SNAPSHOT_RECORD_BYTES_MAX` (asserted,
    /// as is that revisions rise). Constant time.
    pub fn push(&mut self, key: RecordKey, encoded_bytes: u32) {
        assert!(
            encoded_bytes <= SNAPSHOT_RECORD_BYTES_MAX,
            "a record of {encoded_bytes} bytes at {:?}",
            key.revision
        );
        assert!(
            self.tally.push(key, encoded_bytes),
            "revisions rise: {:?}",
            key.revision
        );
        let element = element_bytes(key, encoded_bytes);
        match &mut self.open {
            Some((_, bytes)) if joins(*bytes, element) => *bytes += element,
            open => {
                let next = (key, PAGE_HEADER_BYTES as u64 + element);
                if let Some((first, bytes)) = open.replace(next) {
                    self.leaves.push(Leaf::new(first, pages_of(bytes)));
                }
            }
        }
    }

    /// Number of records so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.tally.records
    }

    /// Ends pass 1: all records are in, and these are the other buckets
    /// ([`super::Contents::buckets`] builds etcd's). Names must differ from each other and
    /// from `key`; keys within a bucket rise strictly (asserted).
    #[must_use]
    pub fn finish(mut self, buckets: Vec<Bucket>) -> Plan {
        if let Some((first, bytes)) = self.open.take() {
            self.leaves.push(Leaf::new(first, pages_of(bytes)));
        }
        let (levels, mut next_page) = branch_levels(&self.leaves);
        let key_value = match levels.last() {
            Some(top) => bucket_value(top.first_page),
            None if self.leaves.count == 1 => bucket_value(FIRST_DATA_PAGE),
            None => inline_value(&[]).expect("an empty bucket is inline"),
        };
        let mut names = vec![(Bytes::from_static(b"key"), key_value)];
        let mut trees = Vec::new();
        for Bucket { name, pairs } in buckets {
            let value = inline_value(&pairs).unwrap_or_else(|| {
                let tree = Tree::new(0, pairs, next_page);
                next_page = tree.end();
                let value = bucket_value(tree.root());
                trees.push(tree);
                value
            });
            names.push((Bytes::from_static(name.as_bytes()), value));
        }
        let root = root_tree(names, next_page);
        let plan = Plan {
            leaves: self.leaves,
            levels,
            tally: self.tally,
            root: root.root(),
            pages: root.end(),
            trees: trees.into_iter().chain([root]).collect(),
        };
        assert!(plan.root < plan.pages, "the root lies inside the file");
        plan
    }
}

fn branch_levels(leaves: &Leaves) -> (Vec<Level>, u64) {
    let mut levels = Vec::new();
    let mut next_page = FIRST_DATA_PAGE + leaves.pages;
    let (mut children, mut children_page, mut span) = (leaves.count, FIRST_DATA_PAGE, 1);
    while children > 1 {
        let pages = children.div_ceil(FAN_OUT);
        levels.push(Level {
            first_page: next_page,
            pages,
            children,
            children_page,
            leaves_per_child: span,
        });
        (children, children_page, span) = (pages, next_page, span * FAN_OUT);
        next_page += pages;
    }
    (levels, next_page)
}

/// What pass 1 found out. The file's length is known from here on.
#[derive(Debug)]
pub struct Plan {
    pub(super) leaves: Leaves,
    pub(super) levels: Vec<Level>,
    pub(super) tally: Tally,
    pub(super) trees: Vec<Tree>,
    pub(super) root: u64,
    pub(super) pages: u64,
}

impl Plan {
    /// Length of the file, bytes: a multiple of 4096, without the SHA-256 that
    /// the Snapshot call sends after it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }

    /// Number of records that pass 2 must be fed.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.tally.records
    }

    /// Starts pass 2.
    #[must_use]
    pub fn into_emitter(self) -> Emitter {
        Emitter::new(self)
    }
}
