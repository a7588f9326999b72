//! What applying an entry gives: the answer, the events, what changed for the
//! lessor. Plain data; owned by whoever gets it.
//!
//! Invariant: an outcome depends on nothing but the entries applied before it,
//! so every member gives the same one, excepted [`Outcome::over_quota`], which
//! depends on the configured quota, and which reads are deferred, which depends on how much
//! is purged. Neither changes any state.

use crate::error::Refusal;
use crate::mvcc::AsOf;
use crate::types::{KeyValueRef, LeaseId, MemberId, Place, RequestId, Revision, RevisionEvents};

use super::command::{Alarm, Range};

/// The effect of one entry.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whom to answer.
    pub request_id: RequestId,
    /// Revision for the header of the answer: the new one when something
    /// changed, else the current one (contract 1.3).
    pub revision: i64,
    /// The answer.
    pub result: Result<Response, Refusal>,
    /// What watchers see; None when no key changed.
    pub events: Option<RevisionEvents>,
    /// What the lessor must know, in order.
    pub lease_changes: Vec<LeaseChange>,
    /// True when the entry, applied all the same, is answered with
    /// [`Refusal::NoSpace`] and raises the alarm (contract 1.13, trap 15).
    /// Never together with a refusal.
    pub over_quota: bool,
    /// Records whose value stands in an earlier entry (`ignore_value`).
    pub inherited: Vec<InheritedValue>,
}

/// A success.
#[derive(Clone, Debug)]
pub enum Response {
    /// Of a put.
    Put {
        /// What was replaced, when asked for and there was something.
        previous: Option<KeyValueRef>,
    },
    /// Of a deletion.
    DeleteRange {
        /// How many keys.
        deleted: i64,
        /// What was deleted, in key order; empty unless asked for.
        previous: Vec<KeyValueRef>,
    },
    /// Of a transaction.
    Txn(TxnResult),
    /// Of a compaction.
    Compact,
    /// Of a grant.
    LeaseGrant {
        /// The lease.
        lease: LeaseId,
        /// The granted time to live, seconds.
        ttl_seconds: i64,
    },
    /// Of a revocation.
    LeaseRevoke,
    /// Of an alarm: the entry raised (also when it was raised already) or
    /// removed; empty when there was nothing to remove.
    Alarm(Vec<(MemberId, Alarm)>),
}

/// The result of a transaction or of a nested one.
#[derive(Clone, Debug)]
pub struct TxnResult {
    /// Whether the `success` list was taken.
    pub succeeded: bool,
    /// Revision of its header. Of a nested transaction it is 0: etcd fills
    /// only the outermost header (`txn.go`, `newTxnResp`).
    pub revision: i64,
    /// One for each operation of the taken list, in order.
    pub responses: Vec<OpResult>,
}

/// The result of one operation of a transaction. Each has a header with
/// nothing but a revision (contract 1.3).
#[derive(Clone, Debug)]
pub enum OpResult {
    /// Of a read.
    Range(RangeResult),
    /// Of a read that is too large for its turn.
    Deferred(DeferredRange),
    /// Of a put.
    Put {
        /// The transaction's revision.
        revision: i64,
        /// What was replaced, when asked for.
        previous: Option<KeyValueRef>,
    },
    /// Of a deletion.
    DeleteRange {
        /// The transaction's revision if it has changed something by now, else
        /// the current one.
        revision: i64,
        /// How many keys.
        deleted: i64,
        /// What was deleted, when asked for.
        previous: Vec<KeyValueRef>,
    },
    /// Of a nested transaction.
    Txn(TxnResult),
}

/// The answer to a read.
#[derive(Clone, Debug)]
pub struct RangeResult {
    /// Revision for the header: the current one, not the one read at; inside a
    /// transaction that has written, the one it writes (contract 1.3).
    pub revision: i64,
    /// In the order asked for, cut to the limit. Whole, whatever `projection` says.
    pub key_values: Vec<KeyValueRef>,
    /// What of each key-value goes out.
    pub projection: Projection,
    /// True when the limit cut something off.
    pub more: bool,
    /// Keys in the interval at the revision read, without limit and filters.
    pub count: i64,
}

/// A read within a transaction that is left to be made after its turn, in slices, by whoever
/// answers: all that [`super::Plan`] and [`crate::mvcc::Mvcc::range_slice`] need. The state
/// that it sees stays readable while [`AsOf::oldest`] is pinned.
#[derive(Clone, Debug)]
pub struct DeferredRange {
    /// As asked for; its revision was checked and is of no further use.
    pub range: Range,
    /// What it sees.
    pub at: AsOf,
    /// As in [`RangeResult`].
    pub revision: i64,
    /// As in [`RangeResult`], when it is known without a walk.
    pub count: Option<i64>,
}

/// What of a key-value an answer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Projection {
    /// All of it.
    #[default]
    Whole,
    /// All but value and lease: `keys_only` (contract 1.5, trap 10).
    WithoutValueAndLease,
    /// All but the value: `keys_only` when sorted by value, which etcd cannot
    /// answer from its index.
    WithoutValue,
}

/// What the lessor must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease began to exist.
    Granted {
        /// The lease.
        lease: LeaseId,
        /// Time to live, seconds.
        ttl_seconds: i64,
    },
    /// A lease is gone, its keys deleted.
    Revoked {
        /// The lease.
        lease: LeaseId,
    },
}

/// A record that took over the value of its predecessor, and with it the place.
/// Its bytes are resident when it is applied. If the segment of `place` was
/// retired before, the cold store holds them only under the predecessor's
/// revision: whoever writes the next checkpoint then has to store them under
/// `revision` as well, and must not evict them until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedValue {
    /// The new record.
    pub revision: Revision,
    /// Where the value lay in the log.
    pub place: Place,
}
