//! Named limits of the storage crate, each with its reason.

/// Size of a log segment, bytes. Large enough that rolling is rare, small
/// enough that zero-filling one takes a fraction of a second.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Size of the first segment of an empty member, bytes, so that it starts at once.
pub const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// Every flush group starts at a multiple of this, so that no acknowledged
/// group shares a disk block with a later write.
pub const GROUP_ALIGNMENT_BYTES: u64 = 4096;

/// What superseded records may cost in memory, bytes (design, second idea): those
/// whose values are resident, together with the packed ones.
pub const HOT_SUPERSEDED_BYTES: u64 = 256 << 20;

/// However many are packed, this part of [`HOT_SUPERSEDED_BYTES`] is left to resident
/// ones, so that watchers a little behind read no disk: what the ring refers to.
pub const HOT_SHARE_MIN: u64 = 4;

/// What a superseded record in memory costs beside its encoded bytes: its slot (112
/// bytes), its place in the timeline, and what its allocation is counted with.
/// Counted against [`HOT_SUPERSEDED_BYTES`].
pub const HOT_RECORD_BYTES: u64 = 150;

/// And this part of its length: the allocator has four sizes between two powers of two.
pub const HOT_ROUNDING_SHARE: u64 = 8;

/// What a packed record costs: its bytes in a block, the rounding of that allocation,
/// its share of the marks of its chain. Counted against [`HOT_SUPERSEDED_BYTES`].
pub const PACKED_RECORD_BYTES: u64 = 24;

/// Bookkeeping bytes that dbSize adds to each record's encoded KeyValue
/// (17 bytes of bolt key and 17 of page and element headers; design section 5).
pub const RECORD_OVERHEAD_BYTES: u64 = 34;

/// Levels of transactions that a command may hold, the outermost included.
/// Above what a proposer lets through by default: etcd's operation budget of 128
/// ends nesting at 129 levels. Small enough for the stack of any thread.
pub const TXN_DEPTH_MAX: usize = 192;

/// Keys that all ranges of a transaction look at in its turn: as many as a slice of a plain
/// read has. What needs more is read after it, in slices (docs/design/0009).
pub const GATHERED_KEYS_MAX: usize = 512;

/// Largest time to live of a lease, seconds (contract 1.10).
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// What a put is taken to cost besides its key and value when the space quota
/// is checked, bytes (contract 1.13).
pub const PUT_COST_BYTES: u64 = 256;

/// What a lease is taken to cost when the space quota is checked, bytes
/// (contract 1.13).
pub const LEASE_COST_BYTES: u64 = 64;

/// Spare log segments kept ready: one named for the next roll and one for a roll
/// that follows before the next is prepared.
pub const SPARE_SEGMENTS_MAX: usize = 2;

/// The largest flush group, bytes, headers included. A place holds a 32-bit
/// offset, so a segment stays below 4 GiB; a request stays far below this.
pub const GROUP_BYTES_MAX: u64 = 1 << 30;

/// Flush groups encoded and not yet reported durable. One is in flight while
/// the next grows; more than this means that nobody flushes.
pub const PENDING_GROUPS_MAX: usize = 1024;

/// Recovery reads the log in pieces of at least this many bytes.
pub const LOG_READ_WINDOW_BYTES: u64 = 1 << 20;

/// Bytes that one step of the scrub reads, unless a group is larger: it sleeps between two.
pub const SCRUB_READ_BYTES: u64 = 1 << 20;

/// A segment that is being prepared is filled without pauses once less than this
/// part of the active one is left.
pub const LOG_HURRY_SHARE: u64 = 4;

/// Bytes of zeros written at once when a segment is prepared, and brought to the
/// disk before the next: a flush of the log waits behind no more than these.
pub const ZERO_FILL_BYTES: usize = 1 << 20;

/// Bytes of one chunk of a snapshot that leaves for a client: the size of etcd's blobs.
pub const SNAPSHOT_CHUNK_BYTES: usize = 32 << 10;

/// Longest encoded KeyValue that a snapshot takes or an import reads, bytes.
/// Far above any request limit in use, far below what overflows a bolt page.
pub const SNAPSHOT_RECORD_BYTES_MAX: u32 = 512 << 20;

/// Longest page of a bolt file that is read at once, bytes: one record of the
/// longest kind, with room for its key and headers.
pub const BOLT_PAGE_BYTES_MAX: u64 = (512 << 20) + (1 << 20);

/// Deepest bolt tree that is read. A tree of branches with two children each
/// and 2^32 leaves is no deeper.
pub const BOLT_DEPTH_MAX: usize = 32;

/// Records per chunk of the timeline. Removing one moves at most 2 KiB; packing
/// a chunk takes some tens of microseconds.
pub const TIMELINE_CHUNK_RECORDS: usize = 512;

/// Packing waits for so many evicted records (7 MiB of slots), so that a small
/// store never packs.
pub const PACK_WAITING_RECORDS_MIN: usize = 65_536;

/// Packing also waits for this part of all records in the slab: a pass visits
/// them all, so what it costs per evicted record stays bounded.
pub const PACK_WAITING_SHARE: usize = 8;
