//! How far the values of a checkpoint reach into each segment of the log. Where the segments
//! behind one were cleaned, nothing else on the disk says where that one ends.
//!
//! Owned by whoever loads. Limit: one entry per segment that the manifest lists.

use std::collections::BTreeMap;

use crate::types::{Place, Revision, SegmentNumber};

use super::manifest::Manifest;

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach(BTreeMap<SegmentNumber, Option<Furthest>>);

/// The value that ends last in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Furthest {
    /// Of its record.
    pub revision: Revision,
    /// Where it lies.
    pub place: Place,
}

impl Reach {
    /// Of no record yet.
    pub(super) fn new(manifest: &Manifest) -> Reach {
        Reach(manifest.segments.iter().map(|n| (*n, None)).collect())
    }

    /// True when values of this segment lie in the log.
    pub(super) fn lists(&self, segment: SegmentNumber) -> bool {
        self.0.contains_key(&segment)
    }

    /// Takes note of a record's value; false when its segment is not listed, so that it is
    /// cold. An empty one lies nowhere.
    pub(super) fn note(&mut self, revision: Revision, place: Place) -> bool {
        if place.length == 0 {
            return true;
        }
        let Some(furthest) = self.0.get_mut(&place.segment) else {
            return false;
        };
        if furthest.is_none_or(|before| before.place.end() < place.end()) {
            *furthest = Some(Furthest { revision, place });
        }
        true
    }

    /// The furthest value of each segment that holds one.
    pub fn iter(&self) -> impl Iterator<Item = &Furthest> {
        self.0.values().flatten()
    }
}
