//! What one watch stream adds to the member's gauges (contract 6).
//!
//! Owned by the stream. Invariant: what it added is taken off when it ends,
//! however it ends.

use std::sync::Arc;

use super::watchers::Watchers;
use crate::metrics::{Gauge, Metrics};

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Gauges {
    metrics: Arc<Metrics>,
    watchers: usize,
    behind: usize,
    /// Events that the client has not taken yet.
    pending: usize,
}

impl Gauges {
    /// Of a stream that begins.
    pub(super) fn new(metrics: Arc<Metrics>) -> Gauges {
        metrics.member.watch_streams.add(1.0);
        Gauges {
            metrics,
            watchers: 0,
            behind: 0,
            pending: 0,
        }
    }

    /// Watchers came, went, fell behind or caught up.
    pub(super) fn update(&mut self, watchers: &Watchers) {
        let member = &self.metrics.member;
        change(&member.watchers, &mut self.watchers, watchers.len());
        change(&member.slow_watchers, &mut self.behind, watchers.behind());
    }

    /// Events are about to be handed to the client, which may let them wait.
    pub(super) fn sending(&mut self, events: usize) {
        let pending = self.pending + events;
        change(
            &self.metrics.member.pending_events,
            &mut self.pending,
            pending,
        );
    }

    /// What was handed over last is on its way.
    pub(super) fn sent(&mut self) {
        self.metrics.member.events.add(self.pending as u64);
        change(&self.metrics.member.pending_events, &mut self.pending, 0);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        let member = &self.metrics.member;
        change(&member.watchers, &mut self.watchers, 0);
        change(&member.slow_watchers, &mut self.behind, 0);
        change(&member.pending_events, &mut self.pending, 0);
        member.watch_streams.add(-1.0);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn change(gauge: &Gauge, known: &mut usize, now: usize) {
    if *known != now {
        gauge.add(now as f64 - *known as f64);
        *known = now;
    }
}
