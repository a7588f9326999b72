//! Whether the disk has room for the segment after the active one. While it has not,
//! what takes space is refused as for the quota, so that alarms, compactions, deletions
//! and the ends of leases find room in the active segment for long.
//!
//! Owned by the engine. Limits: [`FULL_DISKS_MAX`], [`LOG_RESERVE_BYTES`]. What does not
//! fit all the same waits until a segment is there; nothing ends for want of space.

use storage::raft_log::{RaftLog, Spare, Unprepared};

use super::limits::{FULL_DISKS_MAX, LOG_RESERVE_BYTES};

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// So many times in a row there was no space for the next segment.
    full_disks: u32,
    /// The last job failed: the next one waits for a tick.
    failed: bool,
}

impl Room {
    /// A job on a segment has ended.
    pub(super) fn prepared(&mut self, made: &Result<Spare, Unprepared>) {
        self.failed = made.is_err();
        match made {
            Ok(_) => self.full_disks = 0,
            Err(unprepared) if unprepared.is_full() => self.full_disks += 1,
            Err(_) => {}
        }
    }

    /// True when the last job failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// True when what takes space is refused: the disk stays full, or little is left of
    /// the active segment.
    pub(super) fn is_short(&self, log: &RaftLog) -> bool {
        let scarce = log.room_bytes() < LOG_RESERVE_BYTES;
        let full = self.full_disks >= FULL_DISKS_MAX || (self.full_disks > 0 && scarce);
        full && !log.next_is_ready()
    }
}
