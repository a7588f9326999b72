//! The timeline: all records by (main, sub), in chunks: those of the slab by
//! their ids, the packed ones in a block.
//!
//! Appending is O(1). Removing costs a search for the chunk and a move within
//! it. Chunks that run empty are dropped and small neighbours are merged.
//! Invariants: `first` of a chunk is at or below all its revisions and above
//! all of the chunk before it; nothing is appended to a chunk with a block.
//!
//! Each chunk also sums what compaction past its records frees, so that a
//! logical compaction knows the bytes it makes garbage without visiting them.

#![expect(
    clippy::indexing_slicing,
    reason = "positions come from binary searches in the vectors"
)]

use super::block::{Block, Cursor, Entry};
use super::records::{RecordId, Records};
use crate::types::Revision;

/// A record of the timeline.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Slab(RecordId),
    Packed(Entry),
}

impl Item {
    pub(super) fn revision(&self, records: &Records) -> Revision {
        match self {
            Item::Slab(id) => records.get(*id).revision(),
            Item::Packed(entry) => entry.revision,
        }
    }
}

#[derive(Debug)]
struct Chunk {
    first: Revision,
    ids: Vec<RecordId>,
    packed: Option<Box<Block>>,
    /// Sum of what was given to `append` for these records, bytes.
    garbage_bytes: u64,
}

impl Chunk {
    fn length(&self) -> usize {
        self.ids.len() + self.packed.as_ref().map_or(0, |block| block.live())
    }

    /// Its records from this revision (inclusive) on, in order.
    fn from<'a>(&'a self, revision: Revision, records: &'a Records) -> Merged<'a> {
        let slot = self
            .ids
            .partition_point(|&id| records.get(id).revision() < revision);
        let mut packed = self.packed.as_ref().map(|block| block.from(revision));
        Merged {
            ids: &self.ids[slot..],
            entry: packed.as_mut().and_then(Iterator::next),
            packed,
            records,
        }
    }
}

/// A chunk's records in order, ids and block merged.
struct Merged<'a> {
    ids: &'a [RecordId],
    /// The next one of the block.
    entry: Option<Entry>,
    packed: Option<Cursor<'a>>,
    records: &'a Records,
}

impl Iterator for Merged<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let slab = self.ids.split_first();
        if let Some(entry) = self.entry
            && slab.is_none_or(|(&id, _)| entry.revision < self.records.get(id).revision())
        {
            self.entry = self.packed.as_mut().and_then(Iterator::next);
            return Some(Item::Packed(entry));
        }
        let (&id, rest) = slab?;
        self.ids = rest;
        Some(Item::Slab(id))
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Timeline {
    chunks: Vec<Chunk>,
    last: Option<Revision>,
    /// Records per chunk.
    chunk_records: usize,
}

impl Timeline {
    /// An empty timeline with so many records per chunk: removal moves 4 bytes
    /// for each, a block is written in one go.
    pub(super) fn new(chunk_records: usize) -> Self {
        assert!(chunk_records > 0, "a chunk has room");
        Timeline {
            chunks: Vec::new(),
            last: None,
            chunk_records,
        }
    }

    /// Appends a record. `garbage_bytes` is what a compaction past it frees.
    pub(super) fn append(&mut self, revision: Revision, id: RecordId, garbage_bytes: u64) {
        assert!(self.last < Some(revision), "revisions only rise");
        self.last = Some(revision);
        match self.chunks.last_mut() {
            Some(chunk) if chunk.packed.is_none() && chunk.ids.len() < self.chunk_records => {
                chunk.ids.push(id);
                chunk.garbage_bytes += garbage_bytes;
            }
            _ => {
                let mut ids = Vec::with_capacity(self.chunk_records);
                ids.push(id);
                self.chunks.push(Chunk {
                    first: revision,
                    ids,
                    packed: None,
                    garbage_bytes,
                });
            }
        }
    }

    /// Takes back the newest record, which was appended with these arguments.
    pub(super) fn retract(&mut self, id: RecordId, garbage_bytes: u64, last: Option<Revision>) {
        let chunk = self.chunks.last_mut().expect("there is a newest record");
        assert_eq!(
            chunk.ids.pop(),
            Some(id),
            "only the newest record can be taken back"
        );
        chunk.garbage_bytes -= garbage_bytes;
        if chunk.length() == 0 {
            self.chunks.pop();
        }
        self.last = last;
    }

    /// The newest revision ever appended.
    pub(super) fn last(&self) -> Option<Revision> {
        self.last
    }

    /// Removes the record of this revision, which is in the slab.
    pub(super) fn remove(&mut self, revision: Revision, id: RecordId) {
        let position = self
            .chunk_of(revision)
            .expect("the record is in the timeline");
        let chunk = &mut self.chunks[position];
        let slot = chunk.ids.iter().position(|&other| other == id);
        chunk.ids.remove(slot.expect("the record is in its chunk"));
        self.tidy(position);
    }

    /// Removes the packed record of this revision and answers it.
    pub(super) fn remove_packed(&mut self, revision: Revision) -> Entry {
        let position = self
            .chunk_of(revision)
            .expect("the record is in the timeline");
        let packed = self.chunks[position].packed.as_mut();
        let block = packed.expect("the record is in its chunk");
        let entry = block.kill(revision);
        if block.live() == 0 {
            self.chunks[position].packed = None;
        } else if block.is_sparse() {
            let alive: Vec<Entry> = block.from(Revision::default()).collect();
            **block = Block::pack(&alive);
        }
        self.tidy(position);
        entry
    }

    /// Drops a chunk that has run empty, merges one that has become small.
    fn tidy(&mut self, position: usize) {
        let chunk = &self.chunks[position];
        let length = chunk.length();
        if position + 1 == self.chunks.len() {
            return;
        }
        if length == 0 {
            self.chunks.remove(position);
        } else if length < self.chunk_records / 4
            && position + 2 < self.chunks.len()
            && chunk.packed.is_none()
            && self.chunks[position + 1].packed.is_none()
            && length + self.chunks[position + 1].ids.len() <= self.chunk_records / 2
        {
            let next = self.chunks.remove(position + 1);
            let chunk = &mut self.chunks[position];
            chunk.ids.extend_from_slice(&next.ids);
            chunk.garbage_bytes += next.garbage_bytes;
        }
    }

    /// Records from this revision (inclusive) on, in order.
    pub(super) fn from<'a>(
        &'a self,
        revision: Revision,
        records: &'a Records,
    ) -> impl Iterator<Item = Item> + 'a {
        let position = self.chunk_of(revision).unwrap_or(0);
        let head = self.chunks.get(position).into_iter();
        let head = head.flat_map(move |chunk| chunk.from(revision, records));
        let tail = self.chunks.iter().skip(position + 1);
        let tail = tail.flat_map(move |chunk| chunk.from(Revision::default(), records));
        head.chain(tail)
    }

    /// The record of exactly this revision, if it is in the slab.
    pub(super) fn find(&self, revision: Revision, records: &Records) -> Option<RecordId> {
        let chunk = self.chunks.get(self.chunk_of(revision)?)?;
        let found = chunk
            .ids
            .binary_search_by_key(&revision, |&id| records.get(id).revision());
        found.ok().map(|slot| chunk.ids[slot])
    }

    /// The packed record of exactly this revision.
    pub(super) fn find_packed(&self, revision: Revision) -> Option<Entry> {
        let chunk = self.chunks.get(self.chunk_of(revision)?)?;
        chunk.packed.as_ref()?.find(revision)
    }

    /// The chunk that holds this revision or the next one, as the ids in it, and
    /// the start of the chunk behind it. None when it is the last chunk, which
    /// is still written to.
    pub(super) fn chunk_to_pack(&self, from: Revision) -> Option<(&[RecordId], Revision)> {
        let position = self.chunk_of(from).unwrap_or(0);
        let behind = self.chunks.get(position + 1)?;
        Some((&self.chunks[position].ids, behind.first))
    }

    /// Puts records of the chunk that holds `from` into its block in place of
    /// their ids. `left` are the ids that stay, `entries` those that go, in order.
    pub(super) fn pack(&mut self, from: Revision, left: Vec<RecordId>, entries: &[Entry]) {
        let position = self.chunk_of(from).unwrap_or(0);
        let chunk = &mut self.chunks[position];
        let before = chunk.length();
        let mut all: Vec<Entry> = match &chunk.packed {
            Some(block) => block.from(Revision::default()).collect(),
            None => Vec::new(),
        };
        all.extend_from_slice(entries);
        all.sort_by_key(|entry| entry.revision);
        let first = all.first().expect("something is packed");
        assert!(chunk.first <= first.revision, "it belongs to the chunk");
        chunk.packed = Some(Box::new(Block::pack(&all)));
        chunk.ids = left;
        chunk.ids.shrink_to_fit();
        assert_eq!(chunk.length(), before, "packing loses no record");
    }

    /// Sums what compaction frees over the records with `after < main <= upto`:
    /// whole chunks by their sum, records of the chunks at the borders by `each`.
    pub(super) fn garbage_bytes(
        &self,
        after: i64,
        upto: i64,
        records: &Records,
        each: impl Fn(Item) -> u64,
    ) -> u64 {
        let mut sum = 0;
        let start = self.chunk_of(Revision::new(after, u32::MAX)).unwrap_or(0);
        for (position, chunk) in self.chunks.iter().enumerate().skip(start) {
            if chunk.first.main > upto {
                break;
            }
            let next = self.chunks.get(position + 1);
            // The records of a chunk lie below the first of the next one.
            if chunk.first.main > after && next.is_some_and(|next| next.first.main <= upto) {
                sum += chunk.garbage_bytes;
                continue;
            }
            for item in chunk.from(Revision::default(), records) {
                let main = item.revision(records).main;
                if main > after && main <= upto {
                    sum += each(item);
                }
            }
        }
        sum
    }

    /// The chunk that holds this revision if any does.
    fn chunk_of(&self, revision: Revision) -> Option<usize> {
        self.chunks
            .partition_point(|chunk| chunk.first <= revision)
            .checked_sub(1)
    }
}
