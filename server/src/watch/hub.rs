//! Where the core loop publishes and the streams listen.
//!
//! Owns the ring and the index of interested streams, both behind one short
//! lock: the core takes it once for each group, a stream once for each batch that
//! it reads. Nothing waits inside it.
//!
//! Invariant: an event is in the ring, and its streams are marked, before its
//! revision is visible as published; a stream registers an interest and reads the
//! published revision under the same lock, so no event falls between.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use storage::planted::{Bug, planted};
use storage::types::RevisionEvents;
use tokio::sync::Notify;

use super::range_index::{KeyInterval, RangeIndex};
use super::ring::{RING_BYTES_MAX, Ring};

/// The meeting point of the core loop and the watch streams.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
}

struct State {
    ring: Ring,
    interests: RangeIndex<Arc<Signal>>,
    published: i64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "published {}", self.published)
    }
}

/// One stream's doorbell.
#[derive(Debug, Default)]
pub struct Signal {
    bell: Notify,
    /// First revision that concerns the stream since it last looked; 0 for none.
    /// Read and written under the hub's lock only.
    pending: AtomicI64,
}

impl PartialEq for Signal {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Signal {
    /// Completes when something was published that may concern the stream.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// What a stream finds when it looks.
pub(super) struct News {
    /// Everything up to here is published.
    pub(super) published: i64,
    /// The first revision after the stream's last look that concerns it.
    pub(super) first_of_interest: Option<i64>,
}

impl Hub {
    /// A hub of a store whose current revision is this.
    #[must_use]
    pub fn new(current_revision: i64) -> Hub {
        Hub::with_ring_bytes_max(current_revision, RING_BYTES_MAX)
    }

    /// A hub whose ring keeps so many bytes.
    #[must_use]
    pub fn with_ring_bytes_max(current_revision: i64, bytes_max: usize) -> Hub {
        let ring = Ring::new(current_revision, bytes_max);
        let interests = RangeIndex::default();
        Hub {
            state: Mutex::new(State {
                ring,
                interests,
                published: current_revision,
            }),
        }
    }

    /// Makes a group of applied revisions visible to watchers and wakes the
    /// streams that they concern. Called by the core loop alone.
    pub fn publish(&self, group: Vec<RevisionEvents>) {
        let Some(last) = group.last().map(|events| events.revision) else {
            return;
        };
        let mut state = self.state.lock();
        for events in group {
            for event in &events.events {
                state.interests.matching(&event.meta.key, |signal| {
                    if signal.pending.load(Ordering::Relaxed) == 0 {
                        signal.pending.store(events.revision, Ordering::Relaxed);
                        signal.bell.notify_one();
                    }
                });
                if planted(Bug::MissedBell) {
                    break;
                }
            }
            state.ring.push(Arc::new(events));
        }
        assert!(last > state.published, "published revisions only rise");
        state.published = last;
    }

    /// Registers an interest; gives back the revision that was published at that
    /// moment: every later one that matches will ring.
    pub(super) fn register(&self, interval: &KeyInterval, signal: &Arc<Signal>) -> i64 {
        let mut state = self.state.lock();
        state.interests.insert(interval, Arc::clone(signal));
        state.published
    }

    /// Takes an interest back.
    pub(super) fn unregister(&self, interval: &KeyInterval, signal: &Arc<Signal>) {
        self.state.lock().interests.remove(interval, signal);
    }

    /// What has come since the stream last looked.
    pub(super) fn look(&self, signal: &Signal) -> News {
        let state = self.state.lock();
        let first = signal.pending.swap(0, Ordering::Relaxed);
        News {
            published: state.published,
            first_of_interest: (first != 0).then_some(first),
        }
    }

    /// Up to `limit` revisions from `from` on; None when `from` has left the ring.
    pub(super) fn read(&self, from: i64, limit: usize) -> Option<Vec<Arc<RevisionEvents>>> {
        self.state.lock().ring.read(from, limit)
    }
}
