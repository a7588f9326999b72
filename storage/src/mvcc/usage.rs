//! What the records cost: bytes for the quota (contract 1.13) and live bytes
//! per log segment for cleaning.

use std::collections::BTreeMap;

use crate::types::{Place, SegmentNumber};

/// The size of the store as clients see it (dbSize, dbSizeInUse).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseSize {
    /// Sum over unreclaimed records of encoded KeyValue + 34 bytes.
    pub total_bytes: u64,
    /// The same without what is compacted but not purged yet.
    pub in_use_bytes: u64,
}

/// Live value bytes per log segment: the lengths of the places of all
/// unreclaimed records. Two records may share one place (`ignore_value`); it
/// counts twice then, and the segment is live as long as one of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentUsage {
    live_bytes: BTreeMap<SegmentNumber, u64>,
}

impl SegmentUsage {
    /// Live bytes of one segment.
    #[must_use]
    pub fn live_bytes(&self, segment: SegmentNumber) -> u64 {
        self.live_bytes.get(&segment).copied().unwrap_or(0)
    }

    /// Segments with live bytes, by number.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentNumber, u64)> + '_ {
        self.live_bytes
            .iter()
            .map(|(&segment, &bytes)| (segment, bytes))
    }

    pub(super) fn add(&mut self, place: Place) {
        if place.length > 0 {
            *self.live_bytes.entry(place.segment).or_default() += u64::from(place.length);
        }
    }

    pub(super) fn subtract(&mut self, place: Place) {
        if place.length == 0 {
            return;
        }
        let bytes = self.live_bytes.get_mut(&place.segment);
        let bytes = bytes.expect("a place that is dropped was counted");
        let left = bytes.checked_sub(u64::from(place.length));
        *bytes = left.expect("no more is dropped than was counted");
        if *bytes == 0 {
            self.live_bytes.remove(&place.segment);
        }
    }
}
