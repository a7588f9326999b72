//! What clients saw, and the promises it is judged by: one file, one property.
//! Nothing in here knows how the member works; a checker gets answers, events
//! and states in plain types and says what is wrong with them.

pub mod atomic;
pub mod durable;
pub mod hash_kv;
pub mod leases;
pub mod reads;
pub mod revisions;
pub mod state_hash;
pub mod watch;

/// What is wrong, for whoever reads the failure.
pub type Verdict = Result<(), String>;
