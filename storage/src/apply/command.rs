//! What an entry of the log asks of the state machine. Everything in here was
//! validated and made deterministic by the proposer: lease ids are chosen, times
//! and random numbers are stamped. `codec` gives the byte form
//! (docs/format.md, "Command").

use bytes::Bytes;

use crate::types::{LeaseId, MemberId, RequestId};

/// One request, as it stands in the data of a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whom to answer.
    pub request_id: RequestId,
    /// What to do.
    pub command: Command,
}

/// A change to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Contract 1.6.
    Put(Put),
    /// Contract 1.6.
    DeleteRange(DeleteRange),
    /// Contract 1.7. Never read-only: those are answered without an entry.
    Txn(Txn),
    /// Contract 1.8; the physical part is not the state machine's business.
    Compact {
        /// Logical compaction revision.
        revision: i64,
    },
    /// Contract 1.10; the id is never 0 and the TTL already raised to the minimum.
    LeaseGrant {
        /// The lease.
        lease: LeaseId,
        /// Granted time to live, seconds.
        ttl_seconds: i64,
    },
    /// Contract 1.10; expiry takes this way too.
    LeaseRevoke {
        /// The lease.
        lease: LeaseId,
    },
    /// Raises or clears an alarm (contract 1.12).
    Alarm {
        /// True to raise, false to clear.
        activate: bool,
        /// The member it is about.
        member: MemberId,
        /// Which alarm.
        alarm: Alarm,
    },
}

/// The kinds of alarm, with etcd's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Alarm {
    /// The space quota is used up.
    NoSpace = 1,
    /// Members disagree.
    Corrupt = 2,
}

impl Alarm {
    /// etcd's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The alarm of etcd's number; None for NONE (0) and for unknown ones.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Alarm> {
        match number {
            1 => Some(Alarm::NoSpace),
            2 => Some(Alarm::Corrupt),
            _ => None,
        }
    }
}

/// Half-open interval of keys as etcd's requests give it (contract 1.5): empty
/// `range_end` is the single key, one zero byte is "everything from key on".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key; never empty in a command.
    pub key: Bytes,
    /// As etcd's `range_end`.
    pub range_end: Bytes,
}

/// Sets one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key; never empty.
    pub key: Bytes,
    /// The new value; empty when `ignore_value`.
    pub value: Bytes,
    /// Lease to attach; [`LeaseId::NONE`] detaches.
    pub lease: LeaseId,
    /// Answer with the key-value replaced.
    pub prev_kv: bool,
    /// Keep the stored value.
    pub ignore_value: bool,
    /// Keep the attached lease.
    pub ignore_lease: bool,
}

/// Deletes an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRange {
    /// What to delete.
    pub range: KeyRange,
    /// Answer with the key-values deleted.
    pub prev_kv: bool,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Taken when they do.
    pub success: Vec<RequestOp>,
    /// Taken when one does not.
    pub failure: Vec<RequestOp>,
}

impl Txn {
    /// True when every operation of both lists is a read, as etcd asks it: a
    /// nested transaction counts as a write, an empty list as a read.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let mut ops = self.success.iter().chain(&self.failure);
        ops.all(|op| matches!(op, RequestOp::Range(_)))
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    /// A read; sees earlier writes of the same transaction.
    Range(Range),
    /// A write.
    Put(Put),
    /// A deletion.
    DeleteRange(DeleteRange),
    /// A nested transaction.
    Txn(Txn),
}

/// One guard of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// etcd's `result` number: 0 equal, 1 greater, 2 less, 3 not equal;
    /// any other number always holds (contract 1.7).
    pub result: i32,
    /// What is compared, and with what.
    pub target: CompareTarget,
    /// The keys it is about.
    pub range: KeyRange,
}

/// The quantity that a guard looks at and the wanted value. A request whose
/// target and union disagree is normalised by the proposer as etcd does
/// (absent union = 0 or empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Version of the key.
    Version(i64),
    /// Create revision.
    Create(i64),
    /// Mod revision.
    Mod(i64),
    /// The value's bytes.
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

/// A read (contract 1.5). Also what a stand-alone Range is turned into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// What to read.
    pub range: KeyRange,
    /// Most keys to answer with; 0 or less is no limit.
    pub limit: i64,
    /// At which revision; 0 or less is the current one when stand-alone.
    pub revision: i64,
    /// In which order.
    pub sort_order: SortOrder,
    /// By which quantity.
    pub sort_target: SortTarget,
    /// Leave values (and leases) out.
    pub keys_only: bool,
    /// Answer with the count alone.
    pub count_only: bool,
    /// Inclusive filters; 0 is off.
    pub min_mod_revision: i64,
    /// Inclusive filters; 0 is off.
    pub max_mod_revision: i64,
    /// Inclusive filters; 0 is off.
    pub min_create_revision: i64,
    /// Inclusive filters; 0 is off.
    pub max_create_revision: i64,
}

/// etcd's `SortOrder`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SortOrder {
    /// No order asked for.
    #[default]
    None = 0,
    /// Ascending.
    Ascend = 1,
    /// Descending.
    Descend = 2,
}

impl SortOrder {
    /// etcd's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The order of etcd's number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<SortOrder> {
        match number {
            0 => Some(SortOrder::None),
            1 => Some(SortOrder::Ascend),
            2 => Some(SortOrder::Descend),
            _ => None,
        }
    }
}

/// etcd's `SortTarget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SortTarget {
    /// By key.
    #[default]
    Key = 0,
    /// By version.
    Version = 1,
    /// By create revision.
    Create = 2,
    /// By mod revision.
    Mod = 3,
    /// By value.
    Value = 4,
}

impl SortTarget {
    /// etcd's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The target of etcd's number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<SortTarget> {
        match number {
            0 => Some(SortTarget::Key),
            1 => Some(SortTarget::Version),
            2 => Some(SortTarget::Create),
            3 => Some(SortTarget::Mod),
            4 => Some(SortTarget::Value),
            _ => None,
        }
    }
}
