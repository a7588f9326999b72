//! Named limits of the engine, each with its reason.

use std::time::Duration;

/// Proposals that wait for their answer; beyond it a write is refused with
/// "too many requests" (contract 1.17: etcd's gap between committed and applied).
pub(super) const PROPOSALS_WAITING_MAX: usize = 5000;

/// Key-values handed out in one slice (design, section 4, "range"): a page of a client.
pub const SLICE_KEY_VALUES_MAX: usize = 512;

/// Keys looked at in one slice, so that a slice of an old revision is short too.
pub(super) const SLICE_SCAN_MAX: usize = 2048;

/// Records visited in one slice of purging or eviction. A slice stands before each step of
/// a write that is under way, so it takes some 20 microseconds.
pub(super) const PURGE_SLICE_RECORDS: usize = 64;

/// Leases revoked in one expiry scan (contract 1.10).
pub(super) const EXPIRED_LEASES_PER_SCAN: usize = 500;

/// After this long without a write an empty group proves the last one synced
/// (reliability 4).
pub(super) const IDLE_BEFORE_PROOF: Duration = Duration::from_millis(100);

/// How long a pin may hold back the purge once compaction has passed it.
pub const PIN_GRACE: Duration = Duration::from_secs(60);

/// Counts of later pages that are remembered.
pub(super) const PAGE_COUNTS_MAX: usize = 1024;

/// A checkpoint is due once this much went to the log, so that a restart replays
/// little: one segment.
pub(super) const CHECKPOINT_LOG_BYTES: u64 = 64 << 20;

/// A checkpoint is due this long after the last one when something was written.
/// Longer than Kubernetes' compaction interval, so that most superseded
/// revisions never reach the checkpoint.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// A checkpoint that is due only to free the disk comes this long after the last one: the
/// disk can wait, and puts beside it feel its writes (p99.9 twice as long, docs/performance.md).
pub(super) const CLEANING_PAUSE: Duration = Duration::from_secs(30);

/// Purged records that one checkpoint removes: 40 MiB in memory, and in the manifest.
/// Purging more waits, so that compacting a long history costs no memory of its length.
pub(super) const REMOVED_RECORDS_PER_CHECKPOINT: usize = 1 << 20;

/// Live bytes that cleaning moves in one checkpoint.
pub(super) const MOVED_BYTES_PER_CHECKPOINT: u64 = 128 << 20;

/// Records collected for a checkpoint in one slice: as short as one of purging.
pub(super) const COLLECT_SLICE_RECORDS: usize = 128;

/// So many times in a row the disk had no space for the next segment of the log, at
/// every tick once: then what takes space is refused. One time may be a passing one.
pub(super) const FULL_DISKS_MAX: u32 = 2;

/// What is kept of the active segment for alarms, compactions, deletions and the ends
/// of leases while there is no space for the next one: 256 groups of the smallest size.
pub(super) const LOG_RESERVE_BYTES: u64 = 1 << 20;

/// Between two passes of the scrub. With its rate each byte of a large member is read
/// every few hours (docs/design/0004-scrub.md).
pub(super) const SCRUB_PAUSE: Duration = Duration::from_secs(60 * 60);
