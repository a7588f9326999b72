//! Counts down the leases while this member leads (contract 1.10). Which leases
//! exist is the state machine's knowledge; this only knows when each ends.
//!
//! Owned by the engine. Invariants: `deadlines` and `by_deadline` hold the same
//! leases; a lease whose revocation is proposed is not renewed any more; nothing
//! ends before its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use storage::types::LeaseId;

#[derive(Debug)]
struct Countdown {
    ttl_seconds: i64,
    deadline: Instant,
    revoking: bool,
}

/// The countdowns of all leases.
#[derive(Debug, Default)]
pub(super) struct Lessor {
    deadlines: BTreeMap<LeaseId, Countdown>,
    by_deadline: BTreeSet<(Instant, LeaseId)>,
}

impl Lessor {
    /// A lease began, or was restored with its full time.
    pub(super) fn granted(&mut self, lease: LeaseId, ttl_seconds: i64, now: Instant) {
        let deadline = deadline(now, ttl_seconds);
        let countdown = Countdown {
            ttl_seconds,
            deadline,
            revoking: false,
        };
        let before = self.deadlines.insert(lease, countdown);
        assert!(before.is_none(), "a lease is granted once");
        self.by_deadline.insert((deadline, lease));
    }

    /// A lease is gone.
    pub(super) fn revoked(&mut self, lease: LeaseId) {
        let countdown = self
            .deadlines
            .remove(&lease)
            .expect("a revoked lease was granted");
        self.by_deadline.remove(&(countdown.deadline, lease));
    }

    /// Starts the lease's time anew; its TTL, or None when it is unknown or has ended.
    pub(super) fn renew(&mut self, lease: LeaseId, now: Instant) -> Option<i64> {
        let countdown = self.deadlines.get_mut(&lease)?;
        if countdown.revoking || countdown.deadline <= now {
            return None;
        }
        self.by_deadline.remove(&(countdown.deadline, lease));
        countdown.deadline = deadline(now, countdown.ttl_seconds);
        self.by_deadline.insert((countdown.deadline, lease));
        Some(countdown.ttl_seconds)
    }

    /// Whole seconds left and the granted TTL; None when the lease is unknown.
    pub(super) fn remaining(&self, lease: LeaseId, now: Instant) -> Option<(i64, i64)> {
        let countdown = self.deadlines.get(&lease)?;
        let left = countdown.deadline.saturating_duration_since(now).as_secs();
        Some((
            i64::try_from(left).unwrap_or(i64::MAX),
            countdown.ttl_seconds,
        ))
    }

    /// All leases by remaining time.
    pub(super) fn by_remaining_time(&self) -> impl Iterator<Item = LeaseId> {
        self.by_deadline.iter().map(|(_, lease)| *lease)
    }

    /// Up to `limit` leases that have ended and whose revocation is not proposed
    /// yet; from now on it counts as proposed.
    pub(super) fn take_expired(&mut self, now: Instant, limit: usize) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        for (deadline, lease) in &self.by_deadline {
            if *deadline > now || expired.len() == limit {
                break;
            }
            let countdown = self
                .deadlines
                .get_mut(lease)
                .expect("both maps hold the lease");
            if !std::mem::replace(&mut countdown.revoking, true) {
                expired.push(*lease);
            }
        }
        expired
    }
}

fn deadline(now: Instant, ttl_seconds: i64) -> Instant {
    let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
    now + ttl
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId(-7);

    #[test]
    fn a_lease_ends_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut lessor = Lessor::default();
        lessor.granted(LEASE, 2, start);
        let almost = start + Duration::from_millis(1999);
        assert!(lessor.take_expired(almost, 10).is_empty());
        assert_eq!(lessor.remaining(LEASE, almost), Some((0, 2)));
        assert_eq!(lessor.renew(LEASE, almost), Some(2));
        let first_end = start + Duration::from_secs(2);
        assert!(lessor.take_expired(first_end, 10).is_empty());
        let end = almost + Duration::from_secs(2);
        assert_eq!(
            lessor.renew(LEASE, end),
            None,
            "an ended lease is not renewed"
        );
        assert_eq!(lessor.take_expired(end, 10), [LEASE]);
        assert!(
            lessor.take_expired(end, 10).is_empty(),
            "it is proposed once"
        );
        lessor.revoked(LEASE);
        assert_eq!(lessor.remaining(LEASE, end), None);
        assert_eq!(lessor.by_remaining_time().count(), 0);
    }

    #[test]
    fn the_scan_is_bounded() {
        let start = Instant::now();
        let mut lessor = Lessor::default();
        for id in 1..=5 {
            lessor.granted(LeaseId(id), 1, start);
        }
        let later = start + Duration::from_secs(1);
        assert_eq!(lessor.take_expired(later, 3).len(), 3);
    }
}
