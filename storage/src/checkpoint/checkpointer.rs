//! [`Checkpointer`]: makes one checkpoint after the other, in the only right
//! order of steps. A plain object, used on one worker thread; it owns the
//! writing end of the store and the last published manifest.
//!
//! The order, and why (docs/format.md, "Order of a checkpoint"):
//! 1. finish the removals that the last manifest announced: from the next
//!    publication on nothing would tell that those records are no state;
//! 2. ingest index records and cold values, sync: the manifest may only name
//!    what is durable;
//! 3. publish the manifest: the commit point;
//! 4. remove what it announced, sync. A crash before or within this step
//!    leaves records that the manifest declares void, and step 1 of the next
//!    checkpoint removes them.
//!
//! Invariants: the digests of a manifest describe exactly what a load of it
//! gives; a record that a durable manifest needs is never removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fatal;
use crate::planted::{Bug, planted};
use crate::types::{LogIndex, Place, RecordMeta, Revision};
use crate::vfs::Vfs;

use super::load::Leftovers;
use super::manifest::Manifest;
use super::scrub::StoreScrub;
use super::store::{self, CheckpointStore, ColdReader};

/// Most bytes of values that one call of [`Checkpointer::ingest_values`] should
/// carry; the caller cuts the survivors of a segment accordingly.
pub const MOVED_BYTES_MAX: usize = 4 << 20;

/// One value that leaves its segment for the cold store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdValue {
    /// The record it belongs to.
    pub revision: Revision,
    /// Where it lay.
    pub place: Place,
    /// Its bytes, checked against `place`.
    pub value: Bytes,
}

/// What one checkpoint has to make durable: the state at one applied index.
///
/// `records` and `removed` are collected by the owner of the MVCC at one
/// moment, or over several turns in which no physical compaction runs, so that
/// both describe the same set of records.
#[derive(Clone, Debug)]
pub struct CheckpointJob {
    /// Every record now retained whose revision lies above the last manifest's
    /// bound and not above this one's, ascending.
    pub records: Vec<Arc<RecordMeta>>,
    /// Every record that compaction dropped since the last job was collected,
    /// in any order, with the place it had.
    pub removed: Vec<(Revision, Place)>,
    /// The state to publish. `sequence`, `index`, `cold` and `removed` are set
    /// by the checkpointer. Every retained value whose segment is not in
    /// `segments`, though the last manifest still listed it or did not know the
    /// record, must have gone through [`Checkpointer::ingest_values`] since this
    /// process started. Listing a segment that an earlier manifest left out
    /// changes nothing.
    pub manifest: Manifest,
}

/// What is durable after a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Number of the manifest.
    pub sequence: u64,
    /// Entries up to here are never needed for replay again.
    pub applied_index: LogIndex,
    /// Last record that is in the index checkpoint.
    pub bound: Revision,
}

/// Makes checkpoints. See the module's documentation.
#[derive(Debug)]
pub struct Checkpointer {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    store: Box<dyn CheckpointStore>,
    /// Invariant: durable.
    published: Manifest,
    /// What the store holds beyond `published`; gone after the first step of
    /// the next checkpoint.
    leftovers: Leftovers,
    /// Values ingested that no manifest counts yet, by revision. Bounded by the
    /// records of the segments that are being cleaned. Invariant: durable in
    /// the store before a manifest counts them.
    moved: BTreeMap<Revision, Place>,
    /// What the load itself dropped, because the compaction that the manifest
    /// names had not been carried out yet; the next job removes it.
    carried: Vec<(Revision, Place)>,
}

impl Checkpointer {
    /// Takes over the store after a load: `published` is what was loaded,
    /// `leftovers` what [`super::load()`] reported, `dropped` what the MVCC
    /// purged while it finished the load. For a directory without a manifest:
    /// `Manifest::empty` and nothing.
    #[must_use]
    pub fn new(
        vfs: Arc<dyn Vfs>,
        directory: &Path,
        store: Box<dyn CheckpointStore>,
        published: Manifest,
        leftovers: Leftovers,
        dropped: Vec<(Revision, Place)>,
    ) -> Self {
        Checkpointer {
            vfs,
            directory: directory.to_owned(),
            store,
            published,
            leftovers,
            moved: BTreeMap::new(),
            carried: dropped,
        }
    }

    /// The last published manifest.
    #[must_use]
    pub fn published(&self) -> &Manifest {
        &self.published
    }

    /// The reading end of the store.
    #[must_use]
    pub fn reader(&self) -> ColdReader {
        self.store.reader()
    }

    /// Reads what is published back, from another thread.
    #[must_use]
    pub fn scrub(&self) -> StoreScrub {
        let vfs = Arc::clone(&self.vfs);
        StoreScrub::new(vfs, self.directory.clone(), self.store.reader())
    }

    /// Writes values into the cold store, ascending by revision: survivors of a
    /// segment that is to be retired, and values that a new record took over
    /// from one whose segment is gone (`ignore_value`). They count once a job
    /// leaves out their segment; until then nothing depends on them, and a
    /// crash merely means to move them again.
    ///
    /// # Errors
    /// `Fatal`.
    ///
    /// # Panics
    /// When a value is not what its place says: it would be found corrupt
    /// after its segment is gone.
    pub fn ingest_values(
        &mut self,
        values: &[ColdValue],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        let mut run = Vec::with_capacity(values.len());
        for cold in values {
            let checked = store::check_value(cold.revision, cold.place, &cold.value);
            assert!(checked.is_ok(), "a wrong value goes cold: {checked:?}");
            if cold.place.length > 0 {
                let wrong = values.first().filter(|_| planted(Bug::ColdValueOfAnother));
                run.push((cold.revision, wrong.unwrap_or(cold).value.clone()));
            }
        }
        self.store.ingest_values(&run, between)?;
        for cold in values.iter().filter(|cold| cold.place.length > 0) {
            self.moved.insert(cold.revision, cold.place);
        }
        Ok(())
    }

    /// Makes one checkpoint. When it returns, the job's manifest is durable and
    /// the caller may release log entries up to its applied index and retire
    /// the segments that it leaves out. `between` is called between sorted
    /// runs; the caller may wait there, so that the log's flushes get their turn.
    ///
    /// # Errors
    /// `Fatal` ends the process: what is durable then is the former manifest or
    /// this one, as a whole.
    ///
    /// # Panics
    /// When the job contradicts the last manifest.
    pub fn perform(
        &mut self,
        job: CheckpointJob,
        between: &mut dyn FnMut(),
    ) -> Result<Published, Fatal> {
        self.assert_follows(&job);
        self.clear_leftovers(between)?;
        let (manifest, cleared) = self.next_manifest(&job);
        self.store.ingest_index(&job.records, between)?;
        if !planted(Bug::ManifestBeforeRun) {
            self.store.sync()?;
        }
        manifest.publish(&*self.vfs, &self.directory)?;
        let stays: BTreeSet<_> = manifest.segments.iter().copied().collect();
        self.moved
            .retain(|revision, place| *revision > manifest.bound || stays.contains(&place.segment));
        self.carried.clear();
        self.published = manifest;
        self.leftovers = cleared;
        self.clear_leftovers(between)?;
        Ok(Published {
            sequence: self.published.sequence,
            applied_index: self.published.applied_index,
            bound: self.published.bound,
        })
    }

    /// Removes what the published manifest declares void or does not know.
    fn clear_leftovers(&mut self, between: &mut dyn FnMut()) -> Result<(), Fatal> {
        if self.leftovers.is_empty() {
            return Ok(());
        }
        self.store.remove_index(&self.leftovers.index, between)?;
        self.store.remove_values(&self.leftovers.cold, between)?;
        self.store.sync()?;
        self.leftovers = Leftovers::default();
        Ok(())
    }

    /// The job's manifest with what only the checkpointer knows, and what is to
    /// be removed once it is durable.
    fn next_manifest(&mut self, job: &CheckpointJob) -> (Manifest, Leftovers) {
        let before = &self.published;
        let kept: BTreeSet<_> = before.segments.iter().copied().collect();
        let mut manifest = job.manifest.clone();
        manifest.sequence = before.sequence + 1;
        // The file of a segment that went cold may lie there until it is
        // recycled; a start finds it again. Its values stay cold all the same.
        manifest
            .segments
            .retain(|segment| !before.left_out(*segment));
        (manifest.index, manifest.cold) = (before.index, before.cold);
        let mut leftovers = Leftovers::default();
        for (revision, place) in self.carried.iter().chain(&job.removed) {
            let was_moved = self.moved.remove(revision).is_some();
            // A record above the former bound was never part of a checkpoint.
            let was_published = *revision <= before.bound;
            let was_cold = was_published && place.length > 0 && !kept.contains(&place.segment);
            if was_published {
                manifest.index.remove(*revision, *place);
                leftovers.index.push(*revision);
            }
            if was_cold {
                manifest.cold.remove(*revision, *place);
            }
            if was_moved || was_cold {
                leftovers.cold.push(*revision);
            }
        }
        let stays: BTreeSet<_> = manifest.segments.iter().copied().collect();
        for record in &job.records {
            let (revision, place) = (record.revision, record.place);
            manifest.index.add(revision, place);
            assert!(
                place.length == 0
                    || stays.contains(&place.segment)
                    || self.moved.contains_key(&revision),
                "the value of {revision:?} is neither in the log nor in the cold store"
            );
        }
        for (revision, place) in self.moved.range(..=manifest.bound) {
            let counted = *revision <= before.bound && !kept.contains(&place.segment);
            if !counted && !stays.contains(&place.segment) {
                manifest.cold.add(*revision, *place);
            }
        }
        leftovers.index.sort_unstable();
        leftovers.cold.sort_unstable();
        manifest.removed.clone_from(&leftovers.index);
        (manifest, leftovers)
    }

    fn assert_follows(&self, job: &CheckpointJob) {
        let (before, next) = (&self.published, &job.manifest);
        assert_eq!(before.identity, next.identity, "another member's manifest");
        assert!(
            before.applied_index <= next.applied_index
                && before.bound <= next.bound
                && before.current_revision <= next.current_revision
                && before.compacted_revision <= next.compacted_revision,
            "a checkpoint goes back: {before:?} then {next:?}"
        );
        assert!(
            before.segments.last() <= next.segments.last(),
            "the newest segment, which is being written, is always listed"
        );
        store::assert_ascending(job.records.iter().map(|record| record.revision));
        let first = job.records.first().map(|record| record.revision);
        let last = job.records.last().map(|record| record.revision);
        assert!(
            first.is_none_or(|first| first > before.bound)
                && last.is_none_or(|last| last <= next.bound),
            "records from {first:?} to {last:?} do not lie between the bounds {:?} and {:?}",
            before.bound,
            next.bound
        );
    }
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod tests;
