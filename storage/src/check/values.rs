//! The values that a checkpoint names against the segments that the log holds. One judge for
//! a start and for the offline check.
//!
//! A segment whose next ones were cleaned has no successor that states its end: damage to its
//! last group looks like that end. A value that reaches behind it proves more. Damage
//! behind all of them is no harm: nothing that lies there is needed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{Furthest, Manifest, Reach};
use crate::error::Fatal;
use crate::raft_log::{SegmentInfo, segment_path};
use crate::types::{Place, SegmentNumber};

/// Where the groups of each segment of a log end.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<SegmentNumber, SegmentInfo>);

impl Ends {
    pub(super) fn of(segments: impl Iterator<Item = SegmentInfo>) -> Ends {
        Ends(segments.map(|info| (info.number, info)).collect())
    }

    /// True for a value that lies where whole groups were found.
    pub(super) fn hold(&self, place: Place) -> bool {
        let held = self.0.get(&place.segment);
        held.is_some_and(|held| place.end() <= held.bytes_used)
    }

    /// An older copy of a log under a newer manifest, which may hold every entry and value
    /// that is needed. A segment is left out only once the manifest covers its entries, and
    /// a number is used once. The newest one that the manifest lists may have been lost,
    /// when it was only just begun.
    pub(super) fn old_copy(&self, directory: &Path, manifest: &Manifest) -> Option<Fatal> {
        let sequence = manifest.sequence;
        let uncovered = self.0.values().find(|info| {
            let needed = info.last.is_some_and(|last| last > manifest.applied_index);
            needed && manifest.left_out(info.number)
        });
        if let Some(info) = uncovered {
            let path = segment_path(directory, info.number);
            let detail = format!(
                "manifest {sequence} left this segment out, but does not cover its entries; one \
                 of both is an older copy"
            );
            return Some(Fatal::corruption(path, 0, detail));
        }
        let (newest, info) = self.0.last_key_value()?;
        let next = SegmentNumber(newest.0.checked_add(1)?);
        manifest.left_out(next).then(|| {
            let path = segment_path(directory, *newest);
            let detail = format!(
                "the log ends with this segment, manifest {sequence} knows of later ones; one of \
                 both is an older copy"
            );
            Fatal::corruption(path, info.bytes_used, detail)
        })
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
            Some(held) => {
                let detail = format!(
                    "the groups of the segment end here, but the value of {revision:?} lies at \
                     offset {}",
                    place.offset
                );
                Fatal::corruption(path, held.bytes_used, detail)
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

/// Refuses a log that does not hold the values of a checkpoint, or is older than it. To be
/// asked between the verification of both and the first write.
///
/// # Errors
/// `Corruption` naming segment and offset.
pub fn require_values(
    directory: &Path,
    manifest: &Manifest,
    reach: &Reach,
    segments: impl Iterator<Item = SegmentInfo>,
) -> Result<(), Fatal> {
    let ends = Ends::of(segments);
    let older = ends.old_copy(directory, manifest);
    let mut all = older.into_iter().chain(ends.missing(directory, reach));
    all.next().map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
