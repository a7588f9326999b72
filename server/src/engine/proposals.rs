//! Writes on their way: who waits for which request, and what is refused before
//! it becomes an entry.
//!
//! Owned by the engine. A request is found by the id in its entry, never by
//! its position in the log. Limit: [`PROPOSALS_WAITING_MAX`].

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
}

impl<H: Host> Default for Proposals<H> {
    fn default() -> Self {
        Proposals {
            waiting: HashMap::new(),
            sequence: 0,
        }
    }
}

impl<H: Host> Proposals<H> {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// True when no further write is taken now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= PROPOSALS_WAITING_MAX
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
}
