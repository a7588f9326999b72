//! The newest events, by revision. Owned by the hub; the core loop writes it.
//!
//! Invariants: revisions are gapless and rising; the ring always holds the
//! newest revision that was pushed, however large. Limit: [`RING_BYTES_MAX`].

use std::collections::VecDeque;
use std::sync::Arc;

use storage::types::{KeyValueRef, RevisionEvents};

/// Bytes of key-values that the ring keeps alive (design, fourth idea).
pub const RING_BYTES_MAX: usize = 64 << 20;

/// Bytes that one event costs besides its key-values.
const EVENT_OVERHEAD_BYTES: usize = 128;

pub(super) struct Ring {
    revisions: VecDeque<(Arc<RevisionEvents>, usize)>,
    /// The next revision to be pushed.
    next: i64,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    /// An empty ring of a store whose current revision is this.
    pub(super) fn new(current_revision: i64, bytes_max: usize) -> Ring {
        Ring {
            revisions: VecDeque::new(),
            next: current_revision + 1,
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn push(&mut self, events: Arc<RevisionEvents>) {
        assert_eq!(
            events.revision, self.next,
            "a revision was skipped on its way to the ring"
        );
        let bytes = events_bytes(&events);
        self.next += 1;
        self.bytes += bytes;
        self.revisions.push_back((events, bytes));
        while self.bytes > self.bytes_max && self.revisions.len() > 1 {
            let (_, freed) = self.revisions.pop_front().expect("more than one is held");
            self.bytes -= freed;
        }
    }

    /// Up to `limit` revisions from `from` on; None when `from` has left the ring.
    pub(super) fn read(&self, from: i64, limit: usize) -> Option<Vec<Arc<RevisionEvents>>> {
        let first = self.next - i64::try_from(self.revisions.len()).expect("bounded by memory");
        let skip = usize::try_from(from - first).ok()?;
        Some(
            self.revisions
                .iter()
                .skip(skip)
                .take(limit)
                .map(|(e, _)| Arc::clone(e))
                .collect(),
        )
    }
}

fn events_bytes(events: &RevisionEvents) -> usize {
    let size = |reference: &KeyValueRef| reference.encoded_len();
    events
        .events
        .iter()
        .map(|event| {
            size(&event.key_value) + event.previous.as_ref().map_or(0, size) + EVENT_OVERHEAD_BYTES
        })
        .sum()
}
