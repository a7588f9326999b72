//! The counter by which the kernel tells the end of a write.

#![expect(unsafe_code, reason = "libc makes the counter, tokio watches a number")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes an eventfd.
pub(super) fn eventfd() -> io::Result<Arc<OwnedFd>> {
    // SAFETY: no pointer is involved.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(Arc::new(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Has the runtime watch it. It is never read: it is registered for edges, and
/// each end of a write is one.
pub(super) fn watch(event: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor is owned by the result, stays open as long as that, and is the same
    // for every call.
    Ok(unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) }?)
}
