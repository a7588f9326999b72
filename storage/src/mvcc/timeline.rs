//! The timeline: the ids of all records by (main, sub), in chunks.
//!
//! Appending is O(1). Removing costs a search for the chunk and a move within
//! it. Chunks that run empty are dropped and small neighbours are merged.
//! Invariant: `first` of a chunk is at or below all its revisions and above
//! all of the chunk before it.
//!
//! Each chunk also sums what compaction past its records frees, so that a
//! logical compaction knows the bytes it makes garbage without visiting them.
//! Old chunks could be packed (differences of ids, 2 bytes each) if 4 bytes per
//! record ever matter.

#![expect(
    clippy::indexing_slicing,
    reason = "positions come from binary searches in the vectors"
)]

use super::records::{RecordId, Records};
use crate::types::Revision;

/// Ids per chunk: removal moves at most 2 KiB.
const CHUNK_IDS: usize = 512;

#[derive(Debug)]
struct Chunk {
    first: Revision,
    ids: Vec<RecordId>,
    /// Sum of what was given to `append` for these records, bytes.
    garbage_bytes: u64,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    chunks: Vec<Chunk>,
    last: Option<Revision>,
}

impl Timeline {
    /// Appends a record. `garbage_bytes` is what a compaction past it frees.
    pub(super) fn append(&mut self, revision: Revision, id: RecordId, garbage_bytes: u64) {
        assert!(self.last < Some(revision), "revisions only rise");
        self.last = Some(revision);
        match self.chunks.last_mut() {
            Some(chunk) if chunk.ids.len() < CHUNK_IDS => {
                chunk.ids.push(id);
                chunk.garbage_bytes += garbage_bytes;
            }
            _ => {
                let mut ids = Vec::with_capacity(CHUNK_IDS);
                ids.push(id);
                self.chunks.push(Chunk {
                    first: revision,
                    ids,
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
        if chunk.ids.is_empty() {
            self.chunks.pop();
        }
        self.last = last;
    }

    /// The newest revision ever appended.
    pub(super) fn last(&self) -> Option<Revision> {
        self.last
    }

    /// Removes the record of this revision.
    pub(super) fn remove(&mut self, revision: Revision, id: RecordId) {
        let position = self
            .chunk_of(revision)
            .expect("the record is in the timeline");
        let chunk = &mut self.chunks[position];
        let slot = chunk.ids.iter().position(|&other| other == id);
        chunk.ids.remove(slot.expect("the record is in its chunk"));
        let length = chunk.ids.len();
        if position + 1 == self.chunks.len() {
            return;
        }
        if length == 0 {
            self.chunks.remove(position);
        } else if length < CHUNK_IDS / 4
            && position + 2 < self.chunks.len()
            && length + self.chunks[position + 1].ids.len() <= CHUNK_IDS / 2
        {
            let next = self.chunks.remove(position + 1);
            let chunk = &mut self.chunks[position];
            chunk.ids.extend_from_slice(&next.ids);
            chunk.garbage_bytes += next.garbage_bytes;
        }
    }

    /// Ids from this revision (inclusive) on, in order.
    pub(super) fn from<'a>(
        &'a self,
        revision: Revision,
        records: &'a Records,
    ) -> impl Iterator<Item = RecordId> + 'a {
        let position = self.chunk_of(revision).unwrap_or(0);
        let slot = self.chunks.get(position).map_or(0, |chunk| {
            chunk
                .ids
                .partition_point(|&id| records.get(id).revision() < revision)
        });
        let head = self
            .chunks
            .get(position)
            .map_or([].as_ref(), |chunk| &chunk.ids[slot..]);
        let tail = self
            .chunks
            .iter()
            .skip(position + 1)
            .flat_map(|chunk| chunk.ids.iter());
        head.iter().chain(tail).copied()
    }

    /// The record of exactly this revision.
    pub(super) fn find(&self, revision: Revision, records: &Records) -> Option<RecordId> {
        self.from(revision, records)
            .next()
            .filter(|&id| records.get(id).revision() == revision)
    }

    /// Sums what compaction frees over the records with `after < main <= upto`:
    /// whole chunks by their sum, records of the chunks at the borders by `each`.
    pub(super) fn garbage_bytes(
        &self,
        after: i64,
        upto: i64,
        records: &Records,
        each: impl Fn(RecordId) -> u64,
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
            for &id in &chunk.ids {
                let main = records.get(id).main();
                if main > after && main <= upto {
                    sum += each(id);
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
