//! The reading end of the store on fjall, for any thread. It keeps the database open.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, Slice};

use crate::error::Fatal;
use crate::types::Revision;

use super::codec::Malformed;
use super::fjall::{KEYSPACES_DIRECTORY, TREES, from_fjall};
use super::fjall_files::scrub_tree;
use super::record;
use super::store::{ColdSource, IndexRecords};

/// See the head of the file.
pub(super) struct FjallReader {
    pub(super) directory: PathBuf,
    pub(super) index: Keyspace,
    pub(super) cold: Keyspace,
    pub(super) _database: Database,
}

impl ColdSource for FjallReader {
    fn read_value(&self, revision: Revision) -> Result<Option<Bytes>, Fatal> {
        let stored = self
            .cold
            .get(record::revision_key(revision))
            .map_err(|error| from_fjall("read", &self.directory, error))?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        match record::decode_cold_value(revision, &stored) {
            // A copy, so that a value that is held does not hold its block.
            Ok(value) => Ok(Some(Bytes::copy_from_slice(value))),
            Err(bad) => Err(Fatal::corruption(&self.directory, bad.offset, bad.detail)),
        }
    }

    fn scrub(&self, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        let keyspaces = self.directory.join(KEYSPACES_DIRECTORY);
        TREES
            .into_iter()
            .try_for_each(|tree| scrub_tree(&keyspaces.join(tree), pace))
    }

    fn index(&self) -> IndexRecords {
        let directory = self.directory.clone();
        let decode = move |(revision, content): (Revision, Slice)| {
            record::decode_index_record(revision, &content)
                .map_err(|bad| Fatal::corruption(&directory, bad.offset, bad.detail))
        };
        let all = entries(&self.index, &self.directory);
        Box::new(all.map(move |entry| entry.and_then(&decode)))
    }

    fn path(&self) -> PathBuf {
        self.directory.clone()
    }
}

/// The entries of a keyspace as they are at this moment, ascending.
pub(super) fn entries(
    keyspace: &Keyspace,
    directory: &Path,
) -> impl Iterator<Item = Result<(Revision, Slice), Fatal>> + use<> {
    let directory = directory.to_path_buf();
    let mut last = None;
    keyspace.iter().map(move |entry| {
        let corrupt = |bad: Malformed| Fatal::corruption(&directory, bad.offset, bad.detail);
        let (key, content) = entry
            .into_inner()
            .map_err(|error| from_fjall("read", &directory, error))?;
        let revision = record::parse_revision_key(&key).map_err(corrupt)?;
        if last.is_some_and(|last| last >= revision) {
            let detail = format!("revision {revision:?} comes after {last:?}");
            return Err(corrupt(Malformed::new(0, detail)));
        }
        last = Some(revision);
        Ok((revision, content))
    })
}

impl fmt::Debug for FjallReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FjallReader({})", self.directory.display())
    }
}
