//! Which part of the core answers which request.

use std::time::Instant;

use storage::mvcc::HashKvStart;
use storage::types::LeaseId;

use super::core_loop::{Core, send};
use super::handle::Rejected;
use super::reads;
use super::requests::{
    HashKvJob, HashKvWalk, History, LeaseState, ReadTxn, Reply, Request, SnapshotStart,
    StatusNumbers,
};
use storage::apply::command::Txn;
use storage::error::Refusal;

/// Records looked at in one slice of HashKV.
const HASH_SLICE_RECORDS: usize = 512;

/// Events of history handed out at once.
const HISTORY_EVENTS_MAX: usize = 1000;

impl Core {
    /// Takes one request: answers it, or files it until it can be answered.
    pub(super) fn take(&mut self, request: Request) {
        match request {
            Request::Propose { command, reply } => self.propose(command, reply),
            Request::ReadTxn {
                txn,
                linearizable,
                reply,
            } => {
                let answer = self.read_txn(&txn, linearizable);
                send(reply, answer);
            }
            Request::OpenRead {
                range,
                linearizable,
                first_slice,
                reply,
            } => {
                let answer = self.may_read(linearizable).and_then(|()| {
                    let mvcc = self.machine.mvcc();
                    let counts = &self.page_counts;
                    Ok(reads::open(
                        mvcc,
                        &mut self.pins,
                        counts,
                        &range,
                        first_slice,
                    )?)
                });
                self.meters.read();
                send(reply, answer);
            }
            Request::ReadSlice {
                bounds,
                pin,
                limit,
                reply,
            } => {
                let slice = reads::pinned_slice(self.machine.mvcc(), &bounds, &pin, limit);
                send(reply, slice.map_err(Rejected::from));
            }
            Request::CountSlice { bounds, pin, reply } => {
                let slice = reads::count_slice(self.machine.mvcc(), &bounds, &pin);
                send(reply, slice.map_err(Rejected::from));
            }
            Request::RememberCount {
                range_end,
                revision,
                next,
                remaining,
            } => {
                self.page_counts
                    .remember(range_end, revision, next, remaining);
            }
            Request::Barrier { reply } => send(reply, self.may_read(true)),
            Request::History {
                from,
                revisions_max,
                reply,
            } => {
                send(reply, Ok(self.history(from, revisions_max)));
            }
            Request::Purged { revision, reply } => self.await_purge(revision, reply),
            Request::LeaseRenew { lease, reply } => send(reply, self.lease_renew(lease)),
            Request::LeaseState { lease, keys, reply } => {
                send(reply, self.lease_state(lease, keys));
            }
            Request::Leases { reply } => {
                send(reply, Ok(self.lessor.by_remaining_time().collect()));
            }
            Request::HashKv { revision, reply } => self.hash_kv(revision, reply),
            Request::HashKvSlice { walk, reply } => self.hash_kv_slice(walk, reply),
            Request::RememberHash { result } => {
                self.machine.mvcc_mut().remember_compaction_hash(result);
            }
            Request::SnapshotStart { reply } => {
                let start = self.snapshot_start();
                send(reply, Ok(start));
            }
            Request::Records {
                after,
                compacted_revision,
                pin,
                limit,
                reply,
            } => {
                let answer = if pin.is_revoked() {
                    Err(Rejected::Refusal(Refusal::Compacted))
                } else {
                    let mvcc = self.machine.mvcc();
                    Ok(mvcc.records_slice_as_of(after, limit, compacted_revision))
                };
                send(reply, answer);
            }
            Request::MissingValues {
                after,
                limit,
                reply,
            } => {
                send(
                    reply,
                    Ok(self.machine.mvcc().missing_values_slice(after, limit)),
                );
            }
            Request::InstallValues { values, reply } => {
                for (revision, value) in values {
                    self.machine.mvcc_mut().install_value(revision, &value);
                }
                send(reply, Ok(()));
            }
            Request::Status { reply } => send(reply, Ok(self.status())),
        }
    }

    /// A linearizable read needs to know that nobody else leads.
    fn may_read(&self, linearizable: bool) -> Result<(), Rejected> {
        if linearizable && !self.node.reads_are_current() {
            return Err(Rejected::NoLeader);
        }
        Ok(())
    }

    fn read_txn(&mut self, txn: &Txn, linearizable: bool) -> Result<ReadTxn, Rejected> {
        self.may_read(linearizable)?;
        let began = Instant::now();
        loop {
            let missing = self.machine.txn_needs(txn);
            if missing.is_empty() {
                break;
            }
            self.install(&missing);
        }
        let result = self.machine.read_txn(txn)?;
        self.meters.read_txn(txn, &result, began.elapsed());
        let pin = self.pins.pin(self.machine.mvcc().compacted_revision());
        Ok(ReadTxn { result, pin })
    }

    fn history(&mut self, from: i64, events_max: usize) -> History {
        let mvcc = self.machine.mvcc();
        let compacted_revision = mvcc.compacted_revision();
        // A watcher below the compacted revision is cancelled by its stream; the
        // others go on from there.
        let start = from.max(compacted_revision);
        let revisions = mvcc
            .history_slice(start, events_max.min(HISTORY_EVENTS_MAX))
            .expect("the start is not compacted");
        let count: usize = revisions.iter().map(|revision| revision.events.len()).sum();
        let through = match revisions.last() {
            Some(last) if count >= events_max.min(HISTORY_EVENTS_MAX) => last.revision,
            _ => mvcc.current_revision(),
        };
        // Predecessors of the first revision are read one below it.
        let pin = self.pins.pin((start - 1).max(compacted_revision));
        History {
            compacted_revision,
            revisions,
            through,
            pin,
        }
    }

    fn lease_renew(&mut self, lease: LeaseId) -> Result<Option<i64>, Rejected> {
        if !self.node.is_leader() {
            return Err(Rejected::NoLeader);
        }
        let renewed = self.lessor.renew(lease, Instant::now());
        if renewed.is_some() {
            self.meters.lease_renewed();
        }
        Ok(renewed)
    }

    fn lease_state(&self, lease: LeaseId, keys: bool) -> Result<Option<LeaseState>, Rejected> {
        if !self.node.is_leader() {
            return Err(Rejected::NoLeader);
        }
        let state = self.lessor.remaining(lease, Instant::now());
        Ok(state.map(|(remaining_seconds, granted_seconds)| {
            let attached = self.machine.leases().keys(lease).filter(|_| keys);
            let keys = attached
                .map(|keys| keys.cloned().collect())
                .unwrap_or_default();
            LeaseState {
                remaining_seconds,
                granted_seconds,
                keys,
            }
        }))
    }

    fn hash_kv(&mut self, revision: i64, reply: Reply<HashKvJob>) {
        let job = match self.machine.mvcc().hash_kv(revision) {
            Ok(HashKvStart::Known(result)) => Ok(HashKvJob::Known(result)),
            Ok(HashKvStart::Walk(walk)) => {
                let pin = self.pins.pin(walk.pin());
                Ok(HashKvJob::Walk(Box::new(HashKvWalk {
                    walk,
                    pin,
                    records: Vec::new(),
                })))
            }
            Err(refusal) => Err(Rejected::Refusal(refusal)),
        };
        send(reply, job);
    }

    fn hash_kv_slice(&mut self, mut walk: Box<HashKvWalk>, reply: Reply<Box<HashKvWalk>>) {
        if walk.pin.is_revoked() {
            return send(reply, Err(Rejected::Refusal(Refusal::Compacted)));
        }
        walk.records = walk.walk.slice(self.machine.mvcc(), HASH_SLICE_RECORDS);
        send(reply, Ok(walk));
    }

    fn snapshot_start(&mut self) -> SnapshotStart {
        let mvcc = self.machine.mvcc();
        let compacted_revision = mvcc.compacted_revision();
        SnapshotStart {
            revision: mvcc.current_revision(),
            // What the snapshot holds: all records not compacted by now.
            pin: self.pins.pin(compacted_revision),
            applied: self.machine.applied_index(),
            term: self.machine.applied_term(),
            compacted_revision,
            leases: self.machine.leases().iter().collect(),
            alarms: self.machine.alarms().iter().collect(),
        }
    }

    fn status(&self) -> StatusNumbers {
        let mvcc = self.machine.mvcc();
        let size = mvcc.size();
        StatusNumbers {
            revision: mvcc.current_revision(),
            committed: self.node.committed().0,
            applied: self.machine.applied_index().0,
            size_total: size.total_bytes,
            size_in_use: size.in_use_bytes,
        }
    }
}
