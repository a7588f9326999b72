//! Background threads step aside for those that somebody waits for. Where the system does not
//! let them, all goes on as before: their own pauses bound what they take.

#![expect(unsafe_code, reason = "libc has the only way to a thread's priorities")]

use std::io;

/// How much less of a contended processor the checkpoint thread takes: a quarter, which is
/// enough to end a checkpoint before the next is due.
const LOWER_NICE: libc::c_int = 5;
/// The lowest priority of the processor.
const IDLE_NICE: libc::c_int = 19;
/// `IOPRIO_WHO_PROCESS`, and `IOPRIO_CLASS_IDLE` in its place.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_IDLE: libc::c_int = 3 << 13;

/// Lowers the priority of the calling thread and of those that it starts.
pub(super) fn step_aside() {
    be_nice(LOWER_NICE);
}

/// Gives the calling thread idle priority for processor and disk.
pub(super) fn idle() {
    be_nice(IDLE_NICE);
    // SAFETY: no pointer is involved. On Linux 0 is the calling thread, not the process.
    told(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) == 0 });
}

fn be_nice(nice: libc::c_int) {
    // SAFETY: no pointer is involved. On Linux 0 is the calling thread, not the process.
    told(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 });
}

fn told(granted: bool) {
    if !granted {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "cannot lower the priority of a background thread");
    }
}
