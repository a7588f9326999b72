//! Every decision of the core loop, without its threads, channels and clock: what
//! is admitted, appended, applied, published, answered, purged, moved
//! (docs/design/0003-engine.md).
//!
//! One owner of the node, the log's writing end, the state machine, the lessor,
//! the pins, the counts of pages, the checkpoint that is collected, the purge.
//! What it needs of the world it asks of its [`Host`].
//!
//! Invariants: the same inputs and the same answers of the host give the same
//! outputs; at most one group is being flushed; nothing is answered before its
//! entry is applied, nothing applied before it is flushed; work is done in slices.

mod checkpoint_work;
mod checkpoints;
mod host;
mod lessor;
mod limits;
mod maintenance;
mod pins;
mod proposals;
mod reads;
mod requests;
mod room;
mod scrub;
mod sizes;
mod take;
mod turn;
mod value_reader;
mod writes;

pub use checkpoint_work::CheckpointWork;
pub use host::{Host, Observation};
pub use limits::{PIN_GRACE, SLICE_KEY_VALUES_MAX};
pub use pins::Pin;
pub use reads::field_bytes;
pub use requests::{
    Applied, CountSlice, HashKvJob, HashKvWalk, History, LeaseState, MissingValues, OpenedRead,
    ReadSlice, ReadTxn, Rejected, Request, SnapshotStart, StatusNumbers,
};
pub use scrub::{ScrubWork, Scrubbed};
pub use sizes::Sizes;
pub use take::told_size;
pub use turn::{Engine, Parts};
pub use value_reader::ValueReader;
