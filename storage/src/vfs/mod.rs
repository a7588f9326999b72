//! The one door to files: [`Vfs`] and [`VfsFile`]. `real` is the operating
//! system; `sim` is a disk in memory whose faults are drawn from a seed.
//!
//! Contract of both: data is durable only after `sync_data` of its file, a
//! directory entry (create, rename, remove) only after `sync_dir` of its
//! directory. A failed sync is never retried: the caller ends the process.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod aligned;
pub mod real;
pub mod sim;
mod space;
pub(crate) mod uncached;

#[cfg(test)]
mod tests;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only; fails when absent.
    Read,
    /// Read and write; fails when absent.
    ReadWrite,
    /// Read and write; created empty, fails when present.
    CreateNew,
}

/// An open file. All positions are absolute; there is no cursor.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads exactly `buf.len()` bytes at `offset`; `UnexpectedEof` past the end.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`, extending the file where needed.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's data durable (and its length, where that changed).
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length, bytes.
    fn len(&self) -> io::Result<u64>;
    /// True for an empty file.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Takes the space for `length` bytes, extending the file with zeros: later writes
    /// there never lack it. False where the file system cannot; `StorageFull` when
    /// there is not so much. Nothing is durable by it.
    fn allocate(&self, length: u64) -> io::Result<bool> {
        self.set_len(length).map(|()| true)
    }
    /// Has written bytes on their way to the disk, so that a later sync is short.
    /// Nothing is durable by it.
    fn write_back(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// The descriptor, where there is one, for flush backends that submit to the
    /// kernel themselves.
    fn raw_fd(&self) -> Option<i32>;
}

/// A file system.
pub trait Vfs: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;
    /// Opens a file for reading past the page cache where that can be done, so
    /// that recovery sees what the disk holds and not what a killed process left
    /// in memory; else as [`OpenMode::Read`].
    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>>;
    /// Opens a file for writes of whole blocks past the page cache: places and lengths are
    /// multiples of [`aligned::BLOCK_BYTES`], and bytes come from an
    /// [`aligned::AlignedBuffer`]. `InvalidInput`, here or of the first write, where the file
    /// system cannot do that.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.open(path, OpenMode::ReadWrite)
    }
    /// Renames a file within a directory, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Names of the entries of a directory, sorted.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a directory (mode 0700) and its missing parents; no error when present.
    fn create_dir_all(&self, directory: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// True when the path exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}
