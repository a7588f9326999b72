//! The way to the core loop for everyone else. Cheap to clone; any thread.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage::apply::Projection;
use storage::apply::command::{Command, Range, Txn};
use storage::mvcc::{Bounds, HashKvResult, Measured, RecordView};
use storage::types::{LeaseId, Revision};
use tokio::sync::{mpsc, oneshot, watch};

use super::limits::REQUEST_TIMEOUT_BASE;
use super::meters::operation;
use super::shell::{Reply, Request};
use super::values::Values;
use super::view::View;
use crate::engine::{
    Applied, CountSlice, HashKvJob, HashKvWalk, History, LeaseState, MissingValues, OpenedRead,
    Pin, ReadSlice, ReadTxn, Rejected, SnapshotStart, StatusNumbers,
};
use crate::metrics::{Metrics, Operation};
use crate::watch::Hub;

/// See the head of the file. One count of references, since every call clones it.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    requests: mpsc::Sender<Request>,
    view: Arc<View>,
    hub: Arc<Hub>,
    values: Values,
    stop: watch::Receiver<bool>,
    request_timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Handle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        view: Arc<View>,
        hub: Arc<Hub>,
        values: Values,
        stop: watch::Receiver<bool>,
        election_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Handle {
        let request_timeout = REQUEST_TIMEOUT_BASE + 2 * election_timeout;
        Handle(Arc::new(Ends {
            requests,
            view,
            hub,
            values,
            stop,
            request_timeout,
            metrics,
        }))
    }

    /// The published numbers.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.0.view
    }

    /// The watch hub.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// Reads values that are not in memory.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.0.values
    }

    /// What is counted and timed.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// How long an answer may take (contract 8).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    /// Completes when the member stops.
    pub async fn stopped(&self) {
        let mut stop = self.0.stop.clone();
        // An error means that the core loop is gone, which is a stop as well.
        drop(stop.wait_for(|stop| *stop).await);
    }

    /// Writes through the log; answers once flushed, applied and visible.
    ///
    /// # Errors
    /// `TimedOut` and `Stopped` leave open whether the write happens.
    pub async fn propose(&self, command: Command) -> Result<Applied, Rejected> {
        let began = Instant::now();
        let operation = operation(&command);
        let answer = self.ask(|reply| Request::Propose { command, reply }).await;
        // What was applied and refused counts as a success, as in etcd.
        let success = matches!(answer, Ok(_) | Err(Rejected::Refusal(_)));
        self.timed(operation, success, began);
        if matches!(answer, Err(Rejected::NoLeader | Rejected::TimedOut)) {
            self.0.metrics.member.proposals_failed.increment();
        }
        answer
    }

    /// Evaluates a transaction that only reads.
    ///
    /// # Errors
    /// [`Rejected`].
    pub async fn read_txn(&self, txn: Txn, linearizable: bool) -> Result<ReadTxn, Rejected> {
        let began = Instant::now();
        let request = |reply| Request::ReadTxn {
            txn,
            linearizable,
            reply,
        };
        let answer = self.exchange(request).await;
        self.timed(Operation::ReadonlyTxn, answer.is_ok(), began);
        answer
    }

    /// Times a request that began then.
    pub fn timed(&self, operation: Operation, success: bool, began: Instant) {
        let duration = self.0.metrics.request_durations.of(operation, success);
        duration.observe_seconds(began.elapsed());
    }

    /// Begins a read; `first_slice` bounds the key-values that come with the answer.
    ///
    /// # Errors
    /// [`Rejected`].
    pub async fn open_read(
        &self,
        range: Range,
        linearizable: bool,
        first_slice: usize,
    ) -> Result<OpenedRead, Rejected> {
        self.exchange(|reply| Request::OpenRead {
            range,
            linearizable,
            first_slice,
            reply,
        })
        .await
    }

    /// More key-values of an open read, at most `limit`.
    ///
    /// # Errors
    /// `Compacted` once the pin was revoked.
    pub async fn read_slice(
        &self,
        bounds: Bounds,
        pin: &Pin,
        limit: usize,
    ) -> Result<ReadSlice, Rejected> {
        let pin = pin.clone();
        self.exchange(|reply| Request::ReadSlice {
            bounds,
            pin,
            limit,
            reply,
        })
        .await
    }

    /// Lengths of more key-values of an open read.
    ///
    /// # Errors
    /// `Compacted` once the pin was revoked.
    pub async fn measure_slice(
        &self,
        bounds: Bounds,
        pin: &Pin,
        limit: usize,
        projection: Projection,
    ) -> Result<Measured, Rejected> {
        let pin = pin.clone();
        self.exchange(|reply| Request::MeasureSlice {
            bounds,
            pin,
            limit,
            projection,
            reply,
        })
        .await
    }

    /// Counts keys at the pinned revision, a slice at a time.
    ///
    /// # Errors
    /// `Compacted` once the pin was revoked.
    pub async fn count_slice(&self, bounds: Bounds, pin: &Pin) -> Result<CountSlice, Rejected> {
        let pin = pin.clone();
        self.exchange(|reply| Request::CountSlice { bounds, pin, reply })
            .await
    }

    /// Tells how many keys are left from `next` on at `revision`, so that the
    /// page that begins there need not count.
    pub async fn remember_count(
        &self,
        range_end: bytes::Bytes,
        revision: i64,
        next: Vec<u8>,
        remaining: i64,
    ) {
        let request = Request::RememberCount {
            range_end,
            revision,
            next,
            remaining,
        };
        // Only a stopping member does not take it; then it is of no use.
        self.0.requests.send(request).await.unwrap_or(());
    }

    /// Completes at a linearizable point.
    ///
    /// # Errors
    /// `NoLeader`.
    pub async fn barrier(&self) -> Result<(), Rejected> {
        self.ask(|reply| Request::Barrier { reply }).await
    }

    /// Past events from a revision on.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn history(&self, from: i64, revisions_max: usize) -> Result<History, Rejected> {
        self.ask(|reply| Request::History {
            from,
            revisions_max,
            reply,
        })
        .await
    }

    /// Completes once everything that a compaction made garbage is purged, which
    /// takes the time of its work: only the client's deadline ends it, as in etcd.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn purged(&self, revision: i64) -> Result<(), Rejected> {
        self.exchange(|reply| Request::Purged { revision, reply })
            .await
    }

    /// Renews a lease; None when it is unknown or has ended.
    ///
    /// # Errors
    /// [`Rejected`].
    pub async fn lease_renew(&self, lease: LeaseId) -> Result<Option<i64>, Rejected> {
        self.ask(|reply| Request::LeaseRenew { lease, reply }).await
    }

    /// A lease's time and keys; None when it is unknown.
    ///
    /// # Errors
    /// [`Rejected`].
    pub async fn lease_state(
        &self,
        lease: LeaseId,
        keys: bool,
    ) -> Result<Option<LeaseState>, Rejected> {
        self.ask(|reply| Request::LeaseState { lease, keys, reply })
            .await
    }

    /// All leases by remaining time.
    ///
    /// # Errors
    /// [`Rejected`].
    pub async fn leases(&self) -> Result<Vec<LeaseId>, Rejected> {
        self.ask(|reply| Request::Leases { reply }).await
    }

    /// Begins HashKV.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvJob, Rejected> {
        self.ask(|reply| Request::HashKv { revision, reply }).await
    }

    /// Goes on with HashKV.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn hash_kv_slice(&self, walk: Box<HashKvWalk>) -> Result<Box<HashKvWalk>, Rejected> {
        self.ask(|reply| Request::HashKvSlice { walk, reply }).await
    }

    /// Walks HashKV to its end, fetching what is not in memory.
    ///
    /// # Errors
    /// As [`Handle::hash_kv_slice`].
    pub async fn finish_hash_kv(
        &self,
        mut walk: Box<HashKvWalk>,
    ) -> Result<HashKvResult, Rejected> {
        let mut digest = walk.walk.digest();
        while !walk.walk.is_done() {
            walk = self.hash_kv_slice(walk).await?;
            let records = std::mem::take(&mut walk.records);
            digest = self.0.values.digest(digest, records).await;
        }
        Ok(digest.finish())
    }

    /// Keeps the hash of a compaction for later questions.
    pub async fn remember_compaction_hash(&self, result: HashKvResult) {
        // Only a stopping member does not take it; then it is of no use.
        self.0
            .requests
            .send(Request::RememberHash { result })
            .await
            .unwrap_or(());
    }

    /// Pins the present for a snapshot.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn snapshot_start(&self) -> Result<SnapshotStart, Rejected> {
        self.ask(|reply| Request::SnapshotStart { reply }).await
    }

    /// Records in revision order; `compacted` in them is told as of a compaction
    /// at `compacted_revision`.
    ///
    /// # Errors
    /// `Compacted` once the pin was revoked.
    pub async fn records(
        &self,
        after: Revision,
        compacted_revision: i64,
        pin: &Pin,
        limit: usize,
    ) -> Result<Vec<RecordView>, Rejected> {
        let pin = pin.clone();
        self.ask(|reply| Request::Records {
            after,
            compacted_revision,
            pin,
            limit,
            reply,
        })
        .await
    }

    /// Newest values that are not in memory, out of the next `limit` records.
    ///
    /// # Errors
    /// `Stopped`.
    pub(super) async fn missing_values(
        &self,
        after: Revision,
        limit: usize,
    ) -> Result<MissingValues, Rejected> {
        self.ask(|reply| Request::MissingValues {
            after,
            limit,
            reply,
        })
        .await
    }

    /// Makes fetched values resident; what was superseded meanwhile is dropped.
    pub(super) async fn install_values(&self, values: Vec<(Revision, bytes::Bytes)>) {
        // Only a stopping member does not take them; then they are of no use.
        drop(
            self.ask(|reply| Request::InstallValues { values, reply })
                .await,
        );
    }

    /// Numbers of one moment.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn status(&self) -> Result<StatusNumbers, Rejected> {
        self.ask(|reply| Request::Status { reply }).await
    }

    /// Asks and waits for the answer, but not for ever.
    async fn ask<T: Debug>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Rejected> {
        match tokio::time::timeout(self.0.request_timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Rejected::TimedOut),
        }
    }

    /// Asks for what the loop answers in the turn that takes the question: reads. They need
    /// no timer, which would not fire either while the loop stands still.
    async fn exchange<T: Debug>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Rejected> {
        let (reply, answer) = oneshot::channel();
        self.0
            .requests
            .send(request(reply))
            .await
            .map_err(|_| Rejected::Stopped)?;
        answer.await.map_err(|_| Rejected::Stopped)?
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use storage::checkpoint::{CheckpointStore, ModelDisk, ModelStore};
    use storage::raft_log::{LogOptions, RaftLog};
    use storage::types::{LogIndex, MemberId, Term};
    use storage::vfs::Vfs;
    use storage::vfs::sim::SimDisk;

    use super::*;
    use crate::runtime::Identity;

    /// A handle, and the core loop's end of its channel.
    pub(in crate::runtime) fn handle() -> (Handle, mpsc::Receiver<Request>, watch::Sender<bool>) {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/log")).unwrap();
        let options = LogOptions {
            segment_bytes: 32 << 10,
            first_segment_bytes: 16 << 10,
            ..LogOptions::default()
        };
        let start = (LogIndex(0), Term(0));
        let log = RaftLog::open(Arc::new(disk), Path::new("/log"), options, start);
        let store = ModelStore::open(&ModelDisk::default());
        let values = Values::new(log.unwrap().0.reader(), store.reader());
        let identity = Identity {
            cluster_id: 1,
            member_id: MemberId(1),
            name: String::new(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
        };
        let (sender, requests) = mpsc::channel(1);
        let (stop, stopping) = watch::channel(false);
        let handle = Handle::new(
            sender,
            Arc::new(View::new(identity)),
            Arc::new(Hub::new(1)),
            values,
            stopping,
            Duration::from_secs(1),
            Metrics::new(&[], false),
        );
        (handle, requests, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_physical_compaction_is_waited_for_and_nothing_else() {
        let (handle, mut requests, _stop) = handle();
        let asking = handle.clone();
        let purged = tokio::spawn(async move { asking.purged(5).await });
        let Some(Request::Purged { reply, .. }) = requests.recv().await else {
            panic!("the question arrives");
        };
        let asking = handle.clone();
        let barrier = tokio::spawn(async move { asking.barrier().await });
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        reply.send(Ok(())).unwrap();
        assert_eq!(purged.await.unwrap(), Ok(()));
        assert_eq!(barrier.await.unwrap(), Err(Rejected::TimedOut));
    }
}
