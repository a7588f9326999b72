//! The checkpoint store on fjall (docs/format.md, "Index checkpoint" and "Cold
//! values"). Two keyspaces, `index` and `cold`; keys are revisions.
//!
//! Everything, removals included, is written by sorted ingestion: fjall's
//! journal stays empty, so nothing depends on its recovery. Read in the source
//! of fjall 3.1.13 and lsm-tree 3.1.10: when an ingestion finishes, the table
//! file, its directory, the new version file and the pointer to it (`current`)
//! have been synced, in this order; only the entry of a new keyspace's
//! directory in its parent has not, which is done here when a store is made.
//! Values are not separated from keys: lsm-tree does not sync the directory of
//! separated blob files after it has created one.
//!
//! fjall runs one thread of its own that merges tables. It is never on the
//! commit path. Limits: [`CACHE_BYTES`], [`OPEN_FILES_MAX`], and the sizes of
//! runs in `store`.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, CompressionPolicy, RestartIntervalPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::error::Fatal;
use crate::types::{RecordMeta, Revision};
use crate::vfs::Vfs;

use super::codec::Malformed;
use super::fjall_files::{Depth, verify_tree};
use super::fjall_reader::{FjallReader, entries};
use super::layout;
use super::manifest::Manifest;
use super::record;
use super::store::{self, CheckpointStore, ColdReader, ValueVisitor};

/// Block cache, bytes. The index is scanned once, at start; only cold values are
/// read afterwards, and those are read by who asks for old revisions.
pub const CACHE_BYTES: u64 = 16 << 20;

/// Most table files kept open.
pub const OPEN_FILES_MAX: usize = 128;

/// Index records are only ever scanned: large blocks make that cheap.
const INDEX_BLOCK_BYTES: u32 = 32 << 10;

/// Cold values are read one by one: small blocks keep the read small.
const COLD_BLOCK_BYTES: u32 = 4 << 10;

const INDEX_KEYSPACE: &str = "index";
const COLD_KEYSPACE: &str = "cold";

/// Names that fjall and lsm-tree give.
pub(super) const KEYSPACES_DIRECTORY: &str = "keyspaces";
const DATABASE_MARKER: &str = "version";
const TREE_MARKER: &str = "current";
const TABLES_DIRECTORY: &str = "tables";
/// The trees: fjall's own, then `index` and `cold` as they were created.
pub(super) const TREES: [&str; 3] = ["0", "1", "2"];

/// The store on fjall.
pub struct FjallStore {
    directory: PathBuf,
    database: Database,
    index: Keyspace,
    cold: Keyspace,
}

impl FjallStore {
    /// Makes an empty store in `directory`, over what an interrupted creation
    /// left there. When it returns, the empty store is durable.
    ///
    /// # Errors
    /// I/O errors; `Corruption` when `directory` holds records: the manifest
    /// that named them was lost.
    pub fn create(directory: &Path) -> Result<Self, Fatal> {
        require_recordless(directory)?;
        Self::create_anew(directory)
    }

    fn create_anew(directory: &Path) -> Result<Self, Fatal> {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fatal::io("remove", directory, error)),
        }
        std::fs::create_dir_all(directory)
            .map_err(|error| Fatal::io("create", directory, error))?;
        let store = Self::open_database(directory)?;
        sync_directory(&directory.join(KEYSPACES_DIRECTORY))?;
        sync_directory(directory)?;
        if let Some(parent) = directory
            .parent()
            .filter(|path| !path.as_os_str().is_empty())
        {
            sync_directory(parent)?;
        }
        Ok(store)
    }

    /// Opens the store that a manifest names. fjall takes what is incomplete
    /// for the rest of an interrupted creation and deletes it, so this looks
    /// first, before any write.
    ///
    /// # Errors
    /// `Corruption` when a part is missing or damaged; I/O errors; `Refused`
    /// when another process has it open.
    pub fn open(directory: &Path) -> Result<Self, Fatal> {
        require_complete(directory)?;
        Self::open_database(directory)
    }

    /// Opens the store of a data directory. While the manifest names nothing in
    /// it (a member that was just founded, before or after its store was made,
    /// or within its first checkpoint), a store that is not whole is made anew.
    ///
    /// # Errors
    /// As [`FjallStore::open`], [`FjallStore::create`] and `Manifest::read`.
    pub fn open_or_create(vfs: &dyn Vfs, data_directory: &Path) -> Result<Self, Fatal> {
        let directory = data_directory.join(layout::CHECKPOINT);
        match Manifest::read_unsynced(vfs, data_directory)? {
            None => Self::create(&directory),
            Some(manifest) if !manifest.names_nothing() => Self::open(&directory),
            Some(_) => match Self::open(&directory) {
                Err(Fatal::Corruption { .. }) => Self::create_anew(&directory),
                other => other,
            },
        }
    }

    /// Opens the store of a data directory for who only looks: None where a start
    /// would make it anew.
    ///
    /// # Errors
    /// As [`FjallStore::open_or_create`].
    pub(crate) fn open_existing(
        vfs: &dyn Vfs,
        data_directory: &Path,
    ) -> Result<Option<Self>, Fatal> {
        let directory = data_directory.join(layout::CHECKPOINT);
        match Manifest::read_unsynced(vfs, data_directory) {
            Ok(None) => require_recordless(&directory).map(|()| None),
            Ok(Some(manifest)) if manifest.names_nothing() => match Self::open(&directory) {
                Err(Fatal::Corruption { .. }) => Ok(None),
                other => other.map(Some),
            },
            Ok(Some(_)) | Err(_) => Self::open(&directory).map(Some),
        }
    }

    /// Reads every byte of the present tables of all trees and hands each defect over.
    ///
    /// # Errors
    /// I/O errors, and what `found` returns.
    pub(crate) fn verify_files(
        directory: &Path,
        found: &mut dyn FnMut(Fatal) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        let keyspaces = directory.join(KEYSPACES_DIRECTORY);
        for tree in TREES {
            verify_tree(&keyspaces.join(tree), Depth::Content, found)?;
        }
        Ok(())
    }

    fn open_database(directory: &Path) -> Result<Self, Fatal> {
        let fatal = |error| from_fjall("open", directory, error);
        let database = Database::builder(directory)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .manual_journal_persist(true)
            .open()
            .map_err(fatal)?;
        let options = |block_bytes| {
            KeyspaceCreateOptions::default()
                .data_block_size_policy(BlockSizePolicy::all(block_bytes))
                .data_block_compression_policy(CompressionPolicy::disabled())
                .data_block_restart_interval_policy(RestartIntervalPolicy::all(16))
                .manual_journal_persist(true)
        };
        let index = database
            .keyspace(INDEX_KEYSPACE, || options(INDEX_BLOCK_BYTES))
            .map_err(fatal)?;
        let cold = database
            .keyspace(COLD_KEYSPACE, || options(COLD_BLOCK_BYTES))
            .map_err(fatal)?;
        // A tree whose creation was cut short behind its files and before its name is one that
        // fjall deletes and makes anew under another number.
        let numbers = [index.id().to_string(), cold.id().to_string()];
        if TREES.get(1..) != Some(&numbers.each_ref().map(String::as_str)[..]) {
            let detail =
                format!("the trees have the numbers {numbers:?}; their creation was cut short");
            return Err(Fatal::corruption(directory, 0, detail));
        }
        Ok(FjallStore {
            directory: directory.to_owned(),
            database,
            index,
            cold,
        })
    }

    /// Writes one sorted run; durable when it returns.
    fn ingest(
        &self,
        keyspace: &Keyspace,
        run: impl Iterator<Item = (Revision, Option<Vec<u8>>)>,
    ) -> Result<(), Fatal> {
        let fatal = |error| from_fjall("write to", &self.directory, error);
        let mut ingestion = keyspace.start_ingestion().map_err(fatal)?;
        for (revision, content) in run {
            let key = record::revision_key(revision);
            match content {
                Some(bytes) => ingestion.write(key, bytes),
                None => ingestion.write_tombstone(key),
            }
            .map_err(fatal)?;
        }
        ingestion.finish().map_err(fatal)
    }

    fn remove(
        &self,
        keyspace: &Keyspace,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        store::assert_ascending(revisions.iter().copied());
        for run in revisions.chunks(store::INGESTION_RECORDS_MAX) {
            self.ingest(keyspace, run.iter().map(|revision| (*revision, None)))?;
            between();
        }
        Ok(())
    }

    fn visit(&self, keyspace: &Keyspace, visit: &mut ValueVisitor<'_>) -> Result<(), Fatal> {
        for entry in entries(keyspace, &self.directory) {
            let (revision, content) = entry?;
            visit(revision, &content)?;
        }
        Ok(())
    }

    fn corrupt(&self, bad: Malformed) -> Fatal {
        Fatal::corruption(&self.directory, bad.offset, bad.detail)
    }
}

impl CheckpointStore for FjallStore {
    fn ingest_index(
        &mut self,
        records: &[Arc<RecordMeta>],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        store::assert_ascending(records.iter().map(|record| record.revision));
        for run in records.chunks(store::INGESTION_RECORDS_MAX) {
            let run = run
                .iter()
                .map(|record| (record.revision, Some(record::encode_index_record(record))));
            self.ingest(&self.index, run)?;
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
            let run = run.iter().map(|(revision, value)| {
                (*revision, Some(record::encode_cold_value(*revision, value)))
            });
            self.ingest(&self.cold, run)?;
            between();
        }
        Ok(())
    }

    fn remove_index(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.remove(&self.index, revisions, between)
    }

    fn remove_values(
        &mut self,
        revisions: &[Revision],
        between: &mut dyn FnMut(),
    ) -> Result<(), Fatal> {
        self.remove(&self.cold, revisions, between)
    }

    /// Ingestions are durable when they return. What is left to do is to hear
    /// of a failure of fjall's own thread, which poisons the database.
    fn sync(&mut self) -> Result<(), Fatal> {
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(|error| from_fjall("sync", &self.directory, error))
    }

    fn visit_index(
        &self,
        visit: &mut dyn FnMut(RecordMeta) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        self.visit(&self.index, &mut |revision, content| {
            let record =
                record::decode_index_record(revision, content).map_err(|bad| self.corrupt(bad))?;
            visit(record)
        })
    }

    fn visit_values(&self, visit: &mut ValueVisitor<'_>) -> Result<(), Fatal> {
        self.visit(&self.cold, &mut |revision, content| {
            let value =
                record::decode_cold_value(revision, content).map_err(|bad| self.corrupt(bad))?;
            visit(revision, value)
        })
    }

    fn reader(&self) -> ColdReader {
        ColdReader::new(Arc::new(FjallReader {
            directory: self.directory.clone(),
            index: self.index.clone(),
            cold: self.cold.clone(),
            _database: self.database.clone(),
        }))
    }

    fn path(&self) -> PathBuf {
        self.directory.clone()
    }
}

impl fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FjallStore({})", self.directory.display())
    }
}

/// Refuses a store of which a part is missing: the database's marker, or one of
/// the trees.
fn require_complete(directory: &Path) -> Result<(), Fatal> {
    let keyspaces = directory.join(KEYSPACES_DIRECTORY);
    let mut required = vec![directory.join(DATABASE_MARKER)];
    required.extend(TREES.map(|number| keyspaces.join(number).join(TREE_MARKER)));
    for path in required {
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {}
            Ok(_) => return Err(Fatal::corruption(path, 0, "the file is empty")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let detail = "the file is missing, but a manifest says that it is there";
                return Err(Fatal::corruption(path, 0, detail));
            }
            Err(error) => return Err(Fatal::io("look at", path, error)),
        }
    }
    for entry in list(&keyspaces)? {
        let name = entry.file_name();
        let numbered = name
            .to_str()
            .is_some_and(|name| name.parse::<u64>().is_ok());
        if entry.path().is_dir() && !numbered {
            let detail = "an unknown directory inside the checkpoint store; move it away";
            return Err(Fatal::refused(entry.path(), detail));
        }
    }
    // The load reads the whole index anyway; cold values are verified when they are read.
    let depths = [Depth::Content, Depth::Content, Depth::Presence];
    for (tree, depth) in TREES.into_iter().zip(depths) {
        verify_tree(&keyspaces.join(tree), depth, &mut Err)?;
    }
    Ok(())
}

/// Refuses to make a store over one that has tables. The trees of a store that
/// is being made have none but for fjall's own tree, 0.
fn require_recordless(directory: &Path) -> Result<(), Fatal> {
    for tree in ["1", "2"] {
        let tables = directory
            .join(KEYSPACES_DIRECTORY)
            .join(tree)
            .join(TABLES_DIRECTORY);
        let mut entries = match std::fs::read_dir(&tables) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Fatal::io("list", tables, error)),
        };
        if entries.next().is_some() {
            let lost = directory.with_file_name(layout::MANIFEST);
            let detail = format!(
                "there are records in {}, but the manifest that names them is missing; \
                 restore the MANIFEST or the whole directory from a copy",
                tables.display()
            );
            return Err(Fatal::corruption(lost, 0, detail));
        }
    }
    Ok(())
}

fn list(directory: &Path) -> Result<Vec<std::fs::DirEntry>, Fatal> {
    std::fs::read_dir(directory)
        .and_then(Iterator::collect)
        .map_err(|error| Fatal::io("list", directory, error))
}

fn sync_directory(directory: &Path) -> Result<(), Fatal> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| Fatal::io("sync", directory, error))
}

/// fjall does not say in which file it found what; so the store's directory
/// stands for all of them.
pub(super) fn from_fjall(operation: &'static str, directory: &Path, error: fjall::Error) -> Fatal {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            Fatal::io(operation, directory, error)
        }
        fjall::Error::Poisoned => Fatal::io(
            operation,
            directory,
            io::Error::other("an earlier operation of fjall's own thread failed"),
        ),
        fjall::Error::Locked => Fatal::refused(
            directory,
            "another process has this checkpoint store open; stop it first",
        ),
        other => Fatal::corruption(directory, 0, other.to_string()),
    }
}

#[cfg(test)]
#[path = "fjall_tests.rs"]
mod tests;
