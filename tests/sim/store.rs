//! The checkpoint store under faults: a model of fjall's promises whose every
//! step can be the last one of the process.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use storage::checkpoint::{CheckpointStore, ColdReader, ModelDisk, ModelStore, ValueVisitor};
use storage::error::Fatal;
use storage::types::{RecordMeta, Revision};

/// What will go wrong in the store; shared with whoever plans it.
#[derive(Clone, Debug, Default)]
pub struct StoreFault {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    steps_left: Option<u64>,
    syncs_left: Option<u64>,
    full: bool,
    struck: bool,
}

impl StoreFault {
    /// The process ends after so many more steps.
    pub fn stop_after(&self, steps: u64) {
        self.state.lock().unwrap().steps_left = Some(steps);
    }

    /// A sync fails after so many good ones.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state.lock().unwrap().syncs_left = Some(syncs);
    }

    /// There is no room for anything more.
    pub fn fill_up(&self) {
        self.state.lock().unwrap().full = true;
    }

    pub fn struck(&self) -> bool {
        self.state.lock().unwrap().struck
    }

    pub fn clear(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    fn step(&self, sync: bool) -> Result<(), Fatal> {
        let mut state = self.state.lock().unwrap();
        if state.full {
            state.struck = true;
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Fatal::io("change", "model-of-the-checkpoint-store", error));
        }
        let State {
            steps_left,
            syncs_left,
            struck,
            ..
        } = &mut *state;
        let counters = [Some(steps_left), Some(syncs_left).filter(|_| sync)];
        for left in counters.into_iter().flatten().flat_map(Option::as_mut) {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => *struck = true,
            }
        }
        if *struck {
            let error = std::io::Error::other("injected failure");
            return Err(Fatal::io("change", "model-of-the-checkpoint-store", error));
        }
        Ok(())
    }
}

/// A model store whose every step asks the plan first.
#[derive(Debug)]
pub struct FaultyStore {
    fault: StoreFault,
    inner: ModelStore,
}

impl FaultyStore {
    pub fn open(disk: &ModelDisk, fault: &StoreFault) -> FaultyStore {
        FaultyStore {
            fault: fault.clone(),
            inner: ModelStore::open(disk),
        }
    }
}

/// Records that go to the store in one step: a run may be cut within.
const STEP_RECORDS: usize = 3;

impl CheckpointStore for FaultyStore {
    fn ingest_index(
        &mut self,
        records: &[Arc<RecordMeta>],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        for part in records.chunks(STEP_RECORDS) {
            self.fault.step(false)?;
            self.inner.ingest_index(part, between)?;
        }
        Ok(())
    }

    fn ingest_values(
        &mut self,
        values: &[(Revision, Bytes)],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        for part in values.chunks(STEP_RECORDS) {
            self.fault.step(false)?;
            self.inner.ingest_values(part, between)?;
        }
        Ok(())
    }

    fn remove_index(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        for part in revisions.chunks(STEP_RECORDS) {
            self.fault.step(false)?;
            self.inner.remove_index(part, between)?;
        }
        Ok(())
    }

    fn remove_values(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        for part in revisions.chunks(STEP_RECORDS) {
            self.fault.step(false)?;
            self.inner.remove_values(part, between)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        self.fault.step(true)?;
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
