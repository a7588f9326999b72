//! Segment files by name, and the table of open ones that writer and readers
//! share.
//!
//! Owns the names in the log's directory: `NNNNNNNNNN.segment` is part of the
//! log, `NNNNNNNNNN.spare` is prepared or recycled, `NNNNNNNNNN.filling` is
//! being prepared and worthless after a crash. Invariant: a file bears the name
//! of a segment only after its header is synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Fatal;
use crate::limits::ZERO_FILL_BYTES;
use crate::types::SegmentNumber;
use crate::vfs::aligned::AlignedBuffer;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// An open segment file.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub path: PathBuf,
    pub file: Arc<dyn VfsFile>,
    pub seed: u32,
}

impl SegmentFile {
    pub(super) fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>, Fatal> {
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| {
                if source.kind() == io::ErrorKind::UnexpectedEof {
                    Fatal::corruption(&self.path, offset, "the file ends before what it must hold")
                } else {
                    Fatal::io("read", &self.path, source)
                }
            })?;
        Ok(bytes)
    }
}

/// The open segments, by number. Readers hold the lock only to clone one handle.
#[derive(Debug, Default)]
pub(super) struct SegmentTable(RwLock<BTreeMap<SegmentNumber, Arc<SegmentFile>>>);

impl SegmentTable {
    pub(super) fn get(&self, number: SegmentNumber) -> Option<Arc<SegmentFile>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&number).cloned()
    }

    pub(super) fn insert(&self, number: SegmentNumber, file: Arc<SegmentFile>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = table.insert(number, file);
        assert!(before.is_none(), "a segment number is never used twice");
    }

    pub(super) fn remove(&self, number: SegmentNumber) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        assert!(
            table.remove(&number).is_some(),
            "only a listed segment retires"
        );
    }
}

/// What a name in the log's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileName {
    Segment(SegmentNumber),
    Spare(u32),
    Filling(u32),
}

impl FileName {
    pub(super) fn parse(name: &Path) -> Option<FileName> {
        let stem = name.file_stem()?.to_str()?;
        if stem.len() != 10 || !stem.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = stem.parse().ok()?;
        match name.extension()?.to_str()? {
            "segment" => Some(FileName::Segment(SegmentNumber(number))),
            "spare" => Some(FileName::Spare(number)),
            "filling" => Some(FileName::Filling(number)),
            _ => None,
        }
    }

    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            FileName::Segment(number) => format!("{:010}.segment", number.0),
            FileName::Spare(number) => format!("{number:010}.spare"),
            FileName::Filling(number) => format!("{number:010}.filling"),
        })
    }
}

/// Writes zeros over `from..to` of a file and syncs it.
pub(super) fn zero_fill(file: &dyn VfsFile, path: &Path, from: u64, to: u64) -> Result<(), Fatal> {
    let zeros = zeros(to - from);
    let mut at = from;
    while at < to {
        at += write_zeros(file, &zeros, at, to)
            .map_err(|source| Fatal::io("fill with zeros", path, source))?;
    }
    file.sync_data()
        .map_err(|source| Fatal::io("sync", path, source))
}

/// Zeros for `length` bytes of a file, at most [`ZERO_FILL_BYTES`] at a time.
pub(super) fn zeros(length: u64) -> AlignedBuffer {
    let piece = usize::try_from(length).map_or(ZERO_FILL_BYTES, |all| all.min(ZERO_FILL_BYTES));
    let mut zeros = AlignedBuffer::default();
    zeros.reset(piece);
    zeros.fill_to(piece);
    zeros
}

/// Writes the first zeros of `from..to`, at most these; how many.
pub(super) fn write_zeros(
    file: &dyn VfsFile,
    zeros: &AlignedBuffer,
    from: u64,
    to: u64,
) -> io::Result<u64> {
    let zeros = zeros.as_slice();
    let piece = usize::try_from(to - from).map_or(zeros.len(), |rest| rest.min(zeros.len()));
    file.write_all_at(zeros.get(..piece).unwrap_or_default(), from)?;
    Ok(piece as u64)
}

/// Creates a zero-filled, synced file. The name is not durable yet.
pub(super) fn create_filled(
    vfs: &dyn Vfs,
    path: &Path,
    length: u64,
) -> Result<Arc<dyn VfsFile>, Fatal> {
    let file = vfs
        .open(path, OpenMode::CreateNew)
        .map_err(|source| Fatal::io("create", path, source))?;
    zero_fill(&*file, path, 0, length)?;
    Ok(file)
}

pub(super) fn rename(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(), Fatal> {
    vfs.rename(from, to)
        .map_err(|source| Fatal::io("rename", from, source))
}

pub(super) fn remove(vfs: &dyn Vfs, path: &Path) -> Result<(), Fatal> {
    vfs.remove_file(path)
        .map_err(|source| Fatal::io("remove", path, source))
}

pub(super) fn sync_directory(vfs: &dyn Vfs, path: &Path) -> Result<(), Fatal> {
    vfs.sync_dir(path)
        .map_err(|source| Fatal::io("sync the directory", path, source))
}
