//! Time, threads and bounded channels around the sans-IO parts; no decisions of
//! its own about consensus or data.
//!
//! One thread, the *core loop*, owns the engine (`crate::engine`). Everyone else
//! holds a [`Handle`]: one bounded channel to the loop, a [`View`] of published
//! numbers, and [`Values`] to fetch what is not in memory.

mod auto_compaction;
mod checkpoint_worker;
mod core_loop;
mod flush;
mod handle;
mod limits;
mod memory_guard;
mod meters;
mod priority;
mod scrub_thread;
mod shell;
mod values;
mod view;
mod warm_up;

pub use crate::engine::{
    Applied, CountSlice, HashKvJob, HashKvWalk, History, LeaseState, OpenedRead, Pin, ReadSlice,
    ReadTxn, Rejected, SLICE_KEY_VALUES_MAX, SnapshotStart, StatusNumbers, field_bytes,
};
pub use auto_compaction::run as run_auto_compaction;
pub use core_loop::{Core, Parts};
pub use flush::{Choice as FlushChoice, Flusher};
pub use handle::Handle;
pub use memory_guard::run as run_memory_guard;
pub use values::Values;
pub use view::{Identity, View};
pub use warm_up::run as run_warm_up;

use storage::error::Fatal;

/// Ends the process after a failure that cannot be survived (reliability 5): one
/// log line, then exit code 1. What was not answered was not promised.
pub fn die(fatal: &Fatal) -> ! {
    tracing::error!(error = %fatal, "cannot go on; stopping now so that nothing false is answered");
    std::process::exit(1);
}
