//! The vocabulary of the crate: newtypes for positions and identities, and the
//! handles to stored key-values that every layer passes around.
//!
//! "Index" means only a Raft log position, "revision" only MVCC.

use std::fmt;
use std::sync::Arc;

/// A Raft term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A position in the Raft log. The first entry has index 1; 0 is "before all".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

/// A member's identity; never 0 for a real member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A lease's identity. 0 is "no lease" (contract 1.6); any other value,
/// negative ones included, is a legal identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The value that stands for "no lease attached".
    pub const NONE: LeaseId = LeaseId(0);

    /// True when this names no lease.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// A number that the proposer gives to a request, unique over the life of the
/// cluster (member, boot and sequence mixed by `server::node`); 0 means that
/// nobody waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The number of a log segment. Numbers rise and are never used twice, so a
/// recycled file can never be taken for what it held before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u32);

/// A full revision: the main revision of the request and the position of the
/// change within it (contract 1.4). Ordered by main, then sub.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Main revision; the first change of an empty store has 2.
    pub main: i64,
    /// Position of the change inside its request, from 0.
    pub sub: u32,
}

impl Revision {
    /// Builds a revision.
    #[must_use]
    pub const fn new(main: i64, sub: u32) -> Self {
        Revision { main, sub }
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.main, self.sub)
    }
}

/// A user key, shared by the index and by all records of that key.
pub type Key = Arc<[u8]>;

/// Where the bytes of one value lie in the Raft log. A value of length 0 has
/// no place of its own: its length says all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The segment that holds the value. When that segment has been cleaned
    /// the value lies in the cold store, under its revision.
    pub segment: SegmentNumber,
    /// Byte offset of the value within the segment's file.
    pub offset: u32,
    /// Length of the value, bytes.
    pub length: u32,
    /// CRC-32 (IEEE) over the value's bytes.
    pub crc: u32,
}

impl Place {
    /// Byte offset of its end within the segment's file.
    #[must_use]
    pub fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// Everything the index knows of one change, without the value's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMeta {
    /// The key.
    pub key: Key,
    /// Revision of this change (`mod_revision` is its main part).
    pub revision: Revision,
    /// Main revision at which the key's present generation began; 0 for a tombstone.
    pub create_revision: i64,
    /// Version within the generation, from 1; 0 for a tombstone.
    pub version: i64,
    /// Attached lease, or [`LeaseId::NONE`].
    pub lease: LeaseId,
    /// True for a deletion.
    pub tombstone: bool,
    /// Where the value lies.
    pub place: Place,
}

/// The protobuf encoding of one `mvccpb.KeyValue`, byte-identical to etcd's
/// (fields 1 to 6 in order, zero fields left out; a tombstone holds its key
/// alone). One allocation per record, shared by index, ring and readers.
/// `mvcc::key_value` builds it and reads its fields.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedKeyValue(pub Arc<[u8]>);

/// One key-value as a reader gets it: either its encoded bytes, shared with the
/// index, or what is needed to fetch them.
#[derive(Clone, Debug)]
pub enum KeyValueRef {
    /// The encoded bytes are in memory.
    Resident(EncodedKeyValue),
    /// Superseded long ago or not warmed yet: fetch the value from its place,
    /// then encode.
    Stored(Arc<RecordMeta>),
}

impl fmt::Debug for EncodedKeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedKeyValue({} bytes)", self.0.len())
    }
}

/// What one change did, as watchers see it. The predecessor is taken at apply,
/// so that `prev_kv` needs no later lookup.
#[derive(Clone, Debug)]
pub struct Event {
    /// The record's metadata: key, revision, create revision, tombstone.
    pub meta: Arc<RecordMeta>,
    /// The new key-value; of a deletion, key and mod_revision only
    /// (contract 1.6), which is not what is stored for it.
    pub key_value: KeyValueRef,
    /// The live key-value that this change replaced or deleted; absent for a create.
    pub previous: Option<KeyValueRef>,
}

/// All changes of one main revision, in sub order. Never empty.
#[derive(Clone, Debug)]
pub struct RevisionEvents {
    /// The main revision.
    pub revision: i64,
    /// The changes.
    pub events: Vec<Event>,
}
