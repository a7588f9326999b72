//! What can be asked of the engine, and what it answers.
//!
//! Plain data, on its way through the server's one bounded channel; every question
//! carries the place that its answer goes to.

use storage::apply::command::{Alarm, Command, Range, Txn};
use storage::apply::{Projection, Response, TxnResult};
use storage::error::Refusal;
use storage::mvcc::{Bounds, HashKvResult, Measured, RecordView};
use storage::types::{
    Key, KeyValueRef, LeaseId, LogIndex, MemberId, Revision, RevisionEvents, Term,
};

use super::host::Host;
use super::pins::Pin;

/// A question to the engine.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "the fields of a question are those of its call"
)]
pub enum Request<H: Host> {
    /// Becomes an entry of the log.
    Propose {
        command: Command,
        reply: H::Reply<Applied>,
    },
    /// A transaction of reads alone.
    ReadTxn {
        txn: Txn,
        linearizable: bool,
        reply: H::Reply<ReadTxn>,
    },
    /// Begins a read.
    OpenRead {
        range: Range,
        linearizable: bool,
        first_slice: usize,
        reply: H::Reply<OpenedRead>,
    },
    /// The next key-values of a read.
    ReadSlice {
        bounds: Bounds,
        pin: Pin,
        limit: usize,
        reply: H::Reply<ReadSlice>,
    },
    /// Measures the next key-values of a read.
    MeasureSlice {
        bounds: Bounds,
        pin: Pin,
        limit: usize,
        projection: Projection,
        reply: H::Reply<Measured>,
    },
    /// Counts on.
    CountSlice {
        bounds: Bounds,
        pin: Pin,
        reply: H::Reply<CountSlice>,
    },
    /// What a page's end taught about the next one.
    RememberCount {
        range_end: bytes::Bytes,
        revision: i64,
        next: Vec<u8>,
        remaining: i64,
    },
    /// A linearizable point in time, without data.
    Barrier { reply: H::Reply<()> },
    /// Past events, for watchers that catch up.
    History {
        from: i64,
        revisions_max: usize,
        reply: H::Reply<History>,
    },
    /// Completes once the purge of this compaction is done.
    Purged { revision: i64, reply: H::Reply<()> },
    /// Starts a lease's time anew.
    LeaseRenew {
        lease: LeaseId,
        reply: H::Reply<Option<i64>>,
    },
    /// Asks for a lease's time and keys.
    LeaseState {
        lease: LeaseId,
        keys: bool,
        reply: H::Reply<Option<LeaseState>>,
    },
    /// All leases by remaining time.
    Leases { reply: H::Reply<Vec<LeaseId>> },
    /// HashKV at a revision.
    HashKv {
        revision: i64,
        reply: H::Reply<HashKvJob>,
    },
    /// Goes on with HashKV.
    HashKvSlice {
        walk: Box<HashKvWalk>,
        reply: H::Reply<Box<HashKvWalk>>,
    },
    /// The hash of a compaction, for later questions.
    RememberHash { result: HashKvResult },
    /// Pins the present for a snapshot.
    SnapshotStart { reply: H::Reply<SnapshotStart> },
    /// Records in revision order; `compacted` in them is told as of a revision.
    Records {
        after: Revision,
        compacted_revision: i64,
        pin: Pin,
        limit: usize,
        reply: H::Reply<Vec<RecordView>>,
    },
    /// Newest values that are not in memory.
    MissingValues {
        after: Revision,
        limit: usize,
        reply: H::Reply<MissingValues>,
    },
    /// Fetched values become resident.
    InstallValues {
        values: Vec<(Revision, bytes::Bytes)>,
        reply: H::Reply<()>,
    },
    /// Numbers of one moment.
    Status { reply: H::Reply<StatusNumbers> },
}

/// Why the engine did not do what was asked. `rpc::status` knows the gRPC
/// code and the text of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The state machine, or the rules before it, refuse.
    Refusal(Refusal),
    /// There is no leader.
    NoLeader,
    /// The member stops.
    Stopped,
    /// No answer in time; a write may still happen.
    TimedOut,
    /// Too many writes wait.
    TooManyRequests,
    /// A transaction is nested deeper than an entry may be.
    TooDeep,
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Rejected {
        Rejected::Refusal(refusal)
    }
}

/// Newest values that are not in memory, and where to go on.
pub type MissingValues = (Vec<storage::types::RecordMeta>, Option<Revision>);

/// A proposal that was applied.
#[derive(Debug)]
pub struct Applied {
    /// Revision for the header.
    pub revision: i64,
    /// What it did.
    pub response: Response,
    /// Keeps the values named in the response readable until they are encoded.
    pub pin: Pin,
}

/// The answer of a read-only transaction.
#[derive(Debug)]
pub struct ReadTxn {
    /// What was read.
    pub result: TxnResult,
    /// Holds what was read.
    pub pin: Pin,
}

/// A read that has begun.
#[derive(Debug)]
pub struct OpenedRead {
    /// The current revision, for the header (contract 1.3).
    pub header_revision: i64,
    /// Holds the revision that is read.
    pub pin: Pin,
    /// The first key-values, in key order.
    pub first: ReadSlice,
    /// Keys in the whole interval, when known without a walk.
    pub count: Option<i64>,
}

/// Some key-values in key order, and where to go on.
#[derive(Debug, Default)]
pub struct ReadSlice {
    /// The key-values.
    pub key_values: Vec<KeyValueRef>,
    /// The key to go on from; None at the end of the interval.
    pub next: Option<Key>,
}

/// A part of a count.
#[derive(Debug)]
pub struct CountSlice {
    /// Keys counted.
    pub count: i64,
    /// Where to go on; None at the end.
    pub next: Option<Key>,
}

/// Past events.
#[derive(Debug)]
pub struct History {
    /// The compacted revision at that moment; -1 before the first.
    pub compacted_revision: i64,
    /// Whole revisions in order; empty also when `from` is compacted.
    pub revisions: Vec<RevisionEvents>,
    /// Every event up to here was looked at.
    pub through: i64,
    /// Holds the values of the events.
    pub pin: Pin,
}

/// A lease as TimeToLive shows it.
#[derive(Debug)]
pub struct LeaseState {
    /// Whole seconds left.
    pub remaining_seconds: i64,
    /// Granted time to live.
    pub granted_seconds: i64,
    /// Attached keys, if asked for.
    pub keys: Vec<Key>,
}

/// How HashKV goes on.
#[derive(Debug)]
pub enum HashKvJob {
    /// Remembered from a compaction.
    Known(HashKvResult),
    /// To be walked.
    Walk(Box<HashKvWalk>),
}

/// HashKV under way.
#[derive(Debug)]
pub struct HashKvWalk {
    /// The walk.
    pub walk: storage::mvcc::HashKv,
    /// Holds what it reads.
    pub pin: Pin,
    /// The records of the last slice, to be fed to the digest.
    pub records: Vec<storage::mvcc::HashKvRecord>,
}

/// The state a snapshot is made of, besides the records.
#[derive(Debug)]
pub struct SnapshotStart {
    /// Current revision: later records are no part of it.
    pub revision: i64,
    /// Holds the revision of the snapshot.
    pub pin: Pin,
    /// Log position of the snapshot.
    pub applied: LogIndex,
    /// Its term.
    pub term: Term,
    /// Newest logical compaction.
    pub compacted_revision: i64,
    /// Leases and granted seconds.
    pub leases: Vec<(LeaseId, i64)>,
    /// Active alarms.
    pub alarms: Vec<(MemberId, Alarm)>,
}

/// Numbers for Status, of one moment.
#[derive(Clone, Copy, Debug)]
pub struct StatusNumbers {
    /// Current revision.
    pub revision: i64,
    /// Last committed log position.
    pub committed: u64,
    /// Last applied log position.
    pub applied: u64,
    /// Bytes of unreclaimed records.
    pub size_total: u64,
    /// Bytes in use.
    pub size_in_use: u64,
}
