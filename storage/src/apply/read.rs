//! Answers to reads: whole ones outside a transaction; inside, whole ones as far as a turn
//! has time for them, and the rest deferred.
//!
//! Owns nothing. Invariant: whether a read is deferred hangs on the store and on the reads
//! before it in its transaction, and changes no state. Limit: [`Gathering`].

use std::collections::BTreeMap;

use super::command::Range;
use super::outcome::{DeferredRange, OpResult, RangeResult};
use super::range::Plan;
use crate::mvcc::{AsOf, Bounds, Mvcc};
use crate::types::{EncodedKeyValue, KeyValueRef, Revision};

/// Superseded key-values that were fetched for a request that sorts by value:
/// the store does not take them in, since it would evict them at once.
pub(super) type Supplied = BTreeMap<Revision, EncodedKeyValue>;

/// The answer to a read whose revision was checked; 0 and less is `revision`,
/// the newest visible one.
///
/// # Panics
/// When it sorts by value and one is neither resident nor supplied.
pub(super) fn read(store: &Mvcc, supplied: &Supplied, revision: i64, range: &Range) -> RangeResult {
    let plan = Plan::new(range);
    let bounds = Bounds::of_request(&range.range.key, &range.range.range_end);
    let at = if range.revision <= 0 {
        revision
    } else {
        range.revision
    };
    let count = || {
        let (count, rest) = store.count_slice(&bounds, at, usize::MAX);
        assert!(rest.is_none(), "an unbounded scan sees the whole interval");
        i64::try_from(count).expect("a count of keys fits into 63 bits")
    };
    if plan.count_only() {
        return RangeResult {
            revision,
            key_values: Vec::new(),
            projection: plan.projection(),
            more: false,
            count: count(),
        };
    }
    let mut fetched = collect(store, &bounds, at, plan.fetch_limit());
    let cut_short = plan
        .fetch_limit()
        .is_some_and(|limit| fetched.len() >= limit);
    let count = if cut_short {
        count()
    } else {
        i64::try_from(fetched.len()).expect("a count of keys fits into 63 bits")
    };
    if plan.sorts_by_value() {
        for key_value in &mut fetched {
            if let KeyValueRef::Stored(meta) = key_value
                && let Some(encoded) = supplied.get(&meta.revision)
            {
                *key_value = KeyValueRef::Resident(encoded.clone());
            }
        }
    }
    let (key_values, more) = plan.arrange(fetched);
    RangeResult {
        revision,
        key_values,
        projection: plan.projection(),
        more,
        count,
    }
}

/// Keys that the ranges of one transaction may still look at. One key by name is always
/// read: it costs what any other operation costs.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) keys_left: usize,
}

impl Gathering {
    /// The answer to a read of a transaction whose revision was checked: 0 and less is `now`,
    /// the state at its place in the transaction; `revision` is for its header.
    pub(super) fn read(
        &mut self,
        store: &Mvcc,
        now: AsOf,
        revision: i64,
        range: &Range,
    ) -> OpResult {
        let at = if range.revision <= 0 {
            now
        } else {
            AsOf::from(range.revision)
        };
        let bounds = Bounds::of_request(&range.range.key, &range.range.range_end);
        let is_counted = bounds.as_single().is_none() && store.is_present(at);
        let count = is_counted.then(|| store.count_now(&bounds));
        let count = count.map(|count| i64::try_from(count).expect("keys fit into 63 bits"));
        let plan = Plan::new(range);
        let gathered = match count {
            Some(count) if plan.count_only() => Some((Vec::new(), count)),
            _ => self.gather(store, &plan, &bounds, at, count),
        };
        let Some((fetched, count)) = gathered else {
            return OpResult::Deferred(DeferredRange {
                range: range.clone(),
                at,
                revision,
                count,
            });
        };
        let (key_values, more) = plan.arrange(fetched);
        OpResult::Range(RangeResult {
            revision,
            key_values,
            projection: plan.projection(),
            more,
            count,
        })
    }

    /// What has to be fetched for a read, and its count; None when that is too much.
    fn gather(
        &mut self,
        store: &Mvcc,
        plan: &Plan,
        bounds: &Bounds,
        at: AsOf,
        count: Option<i64>,
    ) -> Option<(Vec<KeyValueRef>, i64)> {
        let limit = plan.fetch_limit().unwrap_or(usize::MAX);
        let mut of_one_key = usize::MAX;
        let keys_left = if bounds.as_single().is_some() {
            &mut of_one_key
        } else {
            // Values to be compared may have to be fetched from the disk.
            let live = count.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
            if plan.sorts_by_value() || live.min(limit) > self.keys_left {
                return None;
            }
            &mut self.keys_left
        };
        let mut fetched = Vec::new();
        let rest = store.range_within(bounds, at, limit, keys_left, &mut fetched);
        let found = i64::try_from(fetched.len()).expect("keys fit into 63 bits");
        let is_enough = fetched.len() >= limit;
        if plan.count_only() {
            fetched.clear();
        }
        match rest {
            None => Some((fetched, found)),
            Some(_) if is_enough => Some((fetched, count?)),
            Some(_) => None,
        }
    }
}

/// The key-values of an interval in key order, at most `limit`.
pub(super) fn collect(
    store: &Mvcc,
    bounds: &Bounds,
    at: i64,
    limit: Option<usize>,
) -> Vec<KeyValueRef> {
    let mut out = Vec::new();
    let limit_keys = limit.unwrap_or(usize::MAX);
    let rest = store.range_slice(bounds, at, limit_keys, usize::MAX, &mut out);
    assert!(
        rest.is_none() || limit.is_some(),
        "only a limit ends a scan early"
    );
    out
}
