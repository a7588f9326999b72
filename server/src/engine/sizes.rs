//! The amounts that decide when work is due and how much of it is done at once.
//! The server takes the defaults; the simulation draws small ones.

use std::time::Duration;

use storage::checkpoint::MOVED_BYTES_MAX;
use storage::limits::GATHERED_KEYS_MAX;

use super::limits::{
    CHECKPOINT_INTERVAL, CHECKPOINT_LOG_BYTES, CLEANING_PAUSE, COLLECT_SLICE_RECORDS,
    MOVED_BYTES_PER_CHECKPOINT, PIN_GRACE, PURGE_SLICE_RECORDS, REMOVED_RECORDS_PER_CHECKPOINT,
    SCRUB_PAUSE,
};

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Records visited in one slice of purging or eviction.
    pub purge_slice_records: usize,
    /// Records collected for a checkpoint in one slice.
    pub collect_slice_records: usize,
    /// Keys that the ranges of a transaction look at in its turn.
    pub gathered_keys_max: usize,
    /// A checkpoint is due once this much went to the log, or, after a pause, once it would
    /// free half of it.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint is due this long after the last one.
    pub checkpoint_interval: Duration,
    /// A checkpoint that is due only to free the disk comes this long after the last one.
    pub cleaning_pause: Duration,
    /// Purged records that a checkpoint removes; the purge waits for one at so many.
    pub removed_records_per_checkpoint: usize,
    /// Live bytes that cleaning moves in one checkpoint.
    pub moved_bytes_per_checkpoint: u64,
    /// Moved bytes that go to the cold store at once.
    pub moved_batch_bytes: usize,
    /// How long a pin may hold back the purge once compaction has passed it.
    pub pin_grace: Duration,
    /// From the end of one pass over the files to the next.
    pub scrub_pause: Duration,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            purge_slice_records: PURGE_SLICE_RECORDS,
            collect_slice_records: COLLECT_SLICE_RECORDS,
            gathered_keys_max: GATHERED_KEYS_MAX,
            checkpoint_log_bytes: CHECKPOINT_LOG_BYTES,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            cleaning_pause: CLEANING_PAUSE,
            removed_records_per_checkpoint: REMOVED_RECORDS_PER_CHECKPOINT,
            moved_bytes_per_checkpoint: MOVED_BYTES_PER_CHECKPOINT,
            moved_batch_bytes: MOVED_BYTES_MAX,
            pin_grace: PIN_GRACE,
            scrub_pause: SCRUB_PAUSE,
        }
    }
}
