//! Writes on their way: who waits for which request, and what is refused before
//! it becomes an entry.
//!
//! Owned by the engine. A request is found by the id in its entry, never by
//! its position in the log. Invariant: at most one alarm is on its way, and every
//! write that was refused for want of space waits for its entry, so that who was
//! refused finds the alarm. Limit: [`PROPOSALS_WAITING_MAX`], of both together.

use std::collections::HashMap;

use storage::types::{RequestId, Term};

use super::host::Host;
use super::limits::PROPOSALS_WAITING_MAX;
use super::requests::Applied;

/// Bits of a request id that count within a term. One member leads a term, so
/// term and count together are unique over the life of the cluster.
const SEQUENCE_BITS: u32 = 40;

/// The writes that wait.
#[derive(Debug)]
pub(super) struct Proposals<H: Host> {
    waiting: HashMap<RequestId, H::Reply<Applied>>,
    sequence: u64,
    alarm: Option<PendingAlarm<H>>,
}

/// An alarm on its way, and who was refused meanwhile.
#[derive(Debug)]
struct PendingAlarm<H: Host> {
    id: RequestId,
    term: Term,
    refused: Vec<H::Reply<Applied>>,
}

impl<H: Host> Default for Proposals<H> {
    fn default() -> Self {
        Proposals {
            waiting: HashMap::new(),
            sequence: 0,
            alarm: None,
        }
    }
}

impl<H: Host> Proposals<H> {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let refused = self.alarm.as_ref().map_or(0, |alarm| alarm.refused.len());
        self.waiting.len() + refused
    }

    /// True when no further write is taken now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= PROPOSALS_WAITING_MAX
    }

    /// An id for a request of the leader of this term.
    pub(super) fn next_id(&mut self, term: Term) -> RequestId {
        self.sequence += 1;
        assert!(
            self.sequence < 1 << SEQUENCE_BITS,
            "a term has fewer requests than that"
        );
        RequestId(term.0 << SEQUENCE_BITS | self.sequence)
    }

    /// Someone waits for this request.
    pub(super) fn wait(&mut self, id: RequestId, reply: H::Reply<Applied>) {
        let before = self.waiting.insert(id, reply);
        assert!(before.is_none(), "a request id was given twice");
    }

    /// Whoever waits for this request, if it was proposed here.
    pub(super) fn take(&mut self, id: RequestId) -> Option<H::Reply<Applied>> {
        self.waiting.remove(&id)
    }

    /// An alarm was proposed under this id.
    pub(super) fn alarm_proposed(&mut self, id: RequestId, term: Term) {
        assert!(self.alarm.is_none(), "one alarm at a time");
        self.alarm = Some(PendingAlarm {
            id,
            term,
            refused: Vec::new(),
        });
    }

    /// True while an alarm is on its way.
    pub(super) fn alarm_is_pending(&self) -> bool {
        self.alarm.is_some()
    }

    /// Waits for the alarm on its way; gives the reply back when there is none.
    pub(super) fn wait_for_alarm(&mut self, reply: H::Reply<Applied>) -> Option<H::Reply<Applied>> {
        match &mut self.alarm {
            Some(alarm) => {
                alarm.refused.push(reply);
                None
            }
            None => Some(reply),
        }
    }

    /// Whoever waits for the alarm of this id.
    pub(super) fn alarm_applied(&mut self, id: RequestId) -> Vec<H::Reply<Applied>> {
        let applied = self.alarm.take_if(|alarm| alarm.id == id);
        applied.map_or_else(Vec::new, |alarm| alarm.refused)
    }

    /// Whoever waits for an alarm that was proposed before `leading`, the term that
    /// this member leads: its entry may never come.
    pub(super) fn alarm_lost(&mut self, leading: Option<Term>) -> Vec<H::Reply<Applied>> {
        let lost = self.alarm.take_if(|alarm| Some(alarm.term) != leading);
        lost.map_or_else(Vec::new, |alarm| alarm.refused)
    }
}
