//! A view of a file system for who wants to know what the disk holds: every read goes
//! past the page cache where that can be done. Reads only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{OpenMode, Vfs, VfsFile};

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Uncached<'a>(pub(crate) &'a dyn Vfs);

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "this view is for reading")
}

impl Vfs for Uncached<'_> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        match mode {
            OpenMode::Read => self.0.open_uncached(path),
            OpenMode::ReadWrite | OpenMode::CreateNew => Err(refused()),
        }
    }
    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open_uncached(path)
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(directory)
    }
    fn create_dir_all(&self, _directory: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
}
