//! Linux AIO: the older queue of the kernel, allowed where `io_uring` is not. Its
//! calls and structures are those of `linux/aio_abi.h`.
//!
//! Invariant: the one write in flight is owned here until its end was seen.

#![expect(unsafe_code, reason = "libc has no functions for these system calls")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use super::direct::{DirectWrite, Ended, Queue};

/// `IOCB_CMD_PWRITE`.
const COMMAND_PWRITE: u16 = 1;

/// `IOCB_FLAG_RESFD`: the end is told by an eventfd.
const FLAG_EVENT: u32 = 1;

/// `struct iocb`.
#[repr(C)]
#[derive(Default)]
struct ControlBlock {
    data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    rw_flags: i32,
    #[cfg(target_endian = "big")]
    key: u32,
    command: u16,
    priority: i16,
    file: i32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event: i32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    block: u64,
    result: i64,
    result2: i64,
}

#[derive(Debug)]
pub(super) struct Aio {
    /// `aio_context_t`.
    context: libc::c_ulong,
    event: Arc<OwnedFd>,
    in_flight: Option<DirectWrite>,
}

impl Aio {
    pub(super) fn open(event: Arc<OwnedFd>) -> io::Result<Aio> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one number through the pointer, during the call.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) };
        check(result)?;
        Ok(Aio {
            context,
            event,
            in_flight: None,
        })
    }

    /// Reads one completion; with `least` 1 it waits.
    fn events(&mut self, least: libc::c_long) -> io::Result<Option<Ended>> {
        let mut event = Event::default();
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let timeout = if least == 0 {
            &raw const now
        } else {
            ptr::null()
        };
        // SAFETY: the kernel writes at most one event, for which there is room, and reads the
        // timeout, both during the call.
        let result = unsafe {
            let most: libc::c_long = 1;
            let event = &raw mut event;
            let call = libc::SYS_io_getevents;
            libc::syscall(call, self.context, least, most, event, timeout)
        };
        match check(result) {
            Ok(0) => Ok(None),
            Ok(_) => {
                let write = self.in_flight.take().expect("a write ends once");
                let outcome = write.outcome(event.result);
                Ok(Some((write, outcome)))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Queue for Aio {
    fn submit(&mut self, write: DirectWrite) -> io::Result<()> {
        assert!(self.in_flight.is_none(), "one write at a time");
        let write = self.in_flight.insert(write);
        let bytes = write.bytes();
        let block = ControlBlock {
            rw_flags: libc::RWF_DSYNC,
            command: COMMAND_PWRITE,
            file: write.file.as_raw_fd(),
            buffer: bytes.as_ptr().expose_provenance() as u64,
            length: bytes.len() as u64,
            offset: i64::try_from(write.offset).expect("a segment is below 4 GiB"),
            flags: FLAG_EVENT,
            event: self.event.as_raw_fd(),
            ..ControlBlock::default()
        };
        loop {
            let blocks = [&raw const block];
            let count: libc::c_long = 1;
            // SAFETY: the kernel copies the control block during the call. `in_flight` keeps file
            // and bytes, at the same address and unchanged, until `events` has seen the end;
            // dropping `self` waits for it.
            let result =
                unsafe { libc::syscall(libc::SYS_io_submit, self.context, count, blocks.as_ptr()) };
            match check(result) {
                Ok(1) => return Ok(()),
                Ok(_) => return Err(io::Error::other("the queue took no write")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn reap(&mut self) -> io::Result<Option<Ended>> {
        self.events(0)
    }

    fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.events(1)? {
                return Ok(ended);
            }
        }
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context is ours and not used again. The call waits for a write in flight,
        // whose bytes are dropped after this body.
        let result = unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
        assert!(result == 0, "a context is destroyed once");
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
