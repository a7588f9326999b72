//! Pass 2: the bytes of the file, from the first to the last.
//!
//! The caller asks for the next [`Step`] in a loop: it takes a chunk away, or
//! feeds one record, or is done. What is fed must be what pass 1 saw; a record
//! that is missing, new or of another length ends the stream with
//! [`PassMismatch`] (the pin was lost), never with a file that looks whole.
//!
//! Memory: the plan, two copies of the largest leaf (one page or one record),
//! and one chunk.

use std::fmt;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::layout::{FAN_OUT, Plan, Tally, element_bytes, joins};
use super::page::{FIRST_DATA_PAGE, LeafPage, PAGE_BYTES, pad, pages_of, put_branch, put_head};
use super::record_key::RecordKey;
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::types::Revision;

/// What the producer wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next bytes of the file: `limits::SNAPSHOT_CHUNK_BYTES`, the last chunk less.
    Chunk(Bytes),
    /// Feed the next record in revision order.
    Feed {
        /// The last one fed; None before the first.
        after: Option<Revision>,
        /// How many are still to come, this one included.
        remaining: u64,
    },
    /// All bytes are out.
    Finished {
        /// SHA-256 over all of them, the trailer of a saved snapshot.
        digest: [u8; 32],
    },
}

/// Pass 2 was fed something else than pass 1. The stream must be given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassMismatch {
    /// The record at which it was noticed.
    pub revision: Revision,
}

impl fmt::Display for PassMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the records changed between the passes of a snapshot, noticed at revision {:?}",
            self.revision
        )
    }
}

impl std::error::Error for PassMismatch {}

/// Pass 2 of writing a snapshot.
#[derive(Debug)]
pub struct Emitter {
    plan: Plan,
    tally: Tally,
    leaf: LeafPage,
    leaf_first: Option<RecordKey>,
    leaves_out: u64,
    /// The page that comes next.
    next_page: u64,
    phase: Phase,
    out: Vec<u8>,
    /// Rendered bytes in front of `out`, cut into chunks.
    ready: BytesMut,
    emitted_bytes: u64,
    hasher: Sha256,
    /// Invariant: set by the first mismatch, and nothing leaves after it.
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Head,
    Records,
    Branches {
        level: usize,
        node: u64,
        /// Page of the node's first child.
        child_page: u64,
    },
    Trees {
        tree: usize,
    },
    Done,
}

impl Emitter {
    pub(super) fn new(plan: Plan) -> Emitter {
        Emitter {
            plan,
            tally: Tally::default(),
            leaf: LeafPage::default(),
            leaf_first: None,
            leaves_out: 0,
            next_page: 0,
            phase: Phase::Head,
            out: Vec::new(),
            ready: BytesMut::new(),
            emitted_bytes: 0,
            hasher: Sha256::new(),
            failed: false,
        }
    }

    /// Length of the file, bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.plan.total_bytes()
    }

    /// Bytes that chunks have not taken away yet (`remaining_bytes` of the
    /// Snapshot call after the chunk just taken).
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.total_bytes() - self.emitted_bytes
    }

    /// What to do next. Work per call: one chunk.
    ///
    /// # Panics
    /// After a mismatch.
    pub fn step(&mut self) -> Step {
        assert!(!self.failed, "a stream that failed is given up");
        loop {
            if self.ready.len() >= SNAPSHOT_CHUNK_BYTES {
                return Step::Chunk(self.cut(SNAPSHOT_CHUNK_BYTES));
            }
            match self.phase {
                Phase::Records if self.tally.records < self.plan.tally.records => {
                    return Step::Feed {
                        after: self.tally.last,
                        remaining: self.plan.tally.records - self.tally.records,
                    };
                }
                Phase::Done if self.ready.is_empty() => {
                    assert_eq!(self.remaining_bytes(), 0, "the file has its length");
                    let digest = self.hasher.clone().finalize().into();
                    return Step::Finished { digest };
                }
                Phase::Done => return Step::Chunk(self.cut(self.ready.len())),
                _ => self.produce(),
            }
        }
    }

    /// Takes the next record: its key and its encoded `KeyValue`.
    ///
    /// # Errors
    /// [`PassMismatch`] when pass 1 did not see this record with this length here.
    ///
    /// # Panics
    /// When the last step was not [`Step::Feed`].
    pub fn feed(&mut self, key: RecordKey, encoded: &[u8]) -> Result<(), PassMismatch> {
        let wanted = matches!(self.phase, Phase::Records)
            && self.tally.records < self.plan.tally.records
            && self.ready.len() < SNAPSHOT_CHUNK_BYTES
            && !self.failed;
        assert!(
            wanted,
            "a record is fed only when the last step asked for it"
        );
        let fed = self.feed_checked(key, encoded);
        self.failed = fed.is_none();
        fed.ok_or(PassMismatch {
            revision: key.revision,
        })
    }

    fn feed_checked(&mut self, key: RecordKey, encoded: &[u8]) -> Option<()> {
        let length = u32::try_from(encoded.len()).ok()?;
        if !self.tally.push(key, length) {
            return None;
        }
        if !self.leaf.is_empty() && !joins(self.leaf.bytes(), element_bytes(key, length)) {
            self.close_leaf()?;
        }
        if self.leaf_first.is_none() {
            self.leaf_first = Some(key);
        }
        self.leaf.push(0, |data| key.encode(data), encoded);
        if self.tally.records == self.plan.tally.records {
            if self.tally != self.plan.tally {
                return None;
            }
            self.close_leaf()?;
        }
        Some(())
    }

    /// Renders the open leaf, if it is the one that was laid out.
    fn close_leaf(&mut self) -> Option<()> {
        let planned = self.plan.leaves.get(self.leaves_out)?;
        let pages = pages_of(self.leaf.bytes());
        if self.leaf_first.take() != Some(planned.first()) || pages != planned.pages() {
            return None;
        }
        self.leaf.render(&mut self.out, self.next_page, pages);
        self.leaves_out += 1;
        self.flush_pages();
        Some(())
    }

    /// Produces the next page that needs no record.
    fn produce(&mut self) {
        match self.phase {
            Phase::Head => {
                put_head(&mut self.out, self.plan.root, self.plan.pages);
                self.phase = Phase::Records;
            }
            Phase::Records => {
                assert!(self.leaf.is_empty(), "the last record closes the last leaf");
                self.phase = self.level_phase(0);
            }
            Phase::Branches {
                level,
                node,
                child_page,
            } => self.produce_branch(level, node, child_page),
            Phase::Trees { tree } => match self.plan.trees.get_mut(tree) {
                Some(pages) => {
                    if !pages.render_next(&mut self.out) {
                        self.phase = Phase::Trees { tree: tree + 1 };
                    }
                }
                None => self.phase = Phase::Done,
            },
            Phase::Done => {}
        }
        self.flush_pages();
    }

    fn level_phase(&self, level: usize) -> Phase {
        match self.plan.levels.get(level) {
            Some(next) => Phase::Branches {
                level,
                node: 0,
                child_page: next.children_page,
            },
            None => Phase::Trees { tree: 0 },
        }
    }

    fn produce_branch(&mut self, number: usize, node: u64, mut child_page: u64) {
        let level = self
            .plan
            .levels
            .get(number)
            .expect("the phase names a level");
        assert_eq!(
            self.next_page,
            level.first_page + node,
            "branches lie where laid out"
        );
        let last = level.children.min((node + 1) * FAN_OUT);
        let mut children = Vec::new();
        for child in node * FAN_OUT..last {
            let leaf = self.plan.leaves.get(child * level.leaves_per_child);
            let leaf = leaf.expect("every child has a first leaf");
            let mut key = Vec::new();
            leaf.first().encode(&mut key);
            children.push((key, child_page));
            // Only leaves are longer than one page.
            child_page += if number == 0 { leaf.pages() } else { 1 };
        }
        put_branch(&mut self.out, self.next_page, 1, &children);
        self.phase = if node + 1 == level.pages {
            assert!(
                number > 0 || child_page == level.first_page,
                "all leaves have a parent"
            );
            self.level_phase(number + 1)
        } else {
            Phase::Branches {
                level: number,
                node: node + 1,
                child_page,
            }
        };
    }

    /// Pads what was rendered to whole pages and makes it ready to be cut.
    fn flush_pages(&mut self) {
        pad(&mut self.out, 0);
        self.next_page += (self.out.len() / PAGE_BYTES) as u64;
        assert!(
            self.next_page <= self.plan.pages,
            "no page lies behind the end"
        );
        assert!(
            self.leaves_out == 0 || self.next_page >= FIRST_DATA_PAGE,
            "the head comes first"
        );
        self.ready.extend_from_slice(&self.out);
        self.out.clear();
        self.out.shrink_to(SNAPSHOT_CHUNK_BYTES);
    }

    fn cut(&mut self, length: usize) -> Bytes {
        let chunk = self.ready.split_to(length).freeze();
        self.hasher.update(&chunk);
        self.emitted_bytes += length as u64;
        chunk
    }
}
