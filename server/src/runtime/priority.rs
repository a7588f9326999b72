//! A background thread steps aside for those that somebody waits for.

/// How much less of a contended processor the thread takes: a quarter, which is enough to
/// end a checkpoint before the next is due.
const NICE: libc::c_int = 5;

/// Lowers the priority of the calling thread and of those that it starts. Where the system
/// does not let us, all goes on as before.
#[expect(
    unsafe_code,
    reason = "nothing safe changes the priority of one thread"
)]
pub(super) fn step_aside() {
    // SAFETY: no pointer is involved. On Linux 0 is the calling thread, not the process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "cannot lower the priority of a background thread");
    }
}
