//! SIGTERM and SIGINT: the first asks for a graceful stop, a second one ends the process at once
//! (contract 4.1, trap 26).
//!
//! Runs as one task of the runtime it is started on. Invariant: a process that was told to stop by
//! a signal dies of that signal, so that whoever waits for it sees why; but not as process 1, which
//! the kernel does not let die so. Limits: none.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::shutdown::{ShutdownTrigger, StopCause};

/// Starts to listen for signals, on the runtime that this is called in.
///
/// # Errors
/// The kernel refuses to have the signals handled.
pub fn listen(trigger: ShutdownTrigger) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut stopping = false;
        loop {
            let (cause, name) = tokio::select! {
                _ = terminate.recv() => (StopCause::Terminate, "terminated"),
                _ = interrupt.recv() => (StopCause::Interrupt, "interrupt"),
            };
            if stopping {
                tracing::warn!(signal = %name, "received a second signal; ending at once");
                die_of(cause);
            }
            stopping = true;
            tracing::info!(signal = %name, "received signal; shutting down");
            trigger.request(cause);
        }
    });
    Ok(())
}

/// Ends the process the way the cause asks for. Everything has been closed by now.
pub fn die_of(cause: StopCause) -> ! {
    let number = match cause {
        StopCause::Terminate => libc::SIGTERM,
        StopCause::Interrupt => libc::SIGINT,
        StopCause::Requested => std::process::exit(0),
    };
    if std::process::id() != 1 {
        raise_with_default_action(number);
    }
    std::process::exit(0)
}

#[expect(unsafe_code, reason = "libc has the only way to die of a signal")]
fn raise_with_default_action(number: libc::c_int) {
    // SAFETY: both calls take plain numbers; the default action touches no memory of ours, and no
    // handler of ours runs any more for this signal.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
    }
}
