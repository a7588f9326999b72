//! The checkpoint store of a member that has made no checkpoint yet: it is made on
//! disk when the first one needs it, on the checkpoint thread. fjall syncs some
//! fifty small files and directories to make an empty store, and a member that
//! was just founded does not wait for that.
//!
//! Invariant: the store is whole and durable before a manifest that names something
//! in it, and before any other manifest of a [`super::Checkpointer`]: `sync` makes
//! it. Until then nothing is in it, so every read finds nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::error::Fatal;
use crate::types::{RecordMeta, Revision};
use crate::vfs::Vfs;

use super::fjall::FjallStore;
use super::layout;
use super::manifest::Manifest;
use super::store::{CheckpointStore, ColdReader, ColdSource, IndexRecords, ValueVisitor};

/// Opens the store of a data directory, or defers making it.
///
/// # Errors
/// As [`FjallStore::open_or_create`].
pub fn open_or_defer(
    vfs: &dyn Vfs,
    data_directory: &Path,
) -> Result<Box<dyn CheckpointStore>, Fatal> {
    if is_deferred(vfs, data_directory)? {
        let directory = data_directory.join(layout::CHECKPOINT);
        return Ok(Box::new(LateStore {
            directory,
            store: None,
            reader: Arc::default(),
        }));
    }
    Ok(Box::new(FjallStore::open_or_create(vfs, data_directory)?))
}

/// True when there is no store yet and no manifest that names something in it.
///
/// # Errors
/// I/O errors, and those of `Manifest::read`.
pub(crate) fn is_deferred(vfs: &dyn Vfs, data_directory: &Path) -> Result<bool, Fatal> {
    let manifest = Manifest::read_unsynced(vfs, data_directory)?;
    if manifest.is_some_and(|manifest| !manifest.names_nothing()) {
        return Ok(false);
    }
    let directory = data_directory.join(layout::CHECKPOINT);
    match std::fs::read_dir(&directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Fatal::io("list", directory, error)),
    }
}

#[derive(Debug)]
struct LateStore {
    directory: PathBuf,
    store: Option<FjallStore>,
    reader: Arc<OnceLock<ColdReader>>,
}

impl LateStore {
    /// The store, made now if it is not there.
    fn store(&mut self) -> Result<&mut FjallStore, Fatal> {
        let store = match self.store.take() {
            Some(store) => store,
            None => {
                let store = FjallStore::create(&self.directory)?;
                let first = self.reader.set(store.reader());
                assert!(first.is_ok(), "a store is made once");
                store
            }
        };
        Ok(self.store.insert(store))
    }
}

impl CheckpointStore for LateStore {
    fn ingest_index(
        &mut self,
        records: &[Arc<RecordMeta>],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.store()?.ingest_index(records, between)
    }

    fn ingest_values(
        &mut self,
        values: &[(Revision, Bytes)],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.store()?.ingest_values(values, between)
    }

    fn remove_index(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.store()?.remove_index(revisions, between)
    }

    fn remove_values(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.store()?.remove_values(revisions, between)
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        self.store()?.sync()
    }

    fn visit_index(
        &self,
        visit: &mut dyn FnMut(RecordMeta) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        let store = self.store.as_ref();
        store.map_or(Ok(()), |store| store.visit_index(visit))
    }

    fn visit_values(&self, visit: &mut ValueVisitor<'_>) -> Result<(), Fatal> {
        let store = self.store.as_ref();
        store.map_or(Ok(()), |store| store.visit_values(visit))
    }

    fn reader(&self) -> ColdReader {
        ColdReader::new(Arc::new(LateReader {
            directory: self.directory.clone(),
            reader: Arc::clone(&self.reader),
        }))
    }

    fn path(&self) -> PathBuf {
        self.directory.clone()
    }
}

/// Finds nothing until there is a store.
#[derive(Debug)]
struct LateReader {
    directory: PathBuf,
    reader: Arc<OnceLock<ColdReader>>,
}

impl ColdSource for LateReader {
    fn read_value(&self, revision: Revision) -> Result<Option<Bytes>, Fatal> {
        let reader = self.reader.get();
        reader.map_or(Ok(None), |reader| reader.read_value(revision))
    }

    fn scrub(&self, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        let reader = self.reader.get();
        reader.map_or(Ok(()), |reader| reader.scrub(pace))
    }

    fn index(&self) -> IndexRecords {
        let reader = self.reader.get();
        reader.map_or_else(|| Box::new(std::iter::empty()) as _, ColdReader::index)
    }

    fn path(&self) -> PathBuf {
        self.directory.clone()
    }
}

#[cfg(test)]
#[path = "late_tests.rs"]
mod tests;
