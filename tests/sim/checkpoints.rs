//! Checkpoints of the member: what `runtime/checkpoints.rs` and
//! `checkpoint_worker.rs` do, with the worker's thread as steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::checkpoint::{CheckpointJob, Checkpointer, ColdValue, Manifest};
use storage::error::Fatal;
use storage::types::{KeyValueRef, Place, RecordMeta, Revision, SegmentNumber};

use crate::bugs::{self, Bug};
use crate::member::Member;

/// Values that the worker ingests in one step.
const BATCH_VALUES: usize = 4;

#[derive(Debug)]
struct Move {
    revision: Revision,
    place: Place,
    value: Option<Bytes>,
}

#[derive(Debug)]
pub struct Checkpoints {
    checkpointer: Checkpointer,
    published: Manifest,
    dropped: Vec<(Revision, Place)>,
    inherited: bool,
    log_bytes: u64,
    last: Instant,
    state: State,
    /// How many were made, how many segments cleaned, how many values moved.
    pub made: u64,
    pub cleaned: u64,
    pub moved: u64,
}

#[derive(Debug)]
enum State {
    Idle,
    Collecting(Box<Collecting>),
    /// The worker has the job; `ingested` of its moves are in the store.
    Writing {
        leaving: BTreeSet<SegmentNumber>,
        job: Box<CheckpointJob>,
        moves: Vec<Move>,
        ingested: usize,
    },
    Done {
        leaving: BTreeSet<SegmentNumber>,
    },
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
    pub fn new(checkpointer: Checkpointer, now: Instant) -> Checkpoints {
        let published = checkpointer.published().clone();
        Checkpoints {
            checkpointer,
            published,
            dropped: Vec::new(),
            inherited: false,
            log_bytes: 0,
            last: now,
            state: State::Idle,
            made: 0,
            cleaned: 0,
            moved: 0,
        }
    }

    pub fn appended(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    pub fn purged(&mut self, dropped: Vec<(Revision, Place)>) {
        assert!(
            !self.is_collecting(),
            "no purge while a checkpoint is collected"
        );
        self.dropped.extend(dropped);
    }

    pub fn inherited(&mut self) {
        self.inherited = true;
    }

    pub fn is_collecting(&self) -> bool {
        matches!(self.state, State::Collecting(_))
    }

    pub fn holds_eviction(&self) -> bool {
        self.inherited || !matches!(self.state, State::Idle)
    }
}

impl Member {
    pub fn checkpoint_when_due(&mut self) {
        let checkpoints = &self.checkpoints;
        if !matches!(checkpoints.state, State::Idle) {
            return;
        }
        let interval = Duration::from_millis(self.settings.checkpoint_interval_ms);
        let news = self.machine.applied_index() > checkpoints.published.applied_index;
        let late = self.now.duration_since(checkpoints.last) >= interval;
        let full = checkpoints.log_bytes >= self.settings.checkpoint_log_bytes;
        if news && (full || late || checkpoints.inherited) {
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
        let after = if leaving.is_empty() {
            self.checkpoints.published.bound
        } else {
            Revision::default()
        };
        self.checkpoints.log_bytes = 0;
        self.checkpoints.last = self.now;
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

    fn choose_leaving(&self) -> BTreeSet<SegmentNumber> {
        let usage = self.machine.mvcc().segment_usage();
        let mut room = self.settings.moved_bytes_per_checkpoint;
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

    pub fn collect_slice(&mut self) {
        let limit = self.settings.collect_slice_records;
        let State::Collecting(collecting) = &mut self.checkpoints.state else {
            return;
        };
        let bound = collecting.manifest.bound;
        let published = self.checkpoints.published.bound;
        let slice = self.machine.mvcc().records_slice(collecting.after, limit);
        let mut complete = slice.len() < limit;
        for record in slice {
            let (revision, place) = (record.meta.revision, record.meta.place);
            if revision > bound {
                complete = true;
                break;
            }
            collecting.after = revision;
            if place.length > 0 {
                let leaves = collecting.leaving.contains(&place.segment);
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
        let state = std::mem::replace(&mut self.checkpoints.state, State::Idle);
        let State::Collecting(collecting) = state else {
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
        if bugs::planted(Bug::RetireBeforeManifest) {
            for segment in &leaving {
                self.log.retire(*segment).unwrap();
            }
        }
        self.checkpoints.state = State::Writing {
            leaving,
            job: Box::new(CheckpointJob {
                records,
                removed,
                manifest,
            }),
            moves,
            ingested: 0,
        };
    }

    /// One step of the checkpoint thread.
    pub fn perform_checkpoint(&mut self) -> Result<(), Fatal> {
        let values = self.values.clone();
        let checkpoints = &mut self.checkpoints;
        let State::Writing {
            leaving,
            job,
            moves,
            ingested,
        } = &mut checkpoints.state
        else {
            return Ok(());
        };
        let batch: Vec<&Move> = moves.iter().skip(*ingested).take(BATCH_VALUES).collect();
        if !batch.is_empty() {
            let mut cold = Vec::new();
            for moved in &batch {
                let value = match &moved.value {
                    Some(value) => value.clone(),
                    None => values.fetch_at(moved.revision, moved.place)?,
                };
                cold.push(ColdValue {
                    revision: moved.revision,
                    place: moved.place,
                    value,
                });
            }
            *ingested += batch.len();
            checkpoints.moved += batch.len() as u64;
            return checkpoints.checkpointer.ingest_values(&cold, &mut || {});
        }
        let (job, leaving) = ((**job).clone(), std::mem::take(leaving));
        checkpoints.checkpointer.perform(job, &mut || {})?;
        checkpoints.state = State::Done { leaving };
        Ok(())
    }

    /// `Core::checkpointed`.
    pub fn report_checkpoint(&mut self) -> Result<(), Fatal> {
        if !matches!(self.checkpoints.state, State::Done { .. }) {
            return Ok(());
        }
        let state = std::mem::replace(&mut self.checkpoints.state, State::Idle);
        let State::Done { leaving } = state else {
            return Ok(());
        };
        let manifest = self.checkpoints.checkpointer.published().clone();
        self.log.release(manifest.applied_index);
        if !bugs::planted(Bug::RetireBeforeManifest) {
            for segment in &leaving {
                self.log.retire(*segment)?;
            }
        }
        self.checkpoints.made += 1;
        self.checkpoints.cleaned += leaving.len() as u64;
        self.checkpoints.published = manifest;
        Ok(())
    }

    /// Segments that the manifest left out and a crash left behind.
    pub fn retire_left_over(&mut self) -> Result<(), Fatal> {
        let left: Vec<SegmentNumber> = self
            .log
            .segments()
            .map(|segment| segment.number)
            .filter(|number| self.checkpoints.published.left_out(*number))
            .collect();
        left.into_iter()
            .try_for_each(|segment| self.log.retire(segment))
    }
}

fn resident_value(reference: &KeyValueRef) -> Option<Bytes> {
    match reference {
        KeyValueRef::Resident(encoded) => Some(Bytes::copy_from_slice(encoded.value())),
        KeyValueRef::Stored(_) => None,
    }
}
