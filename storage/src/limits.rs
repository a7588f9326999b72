//! Named limits of the storage crate, each with its reason.

/// Size of a log segment, bytes. Large enough that rolling is rare, small
/// enough that zero-filling one takes a fraction of a second.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Size of the first segment of an empty member, bytes, so that it starts at once.
pub const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// Every flush group starts at a multiple of this, so that no acknowledged
/// group shares a disk block with a later write.
pub const GROUP_ALIGNMENT_BYTES: u64 = 4096;

/// Bytes of superseded values that stay resident (design, second idea).
pub const HOT_SUPERSEDED_BYTES: u64 = 256 << 20;

/// Bookkeeping bytes that dbSize adds to each record's encoded KeyValue
/// (17 bytes of bolt key and 17 of page and element headers; design section 5).
pub const RECORD_OVERHEAD_BYTES: u64 = 34;

/// Levels of transactions that a command may hold, the outermost included.
/// Above what a proposer lets through: etcd's operation budget of 128 ends
/// nesting at 129 levels, prost's recursion limit at about 50. Small enough for
/// the stack of any thread.
pub const TXN_DEPTH_MAX: usize = 192;

/// Largest time to live of a lease, seconds (contract 1.10).
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// What a put is taken to cost besides its key and value when the space quota
/// is checked, bytes (contract 1.13).
pub const PUT_COST_BYTES: u64 = 256;

/// What a lease is taken to cost when the space quota is checked, bytes
/// (contract 1.13).
pub const LEASE_COST_BYTES: u64 = 64;
