//! When a checkpoint is made and what goes into it; which segments are cleaned.
//!
//! Owned by the engine, which only collects references, a slice at a time; whoever
//! owns the checkpointer reads the values that move and writes everything
//! (`checkpoint_work`). Invariants: one checkpoint at a time; no purge while
//! one is being collected, so that records and removals describe one moment; a
//! segment is retired only after the manifest that leaves it out is durable.
//! Limits: [`super::Sizes`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use storage::checkpoint::{CheckpointJob, Manifest};
use storage::error::Fatal;
use storage::planted::{Bug, planted};
use storage::types::{KeyValueRef, Place, RecordMeta, Revision, SegmentNumber};

use super::checkpoint_work::{CheckpointWork, Move};
use super::host::Host;
use super::turn::Engine;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Checkpoints {
    published: Manifest,
    /// What the purge dropped since the last collection.
    dropped: Vec<(Revision, Place)>,
    /// A record has taken over the value of another one since the last collection.
    inherited: bool,
    /// The checkpoint under way is the first one since then.
    inherited_before: bool,
    log_bytes: u64,
    last: Instant,
    state: State,
    /// What the manifest says of this member.
    name: String,
    client_urls: Vec<String>,
}

/// The segments that a checkpoint cleans.
#[derive(Debug, Default)]
struct Leaving {
    segments: BTreeSet<SegmentNumber>,
    /// What of them has to move.
    live_bytes: u64,
    bytes: u64,
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
    pub(super) fn new(
        published: Manifest,
        name: String,
        client_urls: Vec<String>,
        now: Instant,
    ) -> Checkpoints {
        Checkpoints {
            published,
            dropped: Vec::new(),
            inherited: false,
            inherited_before: false,
            log_bytes: 0,
            last: now,
            state: State::Idle,
            name,
            client_urls,
        }
    }

    /// The manifest that was published last.
    pub(super) fn published(&self) -> &Manifest {
        &self.published
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

    /// True when the next checkpoint can begin.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// True while so much is dropped that the next checkpoint has to take it first: what
    /// it removes is listed in memory and in the manifest.
    pub(super) fn holds_purge(&self, removed_max: usize) -> bool {
        self.dropped.len() >= removed_max
    }

    /// True while the purge must stand still.
    pub(super) fn is_collecting(&self) -> bool {
        matches!(self.state, State::Collecting(_))
    }

    /// True while values must stay in memory: one that was taken over may be
    /// found in the cold store under its new revision only after a checkpoint.
    /// Any other one is read from its segment until that is retired, and from
    /// the cold store from then on.
    pub(super) fn holds_eviction(&self) -> bool {
        (self.inherited || self.inherited_before) && !planted(Bug::EvictInherited)
    }
}

impl<H: Host> Engine<H> {
    /// Begins a checkpoint when one is due. Called on ticks, and when the purge waits.
    pub(super) fn checkpoint_when_due(&mut self, host: &H) {
        let checkpoints = &self.checkpoints;
        if !checkpoints.is_idle() {
            return;
        }
        let news = self.machine.applied_index() > checkpoints.published.applied_index;
        let late = host.now() - checkpoints.last >= self.sizes.checkpoint_interval;
        let taken_over = checkpoints.inherited;
        let due = checkpoints.log_bytes >= self.sizes.checkpoint_log_bytes || late || taken_over;
        if (news && due) || self.purge_is_held() || self.much_is_dead(host.now()) {
            self.begin_checkpoint(host);
        }
    }

    /// True while the purge waits for a checkpoint.
    pub(super) fn purge_is_held(&self) -> bool {
        let removed_max = self.sizes.removed_records_per_checkpoint;
        self.checkpoints.holds_purge(removed_max)
    }

    /// True when a checkpoint would free half of what makes one due when it is written, so
    /// any segment that is nearly full, and no more is about to die: the disk does not wait
    /// for further writes. Under load those make one due before this does.
    fn much_is_dead(&self, now: Instant) -> bool {
        let enough = self.sizes.checkpoint_log_bytes / 2;
        now - self.checkpoints.last >= self.sizes.cleaning_pause
            && !self.is_purging()
            && self.choose_leaving().bytes >= enough
    }

    fn begin_checkpoint(&mut self, host: &H) {
        let Leaving {
            segments: leaving,
            live_bytes,
            ..
        } = self.choose_leaving();
        let mut manifest = self.checkpoints.published.clone();
        manifest.describe(&self.machine);
        let kept: BTreeSet<SegmentNumber> = self
            .log
            .segments()
            .map(|segment| segment.number)
            .filter(|number| !leaving.contains(number))
            .collect();
        manifest.segments = kept.iter().copied().collect();
        for member in &mut manifest.members {
            if member.id == self.member {
                member.name.clone_from(&self.checkpoints.name);
                member.client_urls.clone_from(&self.checkpoints.client_urls);
            }
        }
        // Survivors of a leaving segment may be of any age.
        let after = if live_bytes == 0 {
            self.checkpoints.published.bound
        } else {
            Revision::default()
        };
        self.checkpoints.log_bytes = 0;
        self.checkpoints.last = host.now();
        self.checkpoints.inherited_before = std::mem::take(&mut self.checkpoints.inherited);
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
    fn choose_leaving(&self) -> Leaving {
        let usage = self.machine.mvcc().segment_usage();
        let room = self.sizes.moved_bytes_per_checkpoint;
        let mut leaving = Leaving::default();
        for segment in self.log.segments() {
            let live_bytes = usage.live_bytes(segment.number);
            let mostly_dead = live_bytes.saturating_mul(2) < segment.bytes_used;
            let fits = live_bytes <= room - leaving.live_bytes;
            if self.log.can_retire(segment.number) && mostly_dead && fits {
                leaving.live_bytes += live_bytes;
                leaving.bytes += segment.bytes_used;
                leaving.segments.insert(segment.number);
            }
        }
        leaving
    }

    /// One slice of a collection; hands the job over when it is complete.
    pub(super) fn collect_slice(&mut self, host: &mut H) {
        let limit = self.sizes.collect_slice_records;
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
        if planted(Bug::CollectionSkips) {
            collecting.after.sub = u32::MAX;
        }
        if complete {
            self.hand_over(host);
        }
    }

    fn hand_over(&mut self, host: &mut H) {
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
        if planted(Bug::RetireBeforeManifest) {
            for segment in &leaving {
                self.log.retire(*segment).unwrap_or(());
            }
        }
        host.checkpoint(CheckpointWork {
            job: Some(job),
            moves,
            values: self.values.clone(),
            batch_bytes: self.sizes.moved_batch_bytes,
            moved: 0,
        });
        self.checkpoints.state = State::Writing { leaving };
    }

    /// The checkpoint is durable; how many segments were cleaned.
    ///
    /// # Errors
    /// A segment cannot be retired.
    pub fn checkpoint_done(&mut self, manifest: Manifest) -> Result<usize, Fatal> {
        let state = std::mem::replace(&mut self.checkpoints.state, State::Idle);
        let State::Writing { leaving } = state else {
            unreachable!("a checkpoint is done that nobody asked for");
        };
        self.checkpoints.inherited_before = false;
        self.log.release(manifest.applied_index);
        if !planted(Bug::RetireBeforeManifest) {
            for segment in &leaving {
                self.log.retire(*segment)?;
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
        Ok(leaving.len())
    }

    /// Segments that the manifest left out and a crash left behind. One that an older
    /// copy of the log holds as its last waits for the next checkpoint.
    pub(super) fn retire_left_over(&mut self) -> Result<(), Fatal> {
        let left: Vec<SegmentNumber> = self
            .log
            .segments()
            .map(|segment| segment.number)
            .filter(|number| self.checkpoints.published.left_out(*number))
            .filter(|number| self.log.can_retire(*number))
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
