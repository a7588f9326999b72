//! Whole answers to reads, inside a transaction and outside.
//!
//! Owns nothing. What is visible is told by a store and a revision: within a
//! request that has written something, the revision that it writes.

use std::collections::BTreeMap;

use super::command::Range;
use super::outcome::RangeResult;
use super::range::Plan;
use crate::mvcc::{Bounds, Mvcc};
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
