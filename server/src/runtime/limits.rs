//! Named limits of the core loop, each with its reason.

use std::time::Duration;

/// Requests that wait for the core loop; beyond it callers wait in turn.
pub(super) const REQUESTS_WAITING_MAX: usize = 4096;

/// Requests taken in one turn, so that ticks and flushes are never far away.
pub(super) const REQUESTS_PER_TURN: usize = 256;

/// Under load a slice of background work is done for so many requests taken; one makes
/// two records to be looked at in slices of 64.
pub(super) const REQUESTS_PER_SLICE: usize = 32;

/// A write that is not answered after this long is answered "request timed out"
/// (contract 8: 5 s and twice the election timeout).
pub(super) const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);

/// How often the lessor looks for expired leases (contract 1.10).
pub(super) const LEASE_SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Values warmed up at a time.
pub(super) const WARM_SLICE_RECORDS: usize = 256;

/// What the scrub reads of the data directory, so that a cheap disk has nearly all of
/// itself left for flushes.
pub(super) const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;
