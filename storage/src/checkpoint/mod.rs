//! Checkpoints: what a start needs so that it does not replay the whole log.
//!
//! A checkpoint is a set of index records and cold values in a
//! [`CheckpointStore`] (fjall, or a model of it for the simulation) and a
//! [`Manifest`] that says which of them count. The manifest's publication is
//! the only commit point; whatever lies beyond it is ignored, overwritten or
//! removed. The formats and the crash orders stand in docs/format.md.
//!
//! The writing side is one [`Checkpointer`] on a worker thread; the reading
//! side is [`load()`] at start and [`ColdReader`] afterwards. Nothing here is on
//! the commit path.

#[cfg(test)]
mod applied;
mod checkpointer;
mod codec;
mod digest;
mod fjall;
mod fjall_files;
mod fjall_reader;
mod late;
pub mod layout;
mod load;
pub mod log_place;
mod manifest;
mod manifest_codec;
mod model;
mod reach;
mod record;
mod scrub;
#[cfg(test)]
mod state_hash_tests;
#[cfg(test)]
mod step_disk;
mod stepped;
mod store;

pub use checkpointer::{CheckpointJob, Checkpointer, ColdValue, MOVED_BYTES_MAX, Published};
pub use digest::SetDigest;
pub use fjall::FjallStore;
pub use late::open_or_defer;
pub(crate) use load::check_record;
pub use load::{Installed, Leftovers, Loaded, Started, install, load, read_manifest, start};
pub use manifest::{Identity, MANIFEST_BYTES_MAX, Manifest, Member, Membership};
pub use model::{Family, ModelDisk, ModelStore};
pub use reach::{Furthest, Reach};
pub use scrub::{StoreScrub, WrittenManifest};
pub use stepped::{StepGate, SteppedStore, StoreStep};
pub(crate) use store::check_value;
pub use store::{
    CheckpointStore, ColdReader, INGESTION_BYTES_MAX, INGESTION_RECORDS_MAX, ValueVisitor,
};
