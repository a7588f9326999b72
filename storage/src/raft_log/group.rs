//! A flush group on its way to the disk. Made by the log's owner, performed by
//! the flush worker. Invariant: after the first failure of any group of a log
//! no byte of any is written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Fatal;
use crate::planted::{Bug, planted};
use crate::types::{LogIndex, Term};
use crate::vfs::VfsFile;
use crate::vfs::aligned::AlignedBuffer;

use super::GroupNumber;
use super::segment::SegmentFile;

/// One encoded flush group, to be written in place and synced.
#[derive(Debug)]
pub struct GroupWrite {
    pub(super) number: GroupNumber,
    pub(super) last: Option<(LogIndex, Term)>,
    pub(super) segment: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) buffer: Arc<AlignedBuffer>,
    pub(super) failed: Arc<AtomicBool>,
}

impl GroupWrite {
    /// Its number, for [`RaftLog::flushed`].
    #[must_use]
    pub fn number(&self) -> GroupNumber {
        self.number
    }
    /// Its last entry, for `Persisted`; `None` without entries.
    #[must_use]
    pub fn last(&self) -> Option<(LogIndex, Term)> {
        self.last
    }
    /// The file to write to.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn VfsFile> {
        &self.segment.file
    }
    /// The file's path, for a backend that opens it with flags of its own.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.segment.path
    }
    /// Where to write, a multiple of 4096.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
    /// What to write; address and length are multiples of 4096.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// Writes and syncs the group. After a failure the log takes no more groups
    /// and nothing is retried: the kernel may have dropped what it could not write.
    ///
    /// # Errors
    /// `Io`, which ends the process.
    pub fn perform(&self) -> Result<(), Fatal> {
        refuse_after_failure(&self.failed, &self.segment.path)?;
        let path = &self.segment.path;
        let written = match self.segment.file.write_all_at(self.bytes(), self.offset) {
            Ok(()) if planted(Bug::SkipFlush) => Ok(()),
            Ok(()) => self
                .segment
                .file
                .sync_data()
                .or_else(|failed| {
                    let again =
                        planted(Bug::RetryFailedFlush).then(|| self.segment.file.sync_data());
                    again.unwrap_or(Err(failed))
                })
                .map_err(|source| Fatal::io("sync", path, source)),
            Err(source) => Err(Fatal::io("write", path, source)),
        };
        if written.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        written
    }
}

/// Nothing is written after a failed write or sync.
pub(super) fn refuse_after_failure(failed: &AtomicBool, path: &Path) -> Result<(), Fatal> {
    if failed.load(Ordering::SeqCst) {
        let source = std::io::Error::other("an earlier write or sync of the log failed");
        return Err(Fatal::io("append to", path, source));
    }
    Ok(())
}
