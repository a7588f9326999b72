//! Spare segments: prepared or recycled files that wait for the next roll, so
//! that a roll costs no zero-filling. The jobs touch only files that the log
//! does not use, and run on any thread, one at a time.
//!
//! Limit: at most `LogOptions::spares_max` spares are kept.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Fatal;
use crate::types::SegmentNumber;
use crate::vfs::{OpenMode, Vfs, VfsFile};

use super::segment::{FileName, create_filled, remove, rename, sync_directory, zero_fill};

/// A file that can become the next segment.
#[derive(Debug)]
pub(super) struct SpareFile {
    pub path: PathBuf,
    pub file: Arc<dyn VfsFile>,
    pub length: u64,
    /// It held other bytes before.
    pub recycled: bool,
}

/// What a job made; hand it to [`super::RaftLog::add_spare`].
#[derive(Debug)]
pub struct Spare {
    pub(super) file: Option<SpareFile>,
    _outstanding: Arc<()>,
}

#[derive(Debug)]
pub(super) enum Work {
    Create,
    Recycle(SegmentNumber),
    Remove(SegmentNumber),
}

/// A background job on a file outside the log. Dropping it undone is fine: the
/// log offers it again.
#[derive(Debug)]
pub struct SpareJob {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) directory: PathBuf,
    pub(super) work: Work,
    pub(super) number: u32,
    pub(super) length: u64,
    pub(super) outstanding: Arc<()>,
}

impl SpareJob {
    /// Prepares the file and makes it durable.
    ///
    /// # Errors
    /// `Io`; of kind `StorageFull` when the disk is full: then nothing of the
    /// log is harmed, a later job may succeed, and the caller may raise NOSPACE
    /// instead of ending the process.
    pub fn perform(self) -> Result<Spare, Fatal> {
        let file = match self.work {
            Work::Create => Some(self.create()?),
            Work::Recycle(number) => Some(self.recycle(number)?),
            Work::Remove(number) => {
                remove(&*self.vfs, &FileName::Segment(number).path(&self.directory))?;
                sync_directory(&*self.vfs, &self.directory)?;
                None
            }
        };
        Ok(Spare {
            file,
            _outstanding: self.outstanding,
        })
    }

    fn create(&self) -> Result<SpareFile, Fatal> {
        let filling = FileName::Filling(self.number).path(&self.directory);
        let path = FileName::Spare(self.number).path(&self.directory);
        let file = match create_filled(&*self.vfs, &filling, self.length) {
            Ok(file) => file,
            Err(error) => {
                // Gives the space back; the first error is the one that matters.
                remove(&*self.vfs, &filling).unwrap_or_default();
                return Err(error);
            }
        };
        rename(&*self.vfs, &filling, &path)?;
        sync_directory(&*self.vfs, &self.directory)?;
        Ok(SpareFile {
            path,
            file,
            length: self.length,
            recycled: false,
        })
    }

    fn recycle(&self, number: SegmentNumber) -> Result<SpareFile, Fatal> {
        let segment = FileName::Segment(number).path(&self.directory);
        let filling = FileName::Filling(self.number).path(&self.directory);
        let path = FileName::Spare(self.number).path(&self.directory);
        rename(&*self.vfs, &segment, &filling)?;
        // The old name must be gone for good before the bytes change.
        sync_directory(&*self.vfs, &self.directory)?;
        let file = self
            .vfs
            .open(&filling, OpenMode::ReadWrite)
            .map_err(|source| Fatal::io("open", &filling, source))?;
        let length = file
            .len()
            .map_err(|source| Fatal::io("measure", &filling, source))?;
        if length > self.length {
            file.set_len(self.length)
                .map_err(|source| Fatal::io("cut", &filling, source))?;
        }
        if let Err(error) = zero_fill(&*file, &filling, length.min(self.length), self.length) {
            remove(&*self.vfs, &filling).unwrap_or_default();
            return Err(error);
        }
        rename(&*self.vfs, &filling, &path)?;
        sync_directory(&*self.vfs, &self.directory)?;
        Ok(SpareFile {
            path,
            file,
            length: self.length,
            recycled: true,
        })
    }
}
