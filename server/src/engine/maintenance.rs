//! What is done between requests: purging, eviction, packing, the hash of a
//! compaction. In slices, so that nothing holds the loop.
//!
//! Owned by the engine. Limit: [`super::Sizes::purge_slice_records`] a slice.

use std::time::{Duration, Instant};

use super::host::{Host, Observation};
use super::turn::Engine;

/// A purge that a pin holds back is looked at again after this long.
const HELD_BACK: Duration = Duration::from_millis(50);

/// What is left to be done.
#[derive(Debug)]
pub(super) struct Maintenance<H: Host> {
    /// Since when there is something to purge.
    purging_since: Option<Instant>,
    evicting: bool,
    packing: bool,
    /// Who waits for the purge of which revision.
    waiting: Vec<(i64, H::Reply<()>)>,
    /// A pin held the purge back at this time.
    held_back_since: Option<Instant>,
}

impl<H: Host> Default for Maintenance<H> {
    fn default() -> Self {
        Maintenance {
            purging_since: None,
            evicting: false,
            packing: false,
            waiting: Vec::new(),
            held_back_since: None,
        }
    }
}

impl<H: Host> Maintenance<H> {
    /// Something was written: superseded values may have to leave memory.
    pub(super) fn written(&mut self) {
        self.evicting = true;
    }
}

impl<H: Host> Engine<H> {
    /// True when a slice of background work is due.
    #[must_use]
    pub fn has_work(&self, host: &H) -> bool {
        let work = &self.maintenance;
        let evicting = work.evicting && !self.checkpoints.holds_eviction();
        self.checkpoints.is_collecting()
            || evicting
            || work.packing
            || (work.purging_since.is_some() && self.purge_is_due(host))
    }

    /// True while something is left to purge.
    pub(super) fn is_purging(&self) -> bool {
        self.maintenance.purging_since.is_some()
    }

    fn purge_is_due(&self, host: &H) -> bool {
        if self.purge_is_held() {
            return self.checkpoints.is_idle();
        }
        let held_back = self.maintenance.held_back_since;
        held_back.is_none_or(|since| host.now() - since >= HELD_BACK)
    }

    /// One slice of work.
    pub fn maintain(&mut self, host: &mut H) {
        if self.checkpoints.is_collecting() {
            self.collect_slice(host);
            return;
        }
        let budget = self.sizes.purge_slice_records;
        if self.maintenance.evicting && !self.checkpoints.holds_eviction() {
            let more = self.machine.mvcc_mut().evict_slice(budget);
            self.maintenance.evicting = more;
            self.maintenance.packing = true;
        }
        if self.maintenance.packing {
            let more = self.machine.mvcc_mut().pack_slice(budget);
            self.maintenance.packing = more;
        }
        match self.maintenance.purging_since {
            Some(_) if self.purge_is_held() => self.checkpoint_when_due(host),
            Some(since) => self.purge_slice(since, host),
            None => {}
        }
    }

    fn purge_slice(&mut self, since: Instant, host: &mut H) {
        let began = host.now();
        let compacted = self.machine.mvcc().compacted_revision();
        let floor = self.pins.floor(compacted, began);
        let mut dropped = Vec::new();
        let mvcc = self.machine.mvcc_mut();
        let more = mvcc.compact_slice(floor, self.sizes.purge_slice_records, &mut dropped);
        let took = host.now() - began;
        host.observe(Observation::Purged(dropped.len(), took));
        self.checkpoints.purged(dropped);
        self.maintenance.held_back_since = None;
        self.answer_purged(host);
        if more {
            return;
        }
        if floor < compacted {
            self.maintenance.held_back_since = Some(host.now());
            return;
        }
        self.maintenance.purging_since = None;
        let took = host.now() - since;
        host.observe(Observation::CompactionEnded(took));
        host.publish(Vec::new(), self.machine.mvcc());
        tracing::info!(
            compact_revision = compacted,
            ?took,
            current_db_size_bytes = self.machine.mvcc().size().total_bytes,
            "finished scheduled compaction"
        );
        assert!(
            self.maintenance.waiting.is_empty(),
            "nobody waits for more than was compacted"
        );
    }

    /// A compaction was applied: hash what it is going to drop, then purge. One that
    /// is replayed is not hashed again: these hashes end with the process, as etcd's
    /// do, whether a checkpoint covers the compaction or not.
    pub(super) fn compacted(&mut self, of_this_boot: bool, host: &mut H) {
        self.maintenance.purging_since.get_or_insert(host.now());
        if !of_this_boot {
            return;
        }
        if let Some(walk) = self.machine.mvcc().compaction_hash() {
            let walk = self.hash_walk(walk);
            host.hash_compaction(walk);
        }
    }

    /// Answers once nothing of this compaction is left to purge; those that came
    /// later are none of its matter.
    pub(super) fn await_purge(&mut self, revision: i64, reply: H::Reply<()>, host: &mut H) {
        self.maintenance.waiting.push((revision, reply));
        self.answer_purged(host);
    }

    fn answer_purged(&mut self, host: &mut H) {
        let mvcc = self.machine.mvcc();
        let purged = mvcc.purged_revision();
        for (_, reply) in self
            .maintenance
            .waiting
            .extract_if(.., |(revision, _)| *revision <= purged)
        {
            host.answer(reply, Ok(()));
        }
    }
}
