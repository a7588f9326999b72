//! An open file of the simulated disk.

use std::io;
use std::path::PathBuf;

use super::image::{Pending, settle};
use super::{OperationKind, SimDisk, at};
use crate::vfs::VfsFile;

#[derive(Debug)]
pub(super) struct SimFile {
    pub disk: SimDisk,
    pub path: PathBuf,
    pub inode: usize,
    /// What a read past the page cache sees; such a handle never writes.
    pub uncached: Option<Vec<u8>>,
}

impl VfsFile for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.alive(self.disk.generation)?;
        if state.fails(OperationKind::Read) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let cached = &state.inode(self.inode).cached;
        let bytes = self.uncached.as_ref().unwrap_or(cached);
        let part = bytes.get(at(offset)..at(offset).saturating_add(buf.len()));
        buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        assert!(self.uncached.is_none(), "opened for reading only");
        self.disk
            .perform(OperationKind::Write, &self.path, |state, part| {
                state.check_space(self.inode, offset + data.len() as u64)?;
                let length = if part { data.len() / 2 } else { data.len() };
                let data = data.get(..length).unwrap_or_default().to_vec();
                let inode = state.inode(self.inode);
                inode.push(Pending::Write {
                    offset: at(offset),
                    data,
                });
                Ok(())
            })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk
            .perform(OperationKind::Sync, &self.path, |state, part| {
                let mut random = state.draw();
                let inode = state.inode(self.inode);
                if part {
                    settle(&mut inode.durable, &inode.pending, &mut random);
                } else {
                    inode.settle_all();
                }
                // Also after a failure: the kernel marks the pages clean.
                inode.pending.clear();
                Ok(())
            })
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.alive(self.disk.generation)?;
        let cached = state.inode(self.inode).cached.len();
        Ok(self.uncached.as_ref().map_or(cached, Vec::len) as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        assert!(self.uncached.is_none(), "opened for reading only");
        self.disk
            .perform(OperationKind::SetLen, &self.path, |state, _| {
                state.check_space(self.inode, length)?;
                state.inode(self.inode).push(Pending::Length(at(length)));
                Ok(())
            })
    }

    fn raw_fd(&self) -> Option<i32> {
        None
    }
}
