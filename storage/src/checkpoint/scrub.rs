//! Reads what a running member has published back from the disk: identity file,
//! manifest, store. The files change under it: the manifest is replaced by a rename, so
//! each read sees one whole manifest; of fjall's files see `fjall_files`. The index is
//! counted as fjall shows it at one moment, through its cache: that its bytes are still on
//! the disk is what the checksums of its files have just told.
//!
//! Owns nothing but handles; used on a thread of its own. Invariant: what it calls
//! damage, a start refuses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Fatal;
use crate::limits::SCRUB_READ_BYTES;
use crate::vfs::uncached::Uncached;
use crate::vfs::{OpenMode, Vfs};

use super::layout;
use super::load::Tally;
use super::manifest::{Identity, Manifest};
use super::store::{ColdReader, IndexRecords};

/// How often the index is looked at again when a manifest was published meanwhile: one
/// checkpoint takes longer than a look. What changes all the time is left to the next pass.
const INDEX_TRIES: usize = 4;

/// Bytes of an index record besides the user's key, about (docs/format.md).
const RECORD_BYTES: u64 = 46;

/// A manifest that this process knows to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenManifest {
    /// Whose it is.
    pub identity: Identity,
    /// Its number.
    pub sequence: u64,
}

impl From<&Manifest> for WrittenManifest {
    fn from(manifest: &Manifest) -> WrittenManifest {
        WrittenManifest {
            identity: manifest.identity,
            sequence: manifest.sequence,
        }
    }
}

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct StoreScrub {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    cold: ColdReader,
}

impl StoreScrub {
    pub(super) fn new(vfs: Arc<dyn Vfs>, directory: PathBuf, cold: ColdReader) -> StoreScrub {
        StoreScrub {
            vfs,
            directory,
            cold,
        }
    }

    /// Verifies identity file and manifest, which is `written` or a later one. `pace`
    /// hears of bytes that were read and may wait.
    ///
    /// # Errors
    /// `Corruption` naming the file, I/O errors.
    pub fn files(&self, written: WrittenManifest, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        let disk = Uncached(&*self.vfs);
        let path = self.directory.join(layout::IDENTITY);
        let identity = layout::read_identity(&disk, &self.directory)?;
        require(&path, identity, |found| *found == written.identity)?;
        let path = self.directory.join(layout::MANIFEST);
        let manifest = Manifest::read_unsynced(&disk, &self.directory)?;
        let manifest = require(&path, manifest, |found| found.identity == written.identity)?;
        if manifest.sequence < written.sequence {
            let detail = format!(
                "this is manifest {}, but {} was published",
                manifest.sequence, written.sequence
            );
            return Err(Fatal::corruption(path, 0, detail));
        }
        let file = self
            .vfs
            .open(&path, OpenMode::Read)
            .and_then(|file| file.len());
        pace(file.map_err(|source| Fatal::io("measure", path, source))?);
        Ok(())
    }

    /// Verifies all that the store holds: every byte of its files, then that its index
    /// records are those that the manifest names.
    ///
    /// # Errors
    /// As [`StoreScrub::files`].
    pub fn store(&self, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
        self.cold.scrub(pace)?;
        for _ in 0..INDEX_TRIES {
            let Some((manifest, records)) = self.view()? else {
                continue;
            };
            return self.count(&manifest, records, pace);
        }
        Ok(())
    }

    /// A manifest and the records of a moment at which it was the published one: what the
    /// next one removes is removed behind its publication. None when it was replaced
    /// meanwhile.
    fn view(&self) -> Result<Option<(Manifest, IndexRecords)>, Fatal> {
        let path = self.directory.join(layout::MANIFEST);
        let read = || {
            let manifest = Manifest::read_unsynced(&Uncached(&*self.vfs), &self.directory)?;
            require(&path, manifest, |_| true)
        };
        let manifest = read()?;
        let records = self.cold.index();
        let same = read()?.sequence == manifest.sequence;
        Ok(same.then_some((manifest, records)))
    }

    fn count(
        &self,
        manifest: &Manifest,
        records: IndexRecords,
        pace: &mut dyn FnMut(u64),
    ) -> Result<(), Fatal> {
        let mut tally = Tally::new(manifest);
        let mut unpaced = 0;
        for record in records {
            let record = record?;
            if record.revision > manifest.bound {
                break;
            }
            tally.counts(record.revision, record.place);
            unpaced += RECORD_BYTES + record.key.len() as u64;
            if unpaced >= SCRUB_READ_BYTES {
                pace(unpaced);
                unpaced = 0;
            }
        }
        pace(unpaced);
        tally.finish(&self.cold.path()).map(|_| ())
    }
}

fn require<T>(path: &Path, found: Option<T>, ours: impl Fn(&T) -> bool) -> Result<T, Fatal> {
    let Some(found) = found else {
        let detail = "the file is gone; stop the member and restore it from a copy";
        return Err(Fatal::corruption(path, 0, detail));
    };
    if !ours(&found) {
        let detail = "the file belongs to another member";
        return Err(Fatal::corruption(path, 0, detail));
    }
    Ok(found)
}

#[cfg(test)]
#[path = "scrub_index_tests.rs"]
mod index_tests;
#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
