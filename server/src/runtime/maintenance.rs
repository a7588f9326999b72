//! What the core loop does between requests: purging, eviction, packing, the hash
//! of a compaction. In slices, one a turn, so that nothing holds the loop.
//!
//! Owned by the core loop. Limit: [`PURGE_SLICE_RECORDS`] records a slice.

use std::time::Instant;

use super::core_loop::{Core, send};
use super::handle::{Handle, Rejected};
use super::limits::PURGE_SLICE_RECORDS;
use super::requests::{HashKvWalk, Reply};

/// What is left to be done.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    purging: bool,
    evicting: bool,
    packing: bool,
    /// Who waits for the purge of which revision.
    waiting: Vec<(i64, Reply<()>)>,
    /// Looked at again on the next tick, since a pin held the purge back.
    held_back_since: Option<Instant>,
}

/// A purge that a pin holds back is looked at again after this long.
const HELD_BACK: std::time::Duration = std::time::Duration::from_millis(50);

impl Maintenance {
    /// True when a slice is due.
    pub(super) fn has_work(&self, eviction_is_held: bool) -> bool {
        let due = self
            .held_back_since
            .is_none_or(|since| since.elapsed() >= HELD_BACK);
        (self.evicting && !eviction_is_held) || self.packing || (self.purging && due)
    }

    /// Something was written: superseded values may have to leave memory.
    pub(super) fn written(&mut self) {
        self.evicting = true;
    }
}

impl Core {
    /// One slice of work.
    pub(super) fn maintain(&mut self) {
        if self.checkpoints.is_collecting() {
            self.collect_slice();
            return;
        }
        if self.maintenance.evicting && !self.checkpoints.holds_eviction() {
            let more = self.machine.mvcc_mut().evict_slice(PURGE_SLICE_RECORDS);
            self.maintenance.evicting = more;
            self.maintenance.packing = true;
        }
        if self.maintenance.packing {
            let more = self.machine.mvcc_mut().pack_slice(PURGE_SLICE_RECORDS);
            self.maintenance.packing = more;
        }
        if !self.maintenance.purging {
            return;
        }
        let compacted = self.machine.mvcc().compacted_revision();
        let floor = self.pins.floor(compacted, Instant::now());
        let mut dropped = Vec::new();
        let began = Instant::now();
        let more = self
            .machine
            .mvcc_mut()
            .compact_slice(floor, PURGE_SLICE_RECORDS, &mut dropped);
        self.meters.purged(dropped.len(), began);
        self.checkpoints.purged(dropped);
        self.maintenance.held_back_since = None;
        if more {
            return;
        }
        if floor < compacted {
            self.maintenance.held_back_since = Some(Instant::now());
            return;
        }
        self.maintenance.purging = false;
        self.meters.compaction_ended();
        self.view.publish_store(self.machine.mvcc());
        tracing::info!(
            compact_revision = compacted,
            current_db_size_bytes = self.machine.mvcc().size().total_bytes,
            "finished scheduled compaction"
        );
        for (_, reply) in std::mem::take(&mut self.maintenance.waiting) {
            send(reply, Ok(()));
        }
    }

    /// A compaction was applied: hash what it is going to drop, then purge. One that
    /// is replayed is not hashed again: these hashes end with the process, as etcd's
    /// do, whether a checkpoint covers the compaction or not.
    pub(super) fn compacted(&mut self, of_this_boot: bool) {
        self.maintenance.purging = true;
        self.meters.compaction_began();
        if !of_this_boot {
            return;
        }
        if let Some(walk) = self.machine.mvcc().compaction_hash() {
            let pin = self.pins.pin(walk.pin());
            let walk = Box::new(HashKvWalk {
                walk,
                pin,
                records: Vec::new(),
            });
            tokio::spawn(remember_compaction_hash(self.handle.clone(), walk));
        }
    }

    /// Answers once nothing of this compaction is left to purge.
    pub(super) fn await_purge(&mut self, revision: i64, reply: Reply<()>) {
        if self.maintenance.purging {
            self.maintenance.waiting.push((revision, reply));
        } else {
            send(reply, Ok(()));
        }
    }
}

async fn remember_compaction_hash(handle: Handle, walk: Box<HashKvWalk>) {
    match handle.finish_hash_kv(walk).await {
        Ok(result) => handle.remember_compaction_hash(result).await,
        // The member stops, or the walk took longer than a pin may hold.
        Err(Rejected::Stopped | Rejected::TimedOut | Rejected::Refusal(_)) => {}
        Err(rejected) => tracing::warn!(?rejected, "no hash of the compaction"),
    }
}
