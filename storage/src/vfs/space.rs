//! Space of a file ahead of its bytes, and bytes on their way to the disk ahead of
//! their sync: two calls of Linux that the standard library does not have.
//!
//! Invariant: neither makes anything durable; that is `sync_data` alone.

#![expect(unsafe_code, reason = "libc's functions take descriptors as numbers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes the space for the first `length` bytes and makes the file that long, with
/// zeros where nothing was written. False where the file system cannot.
pub(super) fn allocate(file: &File, length: u64) -> io::Result<bool> {
    let length = offset(length)?;
    loop {
        // SAFETY: no memory is passed; the descriptor is open as long as `file` is borrowed.
        let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => return Ok(false),
            Some(libc::EINTR) => {}
            _ => return Err(error),
        }
    }
}

/// Writes these bytes of the page cache to the disk and waits until it has them,
/// without a flush of the disk's own cache. A file system that cannot leaves them
/// to the sync.
pub(super) fn write_back(file: &File, from: u64, length: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (from, length) = (offset(from)?, offset(length)?);
    // SAFETY: no memory is passed; the descriptor is open as long as `file` is borrowed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, flags) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE) => Ok(()),
        _ => Err(error),
    }
}

fn offset(bytes: u64) -> io::Result<libc::off64_t> {
    libc::off64_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}
