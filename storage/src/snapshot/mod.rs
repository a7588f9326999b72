//! The bolt file format (bbolt version 2) as etcd uses it: what `etcdctl
//! snapshot save` receives from us and what an import reads. docs/format.md,
//! "Snapshot for etcd (bolt)"; contract 1.12 (Snapshot) and 1.14.
//!
//! Writing takes two passes over the records of a pinned revision and no
//! temporary file: [`Layout`] learns the sizes, [`Plan`] knows the length of
//! the file, [`Emitter`] produces its bytes from the first to the last while
//! it is fed the values. Reading is [`BoltFile`]. All of it is sans-IO: the
//! caller hands in slices of records and takes chunks away.

mod contents;
mod emitter;
mod layout;
mod page;
mod reader;
mod record_key;
mod source;
mod tree;

#[cfg(test)]
mod tests;

pub use contents::{AlarmEntry, ConfState, Contents, Downgrade, LeaseEntry, MemberEntry};
pub use emitter::{Emitter, PassMismatch, Step};
pub use layout::{Layout, Plan};
pub use reader::{BoltFile, Pairs};
pub use record_key::RecordKey;
pub use source::{ReadAt, ReadError, Trailer, check_trailer};
pub use tree::Bucket;
