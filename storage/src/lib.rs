//! Durable and deterministic state: the Raft log, the MVCC store, the state
//! machine, checkpoints, snapshots and the offline checker.
//!
//! This crate never sees tokio, tonic, a clock, a thread or randomness. What
//! touches files goes through [`vfs`] (fjall, behind
//! [`checkpoint::CheckpointStore`], is the one exception and is never on the
//! commit path).
//!
//! Arrows: `check, snapshot -> checkpoint -> apply -> mvcc -> types` and
//! `raft_log -> vfs -> types`; the two sides meet in `server::runtime`.

pub mod apply;
pub mod check;
pub mod checkpoint;
pub mod error;
pub mod limits;
pub mod mvcc;
pub mod planted;
pub mod raft_log;
pub mod snapshot;
pub mod types;
pub mod vfs;
