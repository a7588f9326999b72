//! Two background threads: the checkpoint thread owns the checkpointer and writes
//! index records, cold values and manifests; the segment thread prepares spare
//! segments of the log. Neither is on the commit path.
//!
//! Invariants: jobs are done in order; a failure of the checkpoint thread ends the
//! process. Limits: one checkpoint and one spare at a time, [`PAUSE`] between runs.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use storage::checkpoint::{Checkpointer, Manifest};
use storage::error::Fatal;
use storage::raft_log::{Spare, SpareJob};
use tokio::sync::mpsc;

use super::die;
use crate::engine::CheckpointWork;
use crate::metrics::Metrics;

/// Between two sorted runs, so that the log's flushes get their turn on the disk.
const PAUSE: Duration = Duration::from_millis(2);

/// What a background thread has done.
#[derive(Debug)]
pub(super) enum Done {
    /// This manifest is published.
    Checkpoint(Box<Manifest>),
    /// A spare segment is ready; None when it could not be made.
    Spare(Option<Spare>),
}

/// The core loop's end.
#[derive(Debug)]
pub(super) struct CheckpointWorker {
    work: SyncSender<CheckpointWork>,
    spares: SyncSender<SpareJob>,
    done: mpsc::Receiver<Done>,
}

impl CheckpointWorker {
    /// Starts the threads.
    pub(super) fn start(mut checkpointer: Checkpointer, metrics: Arc<Metrics>) -> CheckpointWorker {
        let (work, to_do) = sync_channel::<CheckpointWork>(1);
        let (spares, to_prepare) = sync_channel::<SpareJob>(1);
        let (report, done) = mpsc::channel(2);
        let report_spare = report.clone();
        spawn("checkpoint", move || {
            for work in to_do {
                let began = Instant::now();
                let manifest = match make(&mut checkpointer, work) {
                    Ok(manifest) => manifest,
                    Err(fatal) => die(&fatal),
                };
                let duration = &metrics.member.backend_commit_duration;
                duration.observe_seconds(began.elapsed());
                if report
                    .blocking_send(Done::Checkpoint(Box::new(manifest)))
                    .is_err()
                {
                    return;
                }
            }
        });
        spawn("segments", move || {
            for job in to_prepare {
                let spare = match job.perform() {
                    Ok(spare) => Some(spare),
                    Err(fatal) => {
                        tracing::warn!(error = %fatal, "cannot prepare a log segment; trying again");
                        None
                    }
                };
                if report_spare.blocking_send(Done::Spare(spare)).is_err() {
                    return;
                }
            }
        });
        CheckpointWorker { work, spares, done }
    }

    /// Hands over one checkpoint.
    pub(super) fn submit(&self, work: CheckpointWork) {
        self.work
            .try_send(work)
            .expect("one checkpoint at a time, and the thread lives");
    }

    /// Has a spare segment prepared.
    pub(super) fn prepare(&self, job: SpareJob) {
        self.spares
            .try_send(job)
            .expect("one spare at a time, and the thread lives");
    }

    /// What was done. Cancel safe.
    pub(super) async fn done(&mut self) -> Done {
        self.done
            .recv()
            .await
            .expect("the threads live as long as the core loop")
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    drop(thread.expect("the operating system gives a thread at start"));
}

fn make(checkpointer: &mut Checkpointer, mut work: CheckpointWork) -> Result<Manifest, Fatal> {
    let mut between = || thread::sleep(PAUSE);
    loop {
        if let Some(manifest) = work.step(checkpointer, &mut between)? {
            return Ok(manifest);
        }
    }
}
