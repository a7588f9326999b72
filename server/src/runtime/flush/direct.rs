//! A direct, synced write, and what a queue of the kernel does with it.
//!
//! Invariant: a [`DirectWrite`] owns its bytes; a queue keeps it until the kernel
//! reports its end, and gives it back then.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use storage::raft_log::GroupWrite;
use storage::vfs::aligned::{AlignedBuffer, BLOCK_BYTES};

/// One write to a file that was opened by [`open_direct`].
#[derive(Debug)]
pub(super) struct DirectWrite {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) payload: Payload,
}

/// What is written. Its bytes stay where they are when it is moved.
#[derive(Debug)]
pub(super) enum Payload {
    Group(GroupWrite),
    Block(AlignedBuffer),
}

impl DirectWrite {
    /// Address and length are multiples of a block.
    pub(super) fn bytes(&self) -> &[u8] {
        let bytes = match &self.payload {
            Payload::Group(group) => group.bytes(),
            Payload::Block(buffer) => buffer.as_slice(),
        };
        assert!(
            bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
                && bytes.len().is_multiple_of(BLOCK_BYTES)
                && !bytes.is_empty(),
            "a direct write consists of whole blocks"
        );
        bytes
    }

    /// What the kernel's number for an ended write means: bytes, or a negated
    /// error. A short write is a failure, since nobody completes it.
    pub(super) fn outcome(&self, number: i64) -> io::Result<()> {
        match usize::try_from(number) {
            Ok(count) if count == self.bytes().len() => Ok(()),
            Ok(count) => {
                let text = format!("{count} of {} bytes were written", self.bytes().len());
                Err(io::Error::new(io::ErrorKind::WriteZero, text))
            }
            Err(_) => {
                let code = i32::try_from(-number).unwrap_or(libc::EIO);
                Err(io::Error::from_raw_os_error(code))
            }
        }
    }
}

/// A write that has ended, and how.
pub(super) type Ended = (DirectWrite, io::Result<()>);

/// A queue of the kernel. One write at a time.
pub(super) trait Queue: Debug + Send {
    /// Has the write performed and synced. Its end is told by the eventfd.
    fn submit(&mut self, write: DirectWrite) -> io::Result<()>;
    /// The write, once it has ended.
    fn reap(&mut self) -> io::Result<Option<Ended>>;
    /// Waits for the end of the write.
    fn wait(&mut self) -> io::Result<Ended>;
}

/// Opens a segment for writes past the page cache. What was cached of the blocks
/// written is dropped by the kernel before such a write ends, so reads through the
/// cache see it.
pub(super) fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
}
