//! Where a bolt file is read from, why that can fail, and the SHA-256 that a
//! saved snapshot carries behind the database. Memory: one block of 64 KiB.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::Fatal;
use crate::vfs::VfsFile;

/// A saved snapshot is a file of whole sectors followed by a SHA-256.
const SECTOR_BYTES: u64 = 512;
const DIGEST_BYTES: u64 = 32;
const DIGEST_READ_BYTES: u64 = 64 << 10;

/// Bytes at absolute positions.
pub trait ReadAt {
    /// Reads exactly `buf.len()` bytes at `offset`.
    ///
    /// # Errors
    /// Of the source; `UnexpectedEof` past its end.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Length, bytes.
    ///
    /// # Errors
    /// Of the source.
    fn length(&self) -> io::Result<u64>;
}

impl ReadAt for Arc<dyn VfsFile> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }
    fn length(&self) -> io::Result<u64> {
        (**self).len()
    }
}

impl ReadAt for Bytes {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buf.len())?));
        let bytes = range.and_then(|range| self.get(range));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The source failed.
    Io(io::Error),
    /// The bytes are not a sound bolt file.
    Corrupt {
        /// Where, bytes from the start of the file.
        offset: u64,
        /// What was expected and what was found.
        detail: String,
    },
}

impl ReadError {
    pub(super) fn corrupt(offset: u64, detail: impl Into<String>) -> Self {
        ReadError::Corrupt {
            offset,
            detail: detail.into(),
        }
    }

    /// The same, naming the file.
    #[must_use]
    pub fn of_file(self, path: &Path) -> Fatal {
        match self {
            ReadError::Io(source) => Fatal::io("read", path, source),
            ReadError::Corrupt { offset, detail } => Fatal::corruption(path, offset, detail),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(source: io::Error) -> Self {
        ReadError::Io(source)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(source) => write!(f, "cannot read: {source}"),
            ReadError::Corrupt { offset, detail } => {
                write!(f, "corrupt bolt file at offset {offset}: {detail}")
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// What stands behind the database in a saved snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// Nothing: a database copied from a data directory.
    Absent,
    /// The SHA-256 of all that is before it.
    Valid,
}

/// Reads the whole file and compares the SHA-256 at its end, if it has one (its
/// length tells: 32 over a multiple of 512).
///
/// # Errors
/// When the digest differs, or the source fails.
pub fn check_trailer(source: &impl ReadAt) -> Result<Trailer, ReadError> {
    let length = source.length()?;
    if length % SECTOR_BYTES != DIGEST_BYTES {
        return Ok(Trailer::Absent);
    }
    let end = length - DIGEST_BYTES;
    let mut hasher = Sha256::new();
    let mut offset = 0;
    while offset < end {
        let size = DIGEST_READ_BYTES.min(end - offset);
        let mut buffer = vec![0; usize::try_from(size).expect("at most 64 KiB")];
        source.read_exact_at(&mut buffer, offset)?;
        hasher.update(&buffer);
        offset += size;
    }
    let mut digest = [0u8; 32];
    source.read_exact_at(&mut digest, end)?;
    let computed: [u8; 32] = hasher.finalize().into();
    if computed != digest {
        return Err(ReadError::corrupt(
            end,
            "the SHA-256 of the file differs from its trailer",
        ));
    }
    Ok(Trailer::Valid)
}
