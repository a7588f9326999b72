//! Three background threads: the checkpoint thread owns the checkpointer and writes
//! index records, cold values and manifests; the segment thread prepares spare
//! segments of the log; the scrub thread reads all of it back. None is on the commit path.
//!
//! The checkpoint thread runs at a lower priority (`priority`), the scrub thread at the lowest.
//!
//! Invariants: jobs are done in order; a failure of the checkpoint or the scrub thread ends
//! the process. Limits: one checkpoint, one spare and one pass at a time, [`PAUSE`] between
//! runs.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use storage::checkpoint::{Checkpointer, Manifest};
use storage::error::Fatal;
use storage::raft_log::{Spare, SpareJob, Unprepared};
use tokio::sync::mpsc;

use super::die;
use super::priority::step_aside;
use super::scrub_thread;
use crate::engine::{CheckpointWork, ScrubWork, Scrubbed};
use crate::metrics::Metrics;

/// Between two pieces of a segment that is filled, 1 MiB each: at most 62 MiB a second,
/// so that the log's flushes get their turn on the disk. Several times what the log
/// takes; it has no pauses once the log comes near (`LOG_HURRY_SHARE`).
const FILL_PAUSE: Duration = Duration::from_millis(16);

/// Between two sorted runs, so that the log's flushes get their turn on the disk.
const PAUSE: Duration = Duration::from_millis(2);

/// What a background thread has done.
#[derive(Debug)]
pub(super) enum Done {
    /// This manifest is published.
    Checkpoint(Box<Manifest>),
    /// A job on a segment has ended.
    Spare(Result<Spare, Unprepared>),
    /// A pass over the files ended without a finding.
    Scrub(Scrubbed),
}

/// The core loop's end.
#[derive(Debug)]
pub(super) struct CheckpointWorker {
    work: SyncSender<CheckpointWork>,
    spares: SyncSender<SpareJob>,
    passes: SyncSender<ScrubWork>,
    done: mpsc::Receiver<Done>,
}

impl CheckpointWorker {
    /// Starts the threads.
    pub(super) fn start(mut checkpointer: Checkpointer, metrics: Arc<Metrics>) -> CheckpointWorker {
        let (work, to_do) = sync_channel::<CheckpointWork>(1);
        let (spares, to_prepare) = sync_channel::<SpareJob>(1);
        let (passes, to_scrub) = sync_channel::<ScrubWork>(1);
        let (report, done) = mpsc::channel(3);
        let report_spare = report.clone();
        let report_pass = report.clone();
        spawn("scrub", move || scrub_thread::run(&to_scrub, &report_pass));
        spawn("checkpoint", move || {
            step_aside();
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
            let mut failing = false;
            for job in to_prepare {
                let made = job.perform(&mut || thread::sleep(FILL_PAUSE));
                if let (Err(unprepared), false) = (&made, failing) {
                    let error = &unprepared.error;
                    tracing::warn!(%error, "cannot prepare a log segment; trying again");
                }
                failing = made.is_err();
                if report_spare.blocking_send(Done::Spare(made)).is_err() {
                    return;
                }
            }
        });
        CheckpointWorker {
            work,
            spares,
            passes,
            done,
        }
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

    /// Has a pass over the files made.
    pub(super) fn scrub(&self, work: ScrubWork) {
        self.passes
            .try_send(work)
            .expect("one pass at a time, and the thread lives");
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
