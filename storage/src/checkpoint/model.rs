//! A checkpoint store in memory, for the simulation: the promises of
//! [`CheckpointStore`] and nothing more. A [`ModelDisk`] outlives the
//! [`ModelStore`]s opened on it, as a disk outlives processes; a power cut
//! keeps what was synced and, of the rest, whatever the caller's dice say.
//!
//! Invariant: what readers see (`seen`) is `durable` plus `pending`, in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::Fatal;
use crate::types::{RecordMeta, Revision};

use super::codec::Malformed;
use super::record;
use super::store::{self, CheckpointStore, ColdReader, ColdSource, IndexRecords, ValueVisitor};

/// The two families of records of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Index records.
    Index,
    /// Cold values.
    Cold,
}

type Content = BTreeMap<(Family, Revision), Vec<u8>>;

/// One record put (bytes) or removed (none).
type Change = ((Family, Revision), Option<Vec<u8>>);

/// The simulated disk beneath model stores. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct ModelDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    durable: Content,
    seen: Content,
    /// Changes since the last sync, in order.
    pending: Vec<Change>,
    /// Number of syncs left before one fails; None never fails.
    syncs_until_failure: Option<u64>,
    syncs: u64,
}

impl ModelDisk {
    /// Cuts the power: of the changes that were not synced, those survive for
    /// which `keep` says so, asked for each in order.
    pub fn power_cut(&self, keep: &mut dyn FnMut() -> bool) {
        let mut state = self.lock();
        for (key, change) in std::mem::take(&mut state.pending) {
            if keep() {
                apply(&mut state.durable, (key, change));
            }
        }
        state.seen = state.durable.clone();
    }

    /// Another disk that is as this one is now.
    #[must_use]
    pub fn fork(&self) -> ModelDisk {
        ModelDisk {
            state: Arc::new(Mutex::new(self.lock().clone())),
        }
    }

    /// This disk becomes as another one is now.
    pub fn become_as(&self, other: &ModelDisk) {
        let state = other.lock().clone();
        *self.lock() = state;
    }

    /// Makes the sync fail that comes after `successes` good ones.
    pub fn fail_sync_after(&self, successes: u64) {
        self.lock().syncs_until_failure = Some(successes);
    }

    /// Number of syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Flips bits of a record that is on disk, as a bad sector would. False when
    /// there is no such byte.
    #[must_use]
    pub fn damage(&self, family: Family, revision: Revision, at: usize, mask: u8) -> bool {
        let mut state = self.lock();
        let State {
            durable,
            seen,
            pending,
            ..
        } = &mut *state;
        if pending.iter().any(|(key, _)| *key == (family, revision)) {
            return false;
        }
        let mut hit = false;
        for content in [durable, seen] {
            let byte = content
                .get_mut(&(family, revision))
                .and_then(|bytes| bytes.get_mut(at));
            if let Some(byte) = byte {
                *byte ^= mask;
                hit = true;
            }
        }
        hit
    }

    /// Loses a record, as a misdirected write would. False when there was none.
    #[must_use]
    pub fn lose(&self, family: Family, revision: Revision) -> bool {
        let mut state = self.lock();
        let key = (family, revision);
        if state.pending.iter().any(|(changed, _)| *changed == key) {
            return false;
        }
        state.seen.remove(&(family, revision));
        state.durable.remove(&(family, revision)).is_some()
    }

    /// The revisions that readers see in one family.
    #[must_use]
    pub fn revisions(&self, family: Family) -> Vec<Revision> {
        let state = self.lock();
        let keys = state.seen.keys();
        keys.filter(|key| key.0 == family)
            .map(|key| key.1)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another test thread leaves whole changes behind: each is
        // made under one lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(content: &mut Content, (key, change): Change) {
    match change {
        Some(bytes) => {
            content.insert(key, bytes);
        }
        None => {
            content.remove(&key);
        }
    }
}

/// A store opened on a [`ModelDisk`].
#[derive(Debug)]
pub struct ModelStore {
    disk: ModelDisk,
}

impl ModelStore {
    /// Opens the store on a disk.
    #[must_use]
    pub fn open(disk: &ModelDisk) -> Self {
        ModelStore { disk: disk.clone() }
    }

    fn change(&self, changes: impl Iterator<Item = Change>) {
        let mut state = self.disk.lock();
        for change in changes {
            apply(&mut state.seen, change.clone());
            state.pending.push(change);
        }
    }

    fn remove(&self, family: Family, revisions: &[Revision], between: &mut dyn FnMut()) {
        store::assert_ascending(revisions.iter().copied());
        for run in revisions.chunks(store::INGESTION_RECORDS_MAX) {
            self.change(run.iter().map(|revision| ((family, *revision), None)));
            between();
        }
    }

    /// A copy of one family, so that no lock is held while a visitor runs.
    fn family(&self, family: Family) -> Vec<(Revision, Vec<u8>)> {
        let state = self.disk.lock();
        let all = state.seen.iter().filter(|(key, _)| key.0 == family);
        all.map(|(key, bytes)| (key.1, bytes.clone())).collect()
    }

    fn index_records(&self) -> impl Iterator<Item = Result<RecordMeta, Fatal>> + use<> {
        let all = self.family(Family::Index).into_iter();
        all.map(|(revision, bytes)| record::decode_index_record(revision, &bytes).map_err(corrupt))
    }
}

impl CheckpointStore for ModelStore {
    fn ingest_index(
        &mut self,
        records: &[Arc<RecordMeta>],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        store::assert_ascending(records.iter().map(|record| record.revision));
        for run in records.chunks(store::INGESTION_RECORDS_MAX) {
            self.change(run.iter().map(|record| {
                let bytes = record::encode_index_record(record);
                ((Family::Index, record.revision), Some(bytes))
            }));
            between();
        }
        Ok(())
    }

    fn ingest_values(
        &mut self,
        values: &[(Revision, Bytes)],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        store::assert_ascending(values.iter().map(|(revision, _)| *revision));
        for run in store::value_runs(values) {
            self.change(run.iter().map(|(revision, value)| {
                let bytes = record::encode_cold_value(*revision, value);
                ((Family::Cold, *revision), Some(bytes))
            }));
            between();
        }
        Ok(())
    }

    fn remove_index(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.remove(Family::Index, revisions, between);
        Ok(())
    }

    fn remove_values(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.remove(Family::Cold, revisions, between);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        let mut state = self.disk.lock();
        if let Some(left) = state.syncs_until_failure.as_mut() {
            let Some(fewer) = left.checked_sub(1) else {
                let error = std::io::Error::other("injected failure");
                return Err(Fatal::io("sync", self.path(), error));
            };
            *left = fewer;
        }
        for change in std::mem::take(&mut state.pending) {
            apply(&mut state.durable, change);
        }
        state.syncs += 1;
        assert!(
            state.durable == state.seen,
            "after a sync, what is seen is what is durable"
        );
        Ok(())
    }

    fn visit_index(
        &self,
        visit: &mut dyn FnMut(RecordMeta) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        self.index_records().try_for_each(|record| visit(record?))
    }

    fn visit_values(&self, visit: &mut ValueVisitor<'_>) -> Result<(), Fatal> {
        for (revision, bytes) in self.family(Family::Cold) {
            visit(
                revision,
                record::decode_cold_value(revision, &bytes).map_err(corrupt)?,
            )?;
        }
        Ok(())
    }

    fn reader(&self) -> ColdReader {
        ColdReader::new(Arc::new(self.disk.clone()))
    }

    fn path(&self) -> PathBuf {
        model_path()
    }
}

impl ColdSource for ModelDisk {
    fn read_value(&self, revision: Revision) -> Result<Option<Bytes>, Fatal> {
        let state = self.lock();
        let Some(stored) = state.seen.get(&(Family::Cold, revision)) else {
            return Ok(None);
        };
        let value = record::decode_cold_value(revision, stored).map_err(corrupt)?;
        Ok(Some(Bytes::copy_from_slice(value)))
    }

    fn scrub(&self, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        let state = self.lock();
        for ((family, revision), bytes) in &state.seen {
            match family {
                Family::Index => {
                    record::decode_index_record(*revision, bytes).map_err(corrupt)?;
                }
                Family::Cold => {
                    record::decode_cold_value(*revision, bytes).map_err(corrupt)?;
                }
            }
            pace(bytes.len() as u64);
        }
        Ok(())
    }

    fn index(&self) -> IndexRecords {
        Box::new(ModelStore::open(self).index_records())
    }

    fn path(&self) -> PathBuf {
        model_path()
    }
}

fn model_path() -> PathBuf {
    PathBuf::from("model-of-the-checkpoint-store")
}

fn corrupt(bad: Malformed) -> Fatal {
    Fatal::corruption(model_path(), bad.offset, bad.detail)
}
