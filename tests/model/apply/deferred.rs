//! Makes a read that its transaction has deferred, as whoever answers does: in slices, and
//! after the turn. For the model and for the simulation.

use storage::apply::{DeferredRange, Plan, RangeResult};
use storage::mvcc::{Bounds, Mvcc};
use storage::types::{EncodedKeyValue, KeyValueRef};

/// `slice` keys at a time; `encoded` brings a value into memory.
pub fn made<E>(
    mvcc: &Mvcc,
    deferred: &DeferredRange,
    slice: usize,
    encoded: impl Fn(&KeyValueRef) -> Result<EncodedKeyValue, E>,
) -> Result<RangeResult, E> {
    let plan = Plan::new(&deferred.range);
    let asked = &deferred.range.range;
    let bounds = Bounds::of_request(&asked.key, &asked.range_end);
    let mut fetched = Vec::new();
    let mut rest = Some(bounds.clone());
    while let Some(bounds) = rest.filter(|_| !plan.count_only()) {
        let next = mvcc.range_slice(&bounds, deferred.at, slice, slice, &mut fetched);
        rest = next.map(|key| bounds.resume_at(&key));
    }
    fetched.truncate(plan.fetch_limit().unwrap_or(usize::MAX));
    for reference in &mut fetched {
        *reference = KeyValueRef::Resident(encoded(reference)?);
    }
    let (mut count, mut rest) = (0, Some(bounds));
    while let Some(bounds) = rest {
        let (found, next) = mvcc.count_slice(&bounds, deferred.at, slice);
        count += i64::try_from(found).unwrap();
        rest = next.map(|key| bounds.resume_at(&key));
    }
    assert!(deferred.count.is_none_or(|known| known == count));
    let (key_values, more) = plan.arrange(fetched);
    Ok(RangeResult {
        revision: deferred.revision,
        key_values,
        projection: plan.projection(),
        more,
        count,
    })
}
