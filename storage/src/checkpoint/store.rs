//! What a checkpoint needs from the store beneath it: [`CheckpointStore`] (the
//! writing end, one owner, the checkpoint worker) and [`ColdReader`] (the
//! reading end, shared by all who fetch values).
//!
//! Promises of every implementation:
//! * a key is a revision and is written once; writing it again with what it
//!   held is allowed (a checkpoint repeated after a crash) and the newest
//!   content counts;
//! * what was ingested or removed before a [`CheckpointStore::sync`] that
//!   returned survives a power cut; of what came after, any subset may survive;
//! * removing what is not there is no error.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fatal;
use crate::types::{Place, RecordMeta, Revision};

/// Most records in one sorted run. A run is written and synced as a whole, so
/// this bounds how long one keeps the disk busy (a burst lengthens the log's
/// flushes, rust-stack 9): some 0.5 MiB of index records.
pub const INGESTION_RECORDS_MAX: usize = 4096;

/// Most bytes of cold values in one sorted run, for the same reason; a run
/// holds at least one value.
pub const INGESTION_BYTES_MAX: usize = 1 << 20;

/// Sees one cold value after the other; its error ends the visit.
pub type ValueVisitor<'a> = dyn FnMut(Revision, &[u8]) -> Result<(), Fatal> + 'a;

/// The writing end of a checkpoint store.
pub trait CheckpointStore: Debug + Send {
    /// Ingests index records, in strictly ascending order of revision, in runs
    /// of at most [`INGESTION_RECORDS_MAX`]. `between` is called after each run
    /// (the caller paces there).
    ///
    /// # Errors
    /// `Fatal`: what the store holds beyond the manifest is undefined then.
    fn ingest_index(
        &mut self,
        records: &[Arc<RecordMeta>],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal>;

    /// Ingests cold values, in strictly ascending order of revision, in runs of
    /// at most [`INGESTION_BYTES_MAX`].
    ///
    /// # Errors
    /// As [`CheckpointStore::ingest_index`].
    fn ingest_values(
        &mut self,
        values: &[(Revision, Bytes)],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal>;

    /// Removes the index records of these revisions, given in strictly
    /// ascending order, in runs of at most [`INGESTION_RECORDS_MAX`].
    ///
    /// # Errors
    /// As [`CheckpointStore::ingest_index`].
    fn remove_index(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal>;

    /// Removes the cold values of these revisions, likewise.
    ///
    /// # Errors
    /// As [`CheckpointStore::ingest_index`].
    fn remove_values(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal>;

    /// Makes everything before durable, and reports a failure in the
    /// background.
    ///
    /// # Errors
    /// `Fatal`; never retried.
    fn sync(&mut self) -> Result<(), Fatal>;

    /// Visits every index record in ascending order, each checked against its
    /// CRC. Ends early with the visitor's error.
    ///
    /// # Errors
    /// `Corruption` for a record that fails its check, I/O errors, and what the
    /// visitor gives.
    fn visit_index(
        &self,
        visit: &mut dyn FnMut(RecordMeta) -> Result<(), Fatal>,
    ) -> Result<(), Fatal>;

    /// Visits every cold value in ascending order, each checked against its CRC.
    ///
    /// # Errors
    /// As [`CheckpointStore::visit_index`].
    fn visit_values(&self, visit: &mut ValueVisitor<'_>) -> Result<(), Fatal>;

    /// The reading end.
    fn reader(&self) -> ColdReader;

    /// Where the store lies, for errors and reports.
    fn path(&self) -> PathBuf;
}

/// Reads cold values, from any thread.
#[derive(Clone, Debug)]
pub struct ColdReader {
    source: Arc<dyn ColdSource>,
}

/// What an implementation of the store gives to its readers.
pub(crate) trait ColdSource: Debug + Send + Sync {
    /// The value under this revision, checked against its CRC.
    fn read_value(&self, revision: Revision) -> Result<Option<Bytes>, Fatal>;
    /// Reads all that the store holds back from the disk and compares checksums. `pace`
    /// hears of bytes that were read and may wait.
    fn scrub(&self, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal>;
    /// The index records as they are now, ascending, whatever changes meanwhile.
    fn index(&self) -> IndexRecords;
    /// Where the store lies.
    fn path(&self) -> PathBuf;
}

/// Index records of one moment, each checked against its CRC.
pub(crate) type IndexRecords = Box<dyn Iterator<Item = Result<RecordMeta, Fatal>>>;

impl ColdReader {
    pub(crate) fn new(source: Arc<dyn ColdSource>) -> Self {
        ColdReader { source }
    }

    /// The cold value of a record, checked; None when the store has none: the
    /// value is still in the log, or compaction dropped it since the caller
    /// learned of it.
    ///
    /// # Errors
    /// `Corruption` for a value that fails its check, and I/O errors.
    pub fn read_value(&self, revision: Revision) -> Result<Option<Bytes>, Fatal> {
        self.source.read_value(revision)
    }

    pub(crate) fn index(&self) -> IndexRecords {
        self.source.index()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.source.path()
    }

    pub(crate) fn scrub(&self, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        self.source.scrub(pace)
    }

    /// The cold value of a retained record whose segment is gone, checked
    /// against the store's CRC, the record's length and the record's CRC.
    ///
    /// # Errors
    /// `Corruption` when it is not there or not what was written.
    pub fn read_retained(&self, revision: Revision, place: Place) -> Result<Bytes, Fatal> {
        if place.length == 0 {
            return Ok(Bytes::new());
        }
        self.find(revision, place)?.ok_or_else(|| {
            let detail = format!("the cold value of revision {revision:?} is missing");
            Fatal::corruption(self.source.path(), 0, detail)
        })
    }

    /// The cold value of a record, checked likewise; None when there is none: compaction
    /// dropped it since the caller learned of the record.
    ///
    /// # Errors
    /// `Corruption` when it is not what was written.
    pub fn find(&self, revision: Revision, place: Place) -> Result<Option<Bytes>, Fatal> {
        let Some(value) = self.source.read_value(revision)? else {
            return Ok(None);
        };
        if let Err(detail) = check_value(revision, place, &value) {
            return Err(Fatal::corruption(self.source.path(), 0, detail));
        }
        Ok(Some(value))
    }
}

/// Compares a value with what its record says of it.
pub(crate) fn check_value(revision: Revision, place: Place, value: &[u8]) -> Result<(), String> {
    if value.len() as u64 != u64::from(place.length) {
        let detail = format!(
            "the value of revision {revision:?} has {} bytes, its record says {}",
            value.len(),
            place.length
        );
        return Err(detail);
    }
    let computed = crc32fast::hash(value);
    if computed != place.crc {
        let detail = format!(
            "the value of revision {revision:?} has the CRC {computed:#010x}, its record \
             says {:#010x}",
            place.crc
        );
        return Err(detail);
    }
    Ok(())
}

/// Cuts values into runs of at most [`INGESTION_BYTES_MAX`] and
/// [`INGESTION_RECORDS_MAX`], each of at least one value.
pub(crate) fn value_runs(
    values: &[(Revision, Bytes)],
) -> impl Iterator<Item = &[(Revision, Bytes)]> {
    let mut rest = values;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest
            .iter()
            .take(INGESTION_RECORDS_MAX)
            .take_while(|(_, value)| {
                bytes += value.len();
                bytes <= INGESTION_BYTES_MAX
            });
        let length = fits.count().max(1).min(rest.len());
        let (run, tail) = rest.split_at_checked(length)?;
        rest = tail;
        (!run.is_empty()).then_some(run)
    })
}

/// Panics unless the revisions ascend strictly: the runs of a sorted ingestion
/// would otherwise be torn apart in the middle.
pub(crate) fn assert_ascending(mut revisions: impl Iterator<Item = Revision>) {
    let Some(mut last) = revisions.next() else {
        return;
    };
    for revision in revisions {
        assert!(last < revision, "{revision:?} is ingested after {last:?}");
        last = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(lengths: &[usize]) -> Vec<(Revision, Bytes)> {
        (2..)
            .zip(lengths)
            .map(|(main, length)| (Revision::new(main, 0), Bytes::from(vec![7; *length])))
            .collect()
    }

    #[test]
    fn runs_keep_order_and_stay_below_the_limits() {
        let half = INGESTION_BYTES_MAX / 2;
        let all = values(&[half, half, 1, INGESTION_BYTES_MAX + 1, 1, 0]);
        let runs: Vec<usize> = value_runs(&all).map(<[_]>::len).collect();
        assert_eq!(runs, [2, 1, 1, 2]);
        assert_eq!(value_runs(&[]).count(), 0);
        let many = values(&[0; INGESTION_RECORDS_MAX + 1]);
        let runs: Vec<usize> = value_runs(&many).map(<[_]>::len).collect();
        assert_eq!(runs, [INGESTION_RECORDS_MAX, 1]);
    }

    #[test]
    #[should_panic(expected = "is ingested after")]
    fn the_same_revision_twice_in_one_run_is_a_broken_invariant() {
        assert_ascending([Revision::new(2, 0), Revision::new(2, 0)].into_iter());
    }
}
