//! The values that a checkpoint names against the segments that the log holds. One judge for
//! a start and for the offline check.
//!
//! A segment whose next ones were cleaned has no successor that states its end: damage to its
//! last group looks like that end. A value that reaches behind it proves more. Damage
//! behind all of them is no harm: nothing that lies there is needed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{Furthest, Reach};
use crate::error::Fatal;
use crate::raft_log::{SegmentInfo, segment_path};
use crate::types::{Place, SegmentNumber};

/// Where the groups of each segment of a log end.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<SegmentNumber, u64>);

impl Ends {
    pub(super) fn of(segments: impl Iterator<Item = SegmentInfo>) -> Ends {
        Ends(
            segments
                .map(|info| (info.number, info.bytes_used))
                .collect(),
        )
    }

    /// True for a value that lies where whole groups were found.
    pub(super) fn hold(&self, place: Place) -> bool {
        let end = u64::from(place.offset) + u64::from(place.length);
        self.0.get(&place.segment).is_some_and(|held| end <= *held)
    }

    /// What is missing, one defect a segment.
    pub(super) fn missing<'a>(
        &'a self,
        directory: &'a Path,
        reach: &'a Reach,
    ) -> impl Iterator<Item = Fatal> + 'a {
        let beyond = reach.iter().filter(|furthest| !self.hold(furthest.place));
        beyond.map(|furthest| self.defect(directory, furthest))
    }

    fn defect(&self, directory: &Path, furthest: &Furthest) -> Fatal {
        let Furthest { revision, place } = furthest;
        let path = segment_path(directory, place.segment);
        match self.0.get(&place.segment) {
            Some(end) => {
                let detail = format!(
                    "the groups of the segment end here, but the value of {revision:?} lies at \
                     offset {}",
                    place.offset
                );
                Fatal::corruption(path, *end, detail)
            }
            None => {
                let detail = format!(
                    "the segment is gone, but the value of {revision:?} lies in it; put it back"
                );
                Fatal::corruption(path, u64::from(place.offset), detail)
            }
        }
    }
}

/// Refuses a log that does not hold the values of a checkpoint. To be asked between the
/// verification of both and the first write.
///
/// # Errors
/// `Corruption` naming segment and offset.
pub fn require_values(
    directory: &Path,
    reach: &Reach,
    segments: impl Iterator<Item = SegmentInfo>,
) -> Result<(), Fatal> {
    let ends = Ends::of(segments);
    ends.missing(directory, reach).next().map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
