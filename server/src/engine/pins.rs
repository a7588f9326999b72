//! Readers that go on over many slices pin the revision they read at: the purge
//! does not pass the oldest pin. A pin that compaction has passed is revoked
//! after a grace, so that a reader who stopped holds a pin, not the disk.
//!
//! Owned by the engine; a [`Pin`] is released when its reader drops it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use storage::mvcc::AsOf;
use storage::planted::{Bug, planted};

/// A reader's hold on one revision, and what it reads there.
#[derive(Clone, Debug)]
pub struct Pin {
    held: Arc<Held>,
    at: AsOf,
}

#[derive(Debug)]
struct Held {
    revision: i64,
    revoked: AtomicBool,
}

impl Pin {
    /// What is read under this pin: the pinned revision, unless told otherwise.
    #[must_use]
    pub fn at(&self) -> AsOf {
        self.at
    }

    /// The same hold for a read of something younger.
    #[must_use]
    pub fn reading(&self, at: AsOf) -> Pin {
        let held = Arc::clone(&self.held);
        Pin { held, at }
    }

    /// True when the hold was taken back: the reader must end with "compacted".
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.held.revoked.load(Ordering::Acquire)
    }
}

/// All pins. Their number is bounded by the number of open reads; those that
/// were released are swept out whenever as many again have come.
#[derive(Debug)]
pub(super) struct Pins {
    grace: Duration,
    held: Vec<(Weak<Held>, Option<Instant>)>,
    sweep_at: usize,
}

/// Released pins below this number are not worth a sweep.
const SWEEP_MIN: usize = 64;

impl Pins {
    /// None yet; `grace` is what a pin gets that compaction has passed.
    pub(super) fn new(grace: Duration) -> Pins {
        Pins {
            grace,
            held: Vec::new(),
            sweep_at: 0,
        }
    }

    pub(super) fn pin(&mut self, revision: i64) -> Pin {
        let held = Arc::new(Held {
            revision,
            revoked: AtomicBool::new(false),
        });
        if self.held.len() >= self.sweep_at {
            self.held.retain(|(held, _)| held.strong_count() > 0);
            self.sweep_at = (2 * self.held.len()).max(SWEEP_MIN);
        }
        self.held.push((Arc::downgrade(&held), None));
        let at = AsOf::from(revision);
        Pin { held, at }
    }

    /// The oldest pinned revision, `i64::MAX` without any. Forgets released
    /// pins and revokes those that compaction passed long ago.
    pub(super) fn floor(&mut self, compacted_revision: i64, now: Instant) -> i64 {
        let grace = self.grace;
        let mut floor = i64::MAX;
        self.held.retain_mut(|(held, passed_since)| {
            let Some(held) = held.upgrade() else {
                return false;
            };
            if held.revision < compacted_revision {
                let since = *passed_since.get_or_insert(now);
                if now.duration_since(since) >= grace {
                    held.revoked.store(true, Ordering::Release);
                    return false;
                }
            }
            if !planted(Bug::PinIgnored) {
                floor = floor.min(held.revision);
            }
            true
        });
        floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_holds_until_it_is_dropped_or_the_grace_is_over() {
        let grace = Duration::from_secs(60);
        let mut pins = Pins::new(grace);
        let start = Instant::now();
        assert_eq!(pins.floor(5, start), i64::MAX);
        let old = pins.pin(3);
        let new = pins.pin(9);
        assert_eq!(pins.floor(-1, start), 3);
        assert_eq!(pins.floor(5, start), 3);
        assert_eq!(pins.floor(5, start + grace), 9);
        assert!(old.is_revoked() && !new.is_revoked());
        drop(new);
        assert_eq!(pins.floor(5, start + grace), i64::MAX);
    }
}
