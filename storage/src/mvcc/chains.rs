//! The chains of packed records: for each key that has any, what they share.
//!
//! The packed records of a key are its oldest ones, so a chain hangs below one
//! record of the slab, and packing makes it longer at its newer end. A purge
//! takes from its older end; out of order only within one main revision, where
//! no reader looks any more.
//!
//! Limit: 2^31 - 1 chains. Invariant: a chain has at least one record.

use std::collections::VecDeque;

use super::records::RecordId;
use crate::types::{Key, Revision};

/// Every so many records of a chain one is marked, so that a read of an old
/// revision follows at most so many links.
const MARK_RECORDS: u64 = 16;

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) key: Key,
    /// The newest packed record.
    pub(super) head: Revision,
    /// The oldest record of the key in the slab.
    pub(super) above: RecordId,
    /// Create revision of the record that the chain began with.
    pub(super) base: i64,
    /// Revisions of some records, in order.
    marks: VecDeque<Revision>,
    /// Records ever packed into it.
    packed: u64,
    live: u64,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Chains {
    chains: Vec<Option<Chain>>,
    free: Vec<u32>,
}

impl Chains {
    pub(super) fn get(&self, number: u32) -> &Chain {
        let chain = usize::try_from(number)
            .ok()
            .and_then(|at| self.chains.get(at));
        let chain = chain.and_then(Option::as_ref);
        chain.expect("a chain lives as long as its records")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Chain {
        let chain = usize::try_from(number).ok();
        let chain = chain.and_then(|at| self.chains.get_mut(at));
        let chain = chain.and_then(Option::as_mut);
        chain.expect("a chain lives as long as its records")
    }

    /// Begins a chain; its first record is to be pushed next.
    pub(super) fn begin(&mut self, key: Key, base: i64) -> u32 {
        let chain = Chain {
            key,
            head: Revision::default(),
            above: RecordId::NONE,
            base,
            marks: VecDeque::new(),
            packed: 0,
            live: 0,
        };
        if let Some(number) = self.free.pop() {
            let vacant = usize::try_from(number).expect("32 bits fit");
            let vacant = self.chains.get_mut(vacant).expect("it was used before");
            assert!(vacant.is_none(), "a free chain holds nothing");
            *vacant = Some(chain);
            return number;
        }
        let number = u32::try_from(self.chains.len()).expect("at most 2^31 - 1 chains");
        self.chains.push(Some(chain));
        number
    }

    /// Adds the newest packed record, which lies below `above`.
    pub(super) fn push(&mut self, number: u32, revision: Revision, above: RecordId) {
        let chain = self.get_mut(number);
        assert!(chain.head < revision, "revisions rise along a chain");
        chain.head = revision;
        chain.above = above;
        if chain.packed.is_multiple_of(MARK_RECORDS) && chain.packed > 0 {
            chain.marks.push_back(revision);
        }
        chain.packed += 1;
        chain.live += 1;
    }

    /// Takes a purged record out; `previous` is its link. When it was the last
    /// one the chain ends: answers the record above, whose link must go.
    pub(super) fn take(
        &mut self,
        number: u32,
        revision: Revision,
        previous: Option<Revision>,
    ) -> Option<RecordId> {
        let chain = self.get_mut(number);
        while chain.marks.front().is_some_and(|&mark| mark <= revision) {
            chain.marks.pop_front();
        }
        chain.live -= 1;
        if chain.live > 0 {
            if chain.head == revision {
                chain.head = previous.expect("records of the chain are left");
            }
            return None;
        }
        let above = chain.above;
        let vacant = usize::try_from(number).expect("32 bits fit");
        *self.chains.get_mut(vacant).expect("the chain is there") = None;
        self.free.push(number);
        Some(above)
    }
}

impl Chain {
    /// Where a search for what was visible at main revision `at` starts: no
    /// record between it and the head is that old.
    pub(super) fn start_for(&self, at: i64) -> Revision {
        let newer = self.marks.partition_point(|mark| mark.main <= at);
        self.marks.get(newer).copied().unwrap_or(self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_starts_near_what_it_looks_for() {
        let mut chains = Chains::default();
        let number = chains.begin(Key::from(b"k".as_ref()), 2);
        for main in 2..1000 {
            chains.push(number, Revision::new(main, 0), RecordId::from(7));
        }
        for main in 2..40 {
            assert_eq!(chains.take(number, Revision::new(main, 0), None), None);
        }
        for at in 40..1000 {
            let start = chains.get(number).start_for(at).main;
            assert!(start >= at && start <= at + 16, "{start} for {at}");
        }
        for main in 40..999 {
            assert_eq!(chains.take(number, Revision::new(main, 0), None), None);
        }
        let above = chains.take(number, Revision::new(999, 0), None);
        assert_eq!(above, Some(RecordId::from(7)));
        assert_eq!(chains.begin(Key::from(b"l".as_ref()), 5), number);
    }
}
