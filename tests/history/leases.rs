//! A lease never ends early: its revocation is proposed only once the time to
//! live has passed since the last answered renewal, or since the grant was asked
//! for. That none is lost is part of `durable`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Verdict;

#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Lease, time to live in seconds, the time before which it must not end.
    known: BTreeMap<i64, (i64, Instant)>,
}

impl Leases {
    /// A grant is being asked for, or a lease was renewed.
    pub fn lives(&mut self, lease: i64, ttl_seconds: i64, now: Instant) {
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
        self.known.insert(lease, (ttl_seconds, now + ttl));
    }

    /// A keep-alive was answered with this time to live.
    pub fn renewed(&mut self, lease: i64, ttl_seconds: i64, now: Instant) -> Verdict {
        match self.known.get(&lease) {
            Some((granted, _)) if *granted == ttl_seconds => {
                self.lives(lease, ttl_seconds, now);
                Ok(())
            }
            other => Err(format!(
                "the keep-alive of lease {lease} is answered {ttl_seconds} s, known is {other:?}"
            )),
        }
    }

    /// The member ends this lease on its own.
    pub fn ends(&self, lease: i64, now: Instant) -> Verdict {
        match self.known.get(&lease) {
            Some((_, not_before)) if now >= *not_before => Ok(()),
            Some((ttl, not_before)) => Err(format!(
                "lease {lease} of {ttl} s ends {:?} early",
                *not_before - now
            )),
            None => Err(format!("lease {lease} ends and was never granted")),
        }
    }
}
