//! `io_uring`: a ring shared with the kernel, told by the crate `io-uring`.
//!
//! Invariant: the one write in flight is owned here until its completion was seen.

#![expect(unsafe_code, reason = "the kernel reads memory that we own")]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{IoUring, opcode, types};

use super::direct::{DirectWrite, Ended, Queue};

/// One write is in flight; the kernel takes no fewer entries than a power of two.
const ENTRIES: u32 = 2;

pub(super) struct Uring {
    ring: IoUring,
    in_flight: Option<DirectWrite>,
}

impl Uring {
    pub(super) fn open(event: &OwnedFd) -> io::Result<Uring> {
        // Completions are posted when the thread enters the kernel anyway, without
        // an interrupt of their own. Linux before 5.19 does not know that.
        let cooperative = IoUring::builder().setup_coop_taskrun().build(ENTRIES);
        let ring = match cooperative {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => IoUring::new(ENTRIES)?,
            other => other?,
        };
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(Uring {
            ring,
            in_flight: None,
        })
    }
}

impl Queue for Uring {
    fn submit(&mut self, write: DirectWrite) -> io::Result<()> {
        assert!(self.in_flight.is_none(), "one write at a time");
        let write = self.in_flight.insert(write);
        let bytes = write.bytes();
        let length = u32::try_from(bytes.len()).expect("a group is below 4 GiB");
        let file = types::Fd(write.file.as_raw_fd());
        let entry = opcode::Write::new(file, bytes.as_ptr(), length)
            .offset(write.offset)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        // SAFETY: `in_flight` keeps file and bytes, at the same address and unchanged, until
        // `reap` has seen the completion; dropped before that, they are leaked (`drop`).
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(io::Error::other)?;
        loop {
            match self.ring.submit() {
                Ok(1) => return Ok(()),
                Ok(_) => return Err(io::Error::other("the ring took no write")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn reap(&mut self) -> io::Result<Option<Ended>> {
        let Some(completion) = self.ring.completion().next() else {
            return Ok(None);
        };
        let write = self.in_flight.take().expect("a write ends once");
        let outcome = write.outcome(i64::from(completion.result()));
        Ok(Some((write, outcome)))
    }

    fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.reap()? {
                return Ok(ended);
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}

impl Drop for Uring {
    /// The kernel may still read the bytes of a write whose end nobody saw.
    fn drop(&mut self) {
        if let Some(write) = self.in_flight.take() {
            std::mem::forget(write);
        }
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uring({:?})", self.in_flight)
    }
}
