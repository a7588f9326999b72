//! The engine's part of reads: slices of references, never bytes.
//!
//! Owned by the engine: what later pages of a list may reuse of the counts of
//! earlier ones. Limits: [`SLICE_KEY_VALUES_MAX`], [`SLICE_SCAN_MAX`],
//! [`PAGE_COUNTS_MAX`].

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use prost::encoding::encoded_len_varint;
use storage::apply::command::Range;
use storage::apply::{Plan, Projection};
use storage::error::Refusal;
use storage::mvcc::key_value::Fields;
use storage::mvcc::{AsOf, Bounds, Measured, Mvcc, Visible};
use storage::planted::{Bug, planted};

use super::limits::{PAGE_COUNTS_MAX, SLICE_KEY_VALUES_MAX, SLICE_SCAN_MAX};
use super::pins::{Pin, Pins};
use super::requests::{CountSlice, OpenedRead, ReadSlice};

/// A page of a list: which interval is left, at which revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PageStart {
    range_end: Bytes,
    revision: i64,
    key: Vec<u8>,
}

/// Counts that earlier pages left behind; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct PageCounts {
    remaining: HashMap<PageStart, i64>,
    order: VecDeque<PageStart>,
}

impl PageCounts {
    pub(super) fn remember(
        &mut self,
        range_end: Bytes,
        revision: i64,
        key: Vec<u8>,
        remaining: i64,
    ) {
        let page = PageStart {
            range_end,
            revision,
            key,
        };
        if self.remaining.insert(page.clone(), remaining).is_none() {
            self.order.push_back(page);
        }
        if self.order.len() > PAGE_COUNTS_MAX {
            let oldest = self
                .order
                .pop_front()
                .expect("more than the limit are held");
            self.remaining.remove(&oldest);
        }
    }

    fn find(&self, range: &Range, revision: i64) -> Option<i64> {
        let page = PageStart {
            range_end: range.range.range_end.clone(),
            revision,
            key: range.range.key.to_vec(),
        };
        if planted(Bug::PageCountOfAnotherRevision) {
            let same = |held: &&PageStart| held.key == page.key;
            let held = self.order.iter().find(same);
            return held.and_then(|held| self.remaining.get(held)).copied();
        }
        self.remaining.get(&page).copied()
    }
}

/// Begins a read: picks the revision, pins it, hands out the first slice.
pub(super) fn open(
    mvcc: &Mvcc,
    pins: &mut Pins,
    counts: &PageCounts,
    range: &Range,
    first_slice: usize,
) -> Result<OpenedRead, Refusal> {
    let at = mvcc.check_revision(range.revision)?;
    let bounds = Bounds::of_request(&range.range.key, &range.range.range_end);
    let plan = Plan::new(range);
    let count = if at == mvcc.current_revision() {
        Some(i64::try_from(mvcc.count_now(&bounds)).expect("keys are counted in 63 bits"))
    } else {
        counts.find(range, at)
    };
    let first = if plan.count_only() && count.is_some() {
        ReadSlice::default()
    } else {
        let wanted = plan.fetch_limit().unwrap_or(usize::MAX).min(first_slice);
        slice(
            mvcc,
            &bounds,
            AsOf::from(at),
            if plan.count_only() { 0 } else { wanted },
        )
    };
    let header_revision = mvcc.current_revision();
    Ok(OpenedRead {
        header_revision,
        pin: pins.pin(at),
        first,
        count,
    })
}

/// The next key-values of a pinned read.
pub(super) fn pinned_slice(
    mvcc: &Mvcc,
    bounds: &Bounds,
    pin: &Pin,
    limit: usize,
) -> Result<ReadSlice, Refusal> {
    if pin.is_revoked() {
        return Err(Refusal::Compacted);
    }
    Ok(slice(mvcc, bounds, pin.at(), limit))
}

/// Measures the next key-values of a pinned read, as fields of an answer.
pub(super) fn measure_slice(
    mvcc: &Mvcc,
    bounds: &Bounds,
    pin: &Pin,
    limit: usize,
    projection: Projection,
) -> Result<Measured, Refusal> {
    if pin.is_revoked() {
        return Err(Refusal::Compacted);
    }
    let length = |visible: Visible<'_>| {
        let length = match projection {
            Projection::Whole => visible.encoded_len(),
            Projection::WithoutValue => visible.fields().encoded_len(),
            Projection::WithoutValueAndLease => {
                let lease = 0;
                let fields = Fields {
                    lease,
                    ..visible.fields()
                };
                fields.encoded_len()
            }
        };
        field_bytes(length)
    };
    Ok(mvcc.measure_slice(bounds, pin.at(), limit, SLICE_SCAN_MAX, length))
}

/// Bytes of a message of this length in the answer that holds it: its tag, its length, itself.
#[must_use]
pub fn field_bytes(length: usize) -> u64 {
    (1 + encoded_len_varint(length as u64) + length) as u64
}

/// Counts on at a pinned revision.
pub(super) fn count_slice(mvcc: &Mvcc, bounds: &Bounds, pin: &Pin) -> Result<CountSlice, Refusal> {
    if pin.is_revoked() {
        return Err(Refusal::Compacted);
    }
    let (count, next) = mvcc.count_slice(bounds, pin.at(), SLICE_SCAN_MAX);
    let count = i64::try_from(count).expect("keys are counted in 63 bits");
    Ok(CountSlice { count, next })
}

fn slice(mvcc: &Mvcc, bounds: &Bounds, at: AsOf, limit: usize) -> ReadSlice {
    let limit = limit.min(SLICE_KEY_VALUES_MAX);
    let mut key_values = Vec::new();
    let next = mvcc.range_slice(bounds, at, limit, SLICE_SCAN_MAX, &mut key_values);
    ReadSlice { key_values, next }
}
