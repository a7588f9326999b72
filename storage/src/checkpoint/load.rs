//! Reading a checkpoint back: exactly the records that the published manifest
//! names, in revision order, proven by its digests. Reads only; what the store
//! holds beyond that is reported as [`Leftovers`], for the checkpointer to
//! remove.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::path::Path;

use crate::error::Fatal;
use crate::types::{RecordMeta, Revision};
use crate::vfs::Vfs;

use super::digest::SetDigest;
use super::layout;
use super::manifest::Manifest;
use super::store::CheckpointStore;

/// What a store holds and the published manifest declares void or does not
/// know. Both ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Revisions of index records.
    pub index: Vec<Revision>,
    /// Revisions of cold values.
    pub cold: Vec<Revision>,
}

impl Leftovers {
    /// True when there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.cold.is_empty()
    }
}

/// Visits every record of the checkpoint that `manifest` names, in ascending
/// order, and proves that they are all there.
///
/// # Errors
/// `Corruption` for a damaged, missing or surplus record; the error of the
/// visitor; I/O errors.
pub fn load(
    manifest: &Manifest,
    store: &dyn CheckpointStore,
    visit: &mut dyn FnMut(RecordMeta) -> Result<(), Fatal>,
) -> Result<Leftovers, Fatal> {
    let segments: BTreeSet<_> = manifest.segments.iter().copied().collect();
    let mut removed = manifest.removed.iter().copied().peekable();
    let mut leftovers = Leftovers::default();
    let mut index = SetDigest::default();
    let mut cold = SetDigest::default();
    store.visit_index(&mut |record| {
        let (revision, place) = (record.revision, record.place);
        let void = is_next(&mut removed, revision);
        let is_cold = place.length > 0 && !segments.contains(&place.segment);
        if void || revision > manifest.bound {
            leftovers.index.push(revision);
            if void && is_cold {
                leftovers.cold.push(revision);
            }
            return Ok(());
        }
        index.add(revision, place);
        if is_cold {
            cold.add(revision, place);
        }
        visit(record)
    })?;
    for (what, found, wanted) in [
        ("records", index, manifest.index),
        ("records of cold values", cold, manifest.cold),
    ] {
        if found != wanted {
            let detail = format!(
                "the index checkpoint has {} {what} (hash {:032x}), manifest {} says {} \
                 (hash {:032x})",
                found.count, found.hash, manifest.sequence, wanted.count, wanted.hash
            );
            return Err(Fatal::corruption(store.path(), 0, detail));
        }
    }
    Ok(leftovers)
}

/// Reads the published manifest and, when there is one, checks that it belongs
/// to the directory it lies in.
///
/// # Errors
/// As [`Manifest::read`]; `Corruption` when it is another member's.
pub fn read_manifest(vfs: &dyn Vfs, directory: &Path) -> Result<Option<Manifest>, Fatal> {
    let Some(manifest) = Manifest::read(vfs, directory)? else {
        return Ok(None);
    };
    let identity = layout::read_identity(vfs, directory)?;
    if identity != Some(manifest.identity) {
        let detail = format!(
            "the manifest belongs to {:x?}, the directory to {identity:x?}; was it copied here?",
            manifest.identity
        );
        return Err(Fatal::corruption(
            directory.join(layout::MANIFEST),
            0,
            detail,
        ));
    }
    Ok(Some(manifest))
}

/// Advances `removed` to `revision`; true when it holds it.
fn is_next(removed: &mut Peekable<impl Iterator<Item = Revision>>, revision: Revision) -> bool {
    while removed.next_if(|next| *next < revision).is_some() {}
    removed.next_if_eq(&revision).is_some()
}
