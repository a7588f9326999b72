//! Where a stream stands: what it takes from the ring next, and what those who are behind
//! need. Decides and never waits, so that the simulation runs the same code.
//!
//! Invariants: the position never falls; every event up to it was given to the synced
//! watchers, or they have fallen behind and get it from history.

use std::sync::Arc;

use storage::types::RevisionEvents;

use super::hub::{Hub, Signal};
use super::watchers::Watchers;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    position: i64,
    /// What was published when the stream looked.
    published: i64,
}

/// What the watchers need that are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// There is none.
    Nobody,
    /// They have reached the position, and the ring serves them again.
    Arrived,
    /// History from this revision on.
    Needs(i64),
}

impl Cursor {
    /// Of a stream without a watcher.
    pub(super) fn new(position: i64) -> Cursor {
        Cursor {
            position,
            published: position,
        }
    }

    /// Every event up to here was given to the synced watchers.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// True while something is left to be read from the ring.
    pub(super) fn is_reading(&self) -> bool {
        self.position < self.published
    }

    /// Up to `limit` revisions that the synced watchers are to be given; None when they
    /// have everything that is published. Where the ring has moved on they fall behind.
    pub(super) fn take(
        &mut self,
        hub: &Hub,
        signal: &Signal,
        watchers: &mut Watchers,
        limit: usize,
    ) -> Option<Vec<Arc<RevisionEvents>>> {
        loop {
            if !self.is_reading() {
                let news = hub.look(signal);
                let Some(first) = news.first_of_interest else {
                    self.position = self.position.max(news.published);
                    return None;
                };
                // Nobody here wants what lies between.
                self.position = self.position.max(first - 1);
                self.published = news.published;
            } else if let Some(batch) = hub.read(self.position + 1, limit) {
                return Some(batch);
            } else {
                watchers.fall_behind(self.position + 1);
                self.position = self.published;
            }
        }
    }

    /// This revision was given to the synced watchers that want it.
    pub(super) fn gave(&mut self, revision: i64) {
        assert!(revision > self.position, "a revision is given once");
        self.position = revision;
    }

    /// What is to be done for those behind.
    pub(super) fn behind(&self, watchers: &Watchers) -> Behind {
        match watchers.next_behind() {
            None => Behind::Nobody,
            Some(from) if from > self.position => Behind::Arrived,
            Some(from) => Behind::Needs(from),
        }
    }

    /// How far history that reaches up to `through` is used: never beyond the position;
    /// from there on the ring serves.
    pub(super) fn used_through(&self, through: i64) -> i64 {
        through.min(self.position)
    }
}
