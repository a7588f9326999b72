//! The writing side of a connection: many small answers leave in one call to the kernel.
//!
//! `h2` writes after every frame of more than 256 bytes, so 16 answers of 1 KiB would cost 16
//! calls, each of which wakes the client. Here hyper writes into a buffer, and whoever drives the
//! connection sends it on after each of hyper's turns. Owns the stream and that buffer, which both
//! ends share; a connection is driven by one task, so the lock is never contended.
//!
//! Invariants: bytes leave in the order in which they came; what is too large to gather goes out
//! behind what waits, in one call and without a copy; nothing waits once [`Drain::poll`] has
//! completed. Limit: [`GATHERED_BYTES_MAX`] a connection, none while it is idle, and one for
//! the thread, which the next connection's turn takes over.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::GATHERED_BYTES_MAX;

/// Slices handed to the kernel in one call; what is beyond waits for the next.
const SLICES_MAX: usize = 16;

/// A stream whose writes are gathered; hyper's end.
#[derive(Debug)]
pub(super) struct Gather<I> {
    shared: Arc<Mutex<Shared<I>>>,
}

/// The end that sends what was gathered.
#[derive(Debug)]
pub(super) struct Drain<I> {
    shared: Arc<Mutex<Shared<I>>>,
}

thread_local! {
    /// A buffer that the last turn has emptied; without capacity while it is taken.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[derive(Debug)]
struct Shared<I> {
    stream: I,
    gathered: Vec<u8>,
    /// How much of `gathered` the kernel has taken already.
    sent: usize,
}

/// Both ends over one stream.
pub(super) fn gather<I>(stream: I) -> (Gather<I>, Drain<I>) {
    let shared = Arc::new(Mutex::new(Shared {
        stream,
        gathered: Vec::new(),
        sent: 0,
    }));
    let drain = Drain {
        shared: Arc::clone(&shared),
    };
    (Gather { shared }, drain)
}

#[cfg(test)]
impl<I> Gather<I> {
    /// Lets a test change the stream below.
    pub(super) fn with_stream(&self, change: impl FnOnce(&mut I)) {
        change(&mut self.shared.lock().stream);
    }
}

impl<I: AsyncWrite + Unpin> Drain<I> {
    /// Completes once everything that was written is with the kernel.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_drain(context)
    }
}

impl<I: AsyncWrite + Unpin> Shared<I> {
    fn waiting(&self) -> &[u8] {
        self.gathered.get(self.sent..).unwrap_or_default()
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let waiting = self.gathered.get(self.sent..).unwrap_or_default();
            let taken = ready!(Pin::new(&mut self.stream).poll_write(context, waiting))?;
            self.took(taken)?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// The kernel took so many of the bytes that wait.
    fn took(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += bytes;
        assert!(self.sent <= self.gathered.len(), "only what waits is sent");
        if self.sent == self.gathered.len() {
            self.put_back();
        }
        Ok(())
    }

    /// An idle connection keeps no buffer.
    fn put_back(&mut self) {
        let mut emptied = std::mem::take(&mut self.gathered);
        emptied.clear();
        SPARE.set(emptied);
        self.sent = 0;
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let waiting = self.waiting().len();
            if self.gathered.len() + length <= GATHERED_BYTES_MAX {
                if self.gathered.capacity() == 0 {
                    self.gathered = SPARE.take();
                    self.gathered.reserve_exact(GATHERED_BYTES_MAX);
                }
                for slice in slices {
                    self.gathered.extend_from_slice(slice);
                }
                return Poll::Ready(Ok(length));
            }
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            let first = self.gathered.get(self.sent..).unwrap_or_default();
            let sources = std::iter::once(first).chain(slices.iter().map(|slice| &**slice));
            for (place, source) in all.iter_mut().zip(sources) {
                *place = IoSlice::new(source);
            }
            let taken = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &all))?;
            match taken.checked_sub(waiting) {
                Some(beyond) if beyond > 0 => {
                    self.put_back();
                    return Poll::Ready(Ok(beyond));
                }
                _ => self.took(taken)?,
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gather<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.shared.lock().stream).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gather<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared
            .lock()
            .poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done by [`Drain::poll`], at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        ready!(shared.poll_drain(context))?;
        Pin::new(&mut shared.stream).poll_shutdown(context)
    }
}
