//! The operating system behind [`super::Vfs`]. Holds no state. Files are
//! created with mode 0600, directories with 0700.
//!
//! Limit: a read past the page cache moves at most [`DIRECT_READ_BYTES`] at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aligned::{AlignedBuffer, BLOCK_BYTES};
use super::{OpenMode, Vfs, VfsFile, space};

/// Bounce buffer of one direct read: large enough that the call costs nothing
/// beside the transfer.
const DIRECT_READ_BYTES: usize = 1 << 20;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile(File);

/// A file opened with `O_DIRECT`, for reading only.
#[derive(Debug)]
struct DirectFile(File);

impl VfsFile for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.0, buf, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, data, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn allocate(&self, length: u64) -> io::Result<bool> {
        space::allocate(&self.0, length)
    }
    fn write_back(&self, offset: u64, length: u64) -> io::Result<()> {
        space::write_back(&self.0, offset, length)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn raw_fd(&self) -> Option<i32> {
        Some(self.0.as_raw_fd())
    }
}

fn read_only() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "opened past the page cache, for reading only",
    )
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

impl DirectFile {
    /// Reads one aligned piece that covers the start of `buf`; returns how many
    /// bytes of `buf` it gave, 0 at the end of the file.
    fn read_piece(
        &self,
        bounce: &mut AlignedBuffer,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let skip = usize::try_from(offset % to_u64(BLOCK_BYTES)).expect("below a block");
        let span = (skip + buf.len()).next_multiple_of(BLOCK_BYTES);
        let span = span.min(DIRECT_READ_BYTES);
        bounce.reset(span);
        bounce.fill_to(span);
        let got = loop {
            match self.0.read_at(bounce.as_mut_slice(), offset - to_u64(skip)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let fresh = bounce.as_slice().get(skip..got).unwrap_or_default();
        let count = fresh.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(fresh) {
            *to = *from;
        }
        Ok(count)
    }
}

impl VfsFile for DirectFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut bounce = AlignedBuffer::default();
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let count = self.read_piece(&mut bounce, rest, offset + to_u64(done))?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += count;
        }
        Ok(())
    }
    fn write_all_at(&self, _data: &[u8], _offset: u64) -> io::Result<()> {
        Err(read_only())
    }
    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn set_len(&self, _length: u64) -> io::Result<()> {
        Err(read_only())
    }
    fn raw_fd(&self) -> Option<i32> {
        Some(self.0.as_raw_fd())
    }
}

impl Vfs for RealVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path);
        match direct {
            Ok(file) => Ok(Arc::new(DirectFile(file))),
            // Some file systems (older tmpfs) have no direct I/O.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.open(path, OpenMode::Read)
            }
            Err(error) => Err(error),
        }
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(PathBuf::from(entry?.file_name()));
        }
        names.sort();
        Ok(names)
    }
    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
    }
    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }
}
