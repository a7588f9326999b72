//! When a checkpoint is made and what goes into it; which segments are cleaned.
//!
//! Owned by the core loop, which only collects references, a slice a turn; the
//! checkpoint thread reads the values that move and writes everything
//! (`checkpoint_worker`). Invariants: one checkpoint at a time; no purge while
//! one is being collected, so that records and removals describe one moment; a
//! segment is retired only after the manifest that leaves it out is durable.
//! Limits: [`CHECKPOINT_LOG_BYTES`], [`MOVED_BYTES_PER_CHECKPOINT`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use storage::checkpoint::{CheckpointJob, Checkpointer, Manifest};
use storage::raft_log::Spare;
use storage::types::{KeyValueRef, Place, RecordMeta, Revision, SegmentNumber};

use crate::metrics::Metrics;

use super::checkpoint_worker::{CheckpointWorker, Done, Work};
use super::core_loop::Core;
use super::die;
use super::limits::{
    CHECKPOINT_INTERVAL, CHECKPOINT_LOG_BYTES, COLLECT_SLICE_RECORDS, MOVED_BYTES_PER_CHECKPOINT,
};

/// A value that leaves its segment for the cold store.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) revision: Revision,
    pub(super) place: Place,
    /// The bytes, when the segment is gone already: a value that a record took
    /// over by `ignore_value` from one that lies in the cold store.
    pub(super) value: Option<Bytes>,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Checkpoints {
    worker: CheckpointWorker,
    published: Manifest,
    /// What the purge dropped since the last collection.
    dropped: Vec<(Revision, Place)>,
    /// A record has taken over the value of another one since the last collection.
    inherited: bool,
    log_bytes: u64,
    last: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Collecting(Box<Collecting>),
    Writing { leaving: BTreeSet<SegmentNumber> },
}

#[derive(Debug)]
struct Collecting {
    manifest: Manifest,
    leaving: BTreeSet<SegmentNumber>,
    kept: BTreeSet<SegmentNumber>,
    after: Revision,
    records: Vec<Arc<RecordMeta>>,
    moves: Vec<Move>,
}

impl Checkpoints {
    pub(super) fn new(checkpointer: Checkpointer, metrics: Arc<Metrics>) -> Checkpoints {
        let published = checkpointer.published().clone();
        Checkpoints {
            worker: CheckpointWorker::start(checkpointer, metrics),
            published,
            dropped: Vec::new(),
            inherited: false,
            log_bytes: 0,
            last: Instant::now(),
            state: State::Idle,
        }
    }

    /// A group of this many bytes went to the log.
    pub(super) fn appended(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// The purge dropped these records.
    pub(super) fn purged(&mut self, dropped: Vec<(Revision, Place)>) {
        assert!(
            !self.is_collecting(),
            "no purge while a checkpoint is collected"
        );
        self.dropped.extend(dropped);
    }

    /// A record took over the value of another one.
    pub(super) fn inherited(&mut self) {
        self.inherited = true;
    }

    /// True while the purge must stand still.
    pub(super) fn is_collecting(&self) -> bool {
        matches!(self.state, State::Collecting(_))
    }

    /// True while values must stay in memory: one that was taken over may be
    /// found in the cold store under its new revision only after a checkpoint.
    pub(super) fn holds_eviction(&self) -> bool {
        self.inherited || !matches!(self.state, State::Idle)
    }

    /// Completes with what the worker has done. Cancel safe.
    pub(super) async fn done(&mut self) -> Done {
        self.worker.done().await
    }
}

impl Core {
    /// Begins a checkpoint when one is due. Called on ticks.
    pub(super) fn checkpoint_when_due(&mut self) {
        let checkpoints = &self.checkpoints;
        if !matches!(checkpoints.state, State::Idle) {
            return;
        }
        let news = self.machine.applied_index() > checkpoints.published.applied_index;
        let late = checkpoints.last.elapsed() >= CHECKPOINT_INTERVAL;
        let taken_over = checkpoints.inherited;
        let due = checkpoints.log_bytes >= CHECKPOINT_LOG_BYTES || late || taken_over;
        if news && due {
            self.begin_checkpoint();
        }
    }

    fn begin_checkpoint(&mut self) {
        let leaving = self.choose_leaving();
        let mut manifest = self.checkpoints.published.clone();
        manifest.describe(&self.machine);
        let kept: BTreeSet<SegmentNumber> = self
            .log
            .segments()
            .map(|segment| segment.number)
            .filter(|number| !leaving.contains(number))
            .collect();
        manifest.segments = kept.iter().copied().collect();
        let identity = self.view.identity();
        for member in &mut manifest.members {
            if member.id == identity.member_id {
                member.name.clone_from(&identity.name);
                member.client_urls.clone_from(&identity.client_urls);
            }
        }
        // Survivors of a leaving segment may be of any age.
        let after = if leaving.is_empty() {
            self.checkpoints.published.bound
        } else {
            Revision::default()
        };
        self.checkpoints.log_bytes = 0;
        self.checkpoints.last = Instant::now();
        self.checkpoints.inherited = false;
        self.checkpoints.state = State::Collecting(Box::new(Collecting {
            manifest,
            leaving,
            kept,
            after,
            records: Vec::new(),
            moves: Vec::new(),
        }));
    }

    /// Sealed segments that replay does not need and whose values are less than
    /// half live, oldest first, until enough would move.
    fn choose_leaving(&self) -> BTreeSet<SegmentNumber> {
        let usage = self.machine.mvcc().segment_usage();
        let mut room = MOVED_BYTES_PER_CHECKPOINT;
        let mut leaving = BTreeSet::new();
        for segment in self.log.segments() {
            let live_bytes = usage.live_bytes(segment.number);
            let mostly_dead = live_bytes.saturating_mul(2) < segment.bytes_used;
            if self.log.can_retire(segment.number) && mostly_dead && live_bytes <= room {
                room -= live_bytes;
                leaving.insert(segment.number);
            }
        }
        leaving
    }

    /// One slice of a collection; hands the job over when it is complete.
    pub(super) fn collect_slice(&mut self) {
        let State::Collecting(collecting) = &mut self.checkpoints.state else {
            return;
        };
        let bound = collecting.manifest.bound;
        let published = self.checkpoints.published.bound;
        let slice = self
            .machine
            .mvcc()
            .records_slice(collecting.after, COLLECT_SLICE_RECORDS);
        let mut complete = slice.len() < COLLECT_SLICE_RECORDS;
        for record in slice {
            let (revision, place) = (record.meta.revision, record.meta.place);
            if revision > bound {
                complete = true;
                break;
            }
            collecting.after = revision;
            if place.length > 0 {
                let leaves = collecting.leaving.contains(&place.segment);
                // A value that was taken over from a segment which is gone.
                let homeless = revision > published && !collecting.kept.contains(&place.segment);
                if leaves || homeless {
                    let value = homeless
                        .then(|| resident_value(&record.key_value))
                        .flatten();
                    collecting.moves.push(Move {
                        revision,
                        place,
                        value,
                    });
                }
            }
            if revision > published {
                collecting.records.push(record.meta);
            }
        }
        if complete {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let State::Collecting(collecting) =
            std::mem::replace(&mut self.checkpoints.state, State::Idle)
        else {
            unreachable!("called at the end of a collection");
        };
        let Collecting {
            manifest,
            leaving,
            records,
            moves,
            ..
        } = *collecting;
        let removed = std::mem::take(&mut self.checkpoints.dropped);
        let job = CheckpointJob {
            records,
            removed,
            manifest,
        };
        self.checkpoints.worker.submit(Work {
            job,
            moves,
            values: self.values.clone(),
        });
        self.checkpoints.state = State::Writing { leaving };
    }

    /// A checkpoint is durable, or a spare segment is ready.
    pub(super) fn background_done(&mut self, done: Done) {
        match done {
            Done::Checkpoint(manifest) => self.checkpointed(*manifest),
            Done::Spare(spare) => self.spare_ready(spare),
        }
    }

    fn checkpointed(&mut self, manifest: Manifest) {
        let state = std::mem::replace(&mut self.checkpoints.state, State::Idle);
        let State::Writing { leaving } = state else {
            unreachable!("a checkpoint is done that nobody asked for");
        };
        self.log.release(manifest.applied_index);
        for segment in &leaving {
            if let Err(fatal) = self.log.retire(*segment) {
                die(&fatal);
            }
        }
        tracing::info!(
            applied_index = manifest.applied_index.0,
            revision = manifest.current_revision,
            segments = manifest.segments.len(),
            cleaned_segments = leaving.len(),
            "published a checkpoint"
        );
        self.checkpoints.published = manifest;
    }

    /// Segments that the manifest left out and a crash left behind.
    pub(super) fn retire_left_over(&mut self) {
        let left: Vec<SegmentNumber> = self
            .log
            .segments()
            .map(|segment| segment.number)
            .filter(|number| self.checkpoints.published.left_out(*number))
            .collect();
        for segment in left {
            if let Err(fatal) = self.log.retire(segment) {
                die(&fatal);
            }
        }
    }

    /// Has the next segment prepared in the background.
    pub(super) fn prepare_spare(&mut self) {
        if let Some(job) = self.log.spare_job() {
            self.checkpoints.worker.prepare(job);
        }
    }

    fn spare_ready(&mut self, spare: Option<Spare>) {
        if let Some(spare) = spare {
            self.log.add_spare(spare);
        }
    }
}

fn resident_value(reference: &KeyValueRef) -> Option<Bytes> {
    match reference {
        KeyValueRef::Resident(encoded) => Some(Bytes::copy_from_slice(encoded.value())),
        KeyValueRef::Stored(_) => None,
    }
}
