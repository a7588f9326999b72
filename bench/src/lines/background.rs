//! Work beside the measured clients, on a thread and a runtime of its own, so that it does not
//! stand in their way within the load generator.
//!
//! Invariant: what failed in the background is an error of the line.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::failure::Failure;

/// Told to the work: whether it shall end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether the line is over.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Work under way.
#[derive(Debug)]
pub struct Background {
    stop: Stop,
    thread: JoinHandle<Result<u64, Failure>>,
}

type Work = Pin<Box<dyn Future<Output = Result<u64, Failure>>>>;

impl Background {
    /// Begins `work`, which ends soon after its [`Stop`] is set and tells how often it was done.
    pub fn start(work: impl FnOnce(Stop) -> Work + Send + 'static) -> Result<Background, Failure> {
        let stop = Stop::default();
        let own = stop.clone();
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(work(own))
            })?;
        Ok(Background { stop, thread })
    }

    /// Ends it: how often it was done.
    pub fn end(self) -> Result<u64, Failure> {
        self.stop.0.store(true, Ordering::Relaxed);
        self.thread.join().expect("the background does not panic")
    }
}
