//! The past by revision: events for watchers that catch up, records for
//! checkpoints and snapshots.

use std::sync::Arc;

use super::Mvcc;
use super::compaction::after;
use super::found::Found;
use crate::error::Refusal;
use crate::types::{KeyValueRef, RecordMeta, Revision, RevisionEvents};

/// A stored record as checkpoint and snapshot see it.
#[derive(Clone, Debug)]
pub struct RecordView {
    /// All but the value.
    pub meta: Arc<RecordMeta>,
    /// The *stored* form: a tombstone is its key alone.
    pub key_value: KeyValueRef,
    /// True when the record is compacted and only waits for the purge.
    pub compacted: bool,
}

impl Mvcc {
    /// Whole revisions from main revision `from` on, with predecessors. No
    /// revision is begun once `events_max` events are there, so an answer is
    /// longer only by what its last revision has. Empty: nothing at or after
    /// `from`. Below the compacted revision: refused; at it, fine (contract 1.9).
    pub fn history_slice(
        &self,
        from: i64,
        events_max: usize,
    ) -> Result<Vec<RevisionEvents>, Refusal> {
        if from < self.compacted {
            return Err(Refusal::Compacted);
        }
        let mut revisions: Vec<RevisionEvents> = Vec::new();
        let mut count = 0;
        for record in self.walk(Revision::new(from, 0)) {
            let main = record.main();
            // What is compacted must look the same however far the purge is.
            if main > self.current || self.is_compacted(&record) {
                continue;
            }
            match revisions.last_mut() {
                Some(last) if last.revision == main => last.events.push(self.event(&record)),
                _ if count >= events_max => break,
                _ => revisions.push(RevisionEvents {
                    revision: main,
                    events: vec![self.event(&record)],
                }),
            }
            count += 1;
        }
        Ok(revisions)
    }

    /// At most `limit` unreclaimed records after this revision, in order.
    #[must_use]
    pub fn records_slice(&self, after_revision: Revision, limit: usize) -> Vec<RecordView> {
        self.records_slice_as_of(after_revision, limit, self.compacted)
    }

    /// As [`records_slice`](Self::records_slice), with `compacted` told as of a
    /// compaction at that revision: a reader that holds it pinned sees the same
    /// records in every pass, whatever is compacted meanwhile.
    #[must_use]
    pub fn records_slice_as_of(
        &self,
        after_revision: Revision,
        limit: usize,
        compacted: i64,
    ) -> Vec<RecordView> {
        let records = self.walk(after(after_revision)).take(limit);
        let view = |record: Found<'_>| RecordView {
            meta: Arc::new(record.meta()),
            key_value: record.key_value(),
            compacted: self.is_garbage_at(&record, compacted),
        };
        records.map(view).collect()
    }

    /// True when a purge of all that is compacted drops this record.
    fn is_compacted(&self, record: &Found<'_>) -> bool {
        self.is_garbage_at(record, self.compacted)
    }

    /// True when a compaction at `compacted` drops this record.
    pub(super) fn is_garbage_at(&self, record: &Found<'_>, compacted: i64) -> bool {
        if record.tombstone {
            return record.main() < compacted;
        }
        let superseded = self.superseded_at(record);
        superseded.is_some_and(|superseded| superseded <= compacted)
    }
}
