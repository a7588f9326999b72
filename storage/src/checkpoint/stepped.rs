//! A model store whose every step can be the last one of the process: each run is cut into
//! parts, and a [`StepGate`] is asked before each. For the simulation and for tests that
//! take runs apart.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fatal;
use crate::types::{RecordMeta, Revision};

use super::model::{ModelDisk, ModelStore};
use super::store::{CheckpointStore, ColdReader, ValueVisitor};

/// What a store is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreStep {
    /// Write or remove a part of a run.
    Change,
    /// Make everything before durable.
    Sync,
}

/// Says before each step whether the process lives on.
pub trait StepGate: Debug + Send {
    /// Called before the step.
    ///
    /// # Errors
    /// What ends the process there.
    fn step(&self, step: StoreStep) -> Result<(), Fatal>;
}

/// See the head of the file.
#[derive(Debug)]
pub struct SteppedStore<G> {
    gate: G,
    part_records: usize,
    inner: ModelStore,
}

impl<G: StepGate> SteppedStore<G> {
    /// Opens the store on a disk; a run goes there in parts of so many records.
    #[must_use]
    pub fn open(disk: &ModelDisk, part_records: usize, gate: G) -> Self {
        SteppedStore {
            gate,
            part_records,
            inner: ModelStore::open(disk),
        }
    }

    fn in_parts<T>(
        &mut self,
        run: &[T],
        mut change: impl FnMut(&mut ModelStore, &[T]) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        for part in run.chunks(self.part_records) {
            self.gate.step(StoreStep::Change)?;
            change(&mut self.inner, part)?;
        }
        Ok(())
    }
}

impl<G: StepGate> CheckpointStore for SteppedStore<G> {
    fn ingest_index(
        &mut self,
        records: &[Arc<RecordMeta>],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.in_parts(records, |inner, part| inner.ingest_index(part, between))
    }

    fn ingest_values(
        &mut self,
        values: &[(Revision, Bytes)],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.in_parts(values, |inner, part| inner.ingest_values(part, between))
    }

    fn remove_index(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.in_parts(revisions, |inner, part| inner.remove_index(part, between))
    }

    fn remove_values(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.in_parts(revisions, |inner, part| inner.remove_values(part, between))
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        self.gate.step(StoreStep::Sync)?;
        self.inner.sync()
    }

    fn visit_index(
        &self,
        visit: &mut dyn FnMut(RecordMeta) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        self.inner.visit_index(visit)
    }

    fn visit_values(&self, visit: &mut ValueVisitor<'_>) -> Result<(), Fatal> {
        self.inner.visit_values(visit)
    }

    fn reader(&self) -> ColdReader {
        self.inner.reader()
    }

    fn path(&self) -> PathBuf {
        self.inner.path()
    }
}
