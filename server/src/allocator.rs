//! The program's allocator, and the thread that gives free memory back to the system.
//!
//! mimalloc gives back what has been free for a second, and does it in the midst of
//! whatever allocation comes next. After a compaction of 240,000 revisions that held the
//! core loop for 25 ms. Here another thread does it sooner, so that nothing is left for
//! the loop. Limit: [`INTERVAL`] is well below mimalloc's second.

#![expect(unsafe_code, reason = "mimalloc's own call has no safe form")]

use std::thread;
use std::time::Duration;

/// How often free memory is given back.
const INTERVAL: Duration = Duration::from_millis(250);

/// Takes 8 to 16 % off the CPU of a request (docs/dependencies.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    /// Gives free memory back to the system; with `force` however short it has been free.
    fn mi_collect(force: bool);
}

/// Starts the thread; it ends with the process.
pub fn give_back() {
    let body = || {
        loop {
            thread::sleep(INTERVAL);
            // SAFETY: may be called by any thread at any time; the library is linked in as the
            // global allocator, and this is its signature.
            unsafe { mi_collect(true) };
        }
    };
    let thread = thread::Builder::new().name("memory".to_owned()).spawn(body);
    // Without it mimalloc gives memory back by itself.
    drop(thread);
}
