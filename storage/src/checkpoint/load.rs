//! Starting from a checkpoint, which is installing the local one (a snapshot
//! from a peer later takes the same way), and reading it back: exactly the
//! records that the published manifest names, in revision order, proven by its
//! digests. Reads only; what the store holds beyond that is reported as
//! [`Leftovers`], for the checkpointer to remove.

use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use crate::apply::StateMachine;
use crate::error::Fatal;
use crate::mvcc::Mvcc;
use crate::types::{Place, RecordMeta, Revision};
use crate::vfs::Vfs;

use super::checkpointer::Checkpointer;
use super::digest::SetDigest;
use super::layout;
use super::manifest::{Identity, Manifest};
use super::reach::Reach;
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

/// What a load finds besides the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What is to be removed.
    pub leftovers: Leftovers,
    /// How far the values that the records name reach into the log's segments.
    pub reach: Reach,
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
) -> Result<Loaded, Fatal> {
    let mut tally = Tally::new(manifest);
    store.visit_index(&mut |record| {
        if tally.counts(record.revision, record.place) {
            visit(record)
        } else {
            Ok(())
        }
    })?;
    tally.finish(&store.path())
}

/// Records, given in ascending order, against what a manifest says of them all.
pub(super) struct Tally<'a> {
    manifest: &'a Manifest,
    removed: Peekable<std::iter::Copied<std::slice::Iter<'a, Revision>>>,
    leftovers: Leftovers,
    reach: Reach,
    index: SetDigest,
    cold: SetDigest,
}

impl<'a> Tally<'a> {
    pub(super) fn new(manifest: &'a Manifest) -> Tally<'a> {
        Tally {
            manifest,
            removed: manifest.removed.iter().copied().peekable(),
            leftovers: Leftovers::default(),
            reach: Reach::new(manifest),
            index: SetDigest::default(),
            cold: SetDigest::default(),
        }
    }

    /// Takes the next record; true when the manifest names it.
    pub(super) fn counts(&mut self, revision: Revision, place: Place) -> bool {
        let void = is_next(&mut self.removed, revision);
        if void || revision > self.manifest.bound {
            self.leftovers.index.push(revision);
            if void && place.length > 0 && !self.reach.lists(place.segment) {
                self.leftovers.cold.push(revision);
            }
            return false;
        }
        self.index.add(revision, place);
        if !self.reach.note(revision, place) {
            self.cold.add(revision, place);
        }
        true
    }

    /// All records of the store at `path` were given.
    pub(super) fn finish(self, path: &Path) -> Result<Loaded, Fatal> {
        let manifest = self.manifest;
        for (what, found, wanted) in [
            ("records", self.index, manifest.index),
            ("records of cold values", self.cold, manifest.cold),
        ] {
            if found != wanted {
                let detail = format!(
                    "the index checkpoint has {} {what} (hash {:032x}), manifest {} says {} \
                     (hash {:032x})",
                    found.count, found.hash, manifest.sequence, wanted.count, wanted.hash
                );
                return Err(Fatal::corruption(path, 0, detail));
            }
        }
        Ok(Loaded {
            leftovers: self.leftovers,
            reach: self.reach,
        })
    }
}

/// A state machine at the applied index of a manifest.
#[derive(Debug)]
pub struct Installed {
    /// The state machine; no value is resident yet.
    pub machine: StateMachine,
    /// For [`super::Checkpointer::new`].
    pub leftovers: Leftovers,
    /// For [`super::Checkpointer::new`].
    pub dropped: Vec<(Revision, Place)>,
    /// For [`crate::check::require_values`].
    pub reach: Reach,
}

/// Fills an empty store with the checkpoint that `manifest` names and proves
/// digests and state hash.
///
/// # Errors
/// As [`load`]; `Corruption` when the state hash differs.
pub fn install(
    manifest: &Manifest,
    store: &dyn CheckpointStore,
    mvcc: Mvcc,
    quota_bytes: Option<u64>,
) -> Result<Installed, Fatal> {
    let mut loading = StateMachine::load(mvcc, quota_bytes, manifest.restart());
    let Loaded { leftovers, reach } = load(manifest, store, &mut |record| {
        check_record(manifest, &record)
            .map_err(|detail| Fatal::corruption(store.path(), 0, detail))?;
        loading.record(record);
        Ok(())
    })?;
    let (machine, dropped) = loading.finish_with_dropped();
    let live = machine.state_hash().store.live;
    if live != manifest.live_hash {
        let detail = format!(
            "the live keys have the hash {live:032x}, manifest {} says {:032x}",
            manifest.sequence, manifest.live_hash
        );
        return Err(Fatal::corruption(store.path(), 0, detail));
    }
    Ok(Installed {
        machine,
        leftovers,
        dropped,
        reach,
    })
}

/// What a member starts with.
#[derive(Debug)]
pub struct Started {
    /// The state machine, to which the log's tail is to be applied.
    pub machine: StateMachine,
    /// For the checkpoint worker.
    pub checkpointer: Checkpointer,
    /// For [`crate::check::require_values`].
    pub reach: Reach,
}

/// Starts from the published manifest of a data directory of ours. Where there
/// is none yet, one that names nothing is published first: so from the first
/// record on a manifest that is missing was lost. The caller holds the lock and
/// has opened `store` ([`super::FjallStore::open_or_create`]).
///
/// # Errors
/// As [`read_manifest`] and [`install`].
pub fn start(
    vfs: Arc<dyn Vfs>,
    directory: &Path,
    identity: Identity,
    store: Box<dyn CheckpointStore>,
    mvcc: Mvcc,
    quota_bytes: Option<u64>,
) -> Result<Started, Fatal> {
    let manifest = match read_manifest(&*vfs, directory)? {
        Some(manifest) => manifest,
        None => {
            let first = Manifest::empty(identity);
            first.publish(&*vfs, directory)?;
            first
        }
    };
    assert_eq!(
        manifest.identity, identity,
        "the caller read the same identity"
    );
    let Installed {
        machine,
        leftovers,
        dropped,
        reach,
    } = install(&manifest, &*store, mvcc, quota_bytes)?;
    let checkpointer = Checkpointer::new(vfs, directory, store, manifest, leftovers, dropped);
    Ok(Started {
        machine,
        checkpointer,
        reach,
    })
}

/// What every record of a checkpoint must satisfy by itself, so that the store
/// is never filled with what its invariants exclude.
pub(crate) fn check_record(manifest: &Manifest, record: &RecordMeta) -> Result<(), String> {
    let main = record.revision.main;
    let rules = [
        (!record.key.is_empty(), "has no key"),
        (
            (2..=manifest.current_revision).contains(&main),
            "has a revision that the store never had",
        ),
        (
            !record.tombstone || record.place.length == 0,
            "is a tombstone with a value",
        ),
        (
            record.tombstone || (2..=main).contains(&record.create_revision),
            "was created after it was written",
        ),
        (record.tombstone || record.version >= 1, "has no version"),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, broken)) => Err(format!("index record {:?} {broken}", record.revision)),
    }
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

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
