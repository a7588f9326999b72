//! Which part of the engine answers which request.

use storage::apply::command::{Range, Txn};
use storage::error::{Fatal, Refusal};
use storage::mvcc::{HashKv, HashKvStart, Mvcc};
use storage::types::LeaseId;

use super::host::{Host, Observation};
use super::reads;
use super::requests::{
    HashKvJob, HashKvWalk, History, LeaseState, OpenedRead, ReadTxn, Rejected, Request,
    SnapshotStart, StatusNumbers,
};
use super::turn::Engine;

/// Records looked at in one slice of HashKV: some 20 microseconds. Each is a trip to a
/// helper thread and back.
const HASH_SLICE_RECORDS: usize = 128;

/// Events of history handed out at once.
const HISTORY_EVENTS_MAX: usize = 1000;

/// Bytes that an empty bolt file of etcd takes, in all and in use: tools take a
/// database of no size for a missing answer, so sizes are told on top of these.
const EMPTY_BYTES: (u64, u64) = (20 << 10, 16 << 10);

/// Sizes as they are told: bytes in all and in use.
#[must_use]
pub fn told_size(mvcc: &Mvcc) -> (u64, u64) {
    let size = mvcc.size();
    let (total, in_use) = EMPTY_BYTES;
    (total + size.total_bytes, in_use + size.in_use_bytes)
}

impl<H: Host> Engine<H> {
    /// Takes one request: answers it, or files it until it can be answered.
    ///
    /// # Errors
    /// What ends the process.
    pub fn take(&mut self, request: Request<H>, host: &mut H) -> Result<(), Fatal> {
        match request {
            Request::Propose { command, reply } => self.propose(command, reply, host),
            Request::ReadTxn {
                txn,
                linearizable,
                reply,
            } => {
                let answer = match self.may_read(linearizable) {
                    Ok(()) => self.read_txn(&txn, host)?,
                    Err(rejected) => Err(rejected),
                };
                host.answer(reply, answer);
            }
            Request::OpenRead {
                range,
                linearizable,
                first_slice,
                reply,
            } => {
                let answer = self.open_read(&range, linearizable, first_slice);
                host.observe(Observation::Read);
                host.answer(reply, answer);
            }
            Request::ReadSlice {
                bounds,
                pin,
                limit,
                reply,
            } => {
                let slice = reads::pinned_slice(self.machine.mvcc(), &bounds, &pin, limit);
                host.answer(reply, slice.map_err(Rejected::from));
            }
            Request::MeasureSlice {
                bounds,
                pin,
                limit,
                projection,
                reply,
            } => {
                let mvcc = self.machine.mvcc();
                let slice = reads::measure_slice(mvcc, &bounds, &pin, limit, projection);
                host.answer(reply, slice.map_err(Rejected::from));
            }
            Request::CountSlice { bounds, pin, reply } => {
                let slice = reads::count_slice(self.machine.mvcc(), &bounds, &pin);
                host.answer(reply, slice.map_err(Rejected::from));
            }
            Request::RememberCount {
                range_end,
                revision,
                next,
                remaining,
            } => self
                .page_counts
                .remember(range_end, revision, next, remaining),
            Request::Barrier { reply } => host.answer(reply, self.may_read(true)),
            Request::History {
                from,
                revisions_max,
                reply,
            } => host.answer(reply, Ok(self.history(from, revisions_max))),
            Request::Purged { revision, reply } => self.await_purge(revision, reply, host),
            request => self.take_upkeep(request, host),
        }
        Ok(())
    }

    /// The requests that are neither reads nor writes of keys.
    fn take_upkeep(&mut self, request: Request<H>, host: &mut H) {
        match request {
            Request::LeaseRenew { lease, reply } => {
                let answer = self.lease_renew(lease, host);
                host.answer(reply, answer);
            }
            Request::LeaseState { lease, keys, reply } => {
                let answer = self.lease_state(lease, keys, host);
                host.answer(reply, answer);
            }
            Request::Leases { reply } => {
                host.answer(reply, Ok(self.lessor.by_remaining_time().collect()));
            }
            Request::HashKv { revision, reply } => {
                let answer = self.hash_kv(revision);
                host.answer(reply, answer);
            }
            Request::HashKvSlice { walk, reply } => {
                let answer = self.hash_kv_slice(walk);
                host.answer(reply, answer);
            }
            Request::RememberHash { result } => {
                self.machine.mvcc_mut().remember_compaction_hash(result);
            }
            Request::SnapshotStart { reply } => {
                let start = self.snapshot_start();
                host.answer(reply, Ok(start));
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
                host.answer(reply, answer);
            }
            Request::MissingValues {
                after,
                limit,
                reply,
            } => {
                let slice = self.machine.mvcc().missing_values_slice(after, limit);
                host.answer(reply, Ok(slice));
            }
            Request::InstallValues { values, reply } => {
                for (revision, value) in values {
                    self.machine.mvcc_mut().install_value(revision, &value);
                }
                host.answer(reply, Ok(()));
            }
            Request::Status { reply } => host.answer(reply, Ok(self.status())),
            _ => unreachable!("taken before"),
        }
    }

    /// A linearizable read needs to know that nobody else leads.
    fn may_read(&self, linearizable: bool) -> Result<(), Rejected> {
        if linearizable && !self.node.reads_are_current() {
            return Err(Rejected::NoLeader);
        }
        Ok(())
    }

    fn open_read(
        &mut self,
        range: &Range,
        linearizable: bool,
        first_slice: usize,
    ) -> Result<OpenedRead, Rejected> {
        self.may_read(linearizable)?;
        let (mvcc, counts) = (self.machine.mvcc(), &self.page_counts);
        let opened = reads::open(mvcc, &mut self.pins, counts, range, first_slice)?;
        Ok(opened)
    }

    fn read_txn(&mut self, txn: &Txn, host: &mut H) -> Result<Result<ReadTxn, Rejected>, Fatal> {
        let began = host.now();
        loop {
            let missing = self.machine.txn_needs(txn);
            if missing.is_empty() {
                break;
            }
            self.install(&missing)?;
        }
        let result = match self.machine.read_txn(txn) {
            Ok(result) => result,
            Err(refusal) => return Ok(Err(Rejected::Refusal(refusal))),
        };
        host.observe(Observation::ReadTxn(txn, &result, host.now() - began));
        let pin = self.pins.pin(self.machine.mvcc().compacted_revision());
        Ok(Ok(ReadTxn { result, pin }))
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

    fn lease_renew(&mut self, lease: LeaseId, host: &mut H) -> Result<Option<i64>, Rejected> {
        if !self.node.is_leader() {
            return Err(Rejected::NoLeader);
        }
        let renewed = self.lessor.renew(lease, host.now());
        if renewed.is_some() {
            host.observe(Observation::LeaseRenewed);
        }
        Ok(renewed)
    }

    fn lease_state(
        &self,
        lease: LeaseId,
        keys: bool,
        host: &H,
    ) -> Result<Option<LeaseState>, Rejected> {
        if !self.node.is_leader() {
            return Err(Rejected::NoLeader);
        }
        let state = self.lessor.remaining(lease, host.now());
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

    fn hash_kv(&mut self, revision: i64) -> Result<HashKvJob, Rejected> {
        match self.machine.mvcc().hash_kv(revision)? {
            HashKvStart::Known(result) => Ok(HashKvJob::Known(result)),
            HashKvStart::Walk(walk) => Ok(HashKvJob::Walk(self.hash_walk(walk))),
        }
    }

    /// A walk with the pin that it needs.
    pub(super) fn hash_walk(&mut self, walk: HashKv) -> Box<HashKvWalk> {
        let pin = self.pins.pin(walk.pin());
        Box::new(HashKvWalk {
            walk,
            pin,
            records: Vec::new(),
        })
    }

    fn hash_kv_slice(&self, mut walk: Box<HashKvWalk>) -> Result<Box<HashKvWalk>, Rejected> {
        if walk.pin.is_revoked() {
            return Err(Rejected::Refusal(Refusal::Compacted));
        }
        walk.records = walk.walk.slice(self.machine.mvcc(), HASH_SLICE_RECORDS);
        Ok(walk)
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
        let (size_total, size_in_use) = told_size(mvcc);
        StatusNumbers {
            revision: mvcc.current_revision(),
            committed: self.node.committed().0,
            applied: self.machine.applied_index().0,
            size_total,
            size_in_use,
        }
    }
}
