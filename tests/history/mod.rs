//! What clients saw, and the promises it is judged by: one file, one property.
//! Nothing in here knows how the member works; a checker gets answers, events
//! and states in plain types and says what is wrong with them.

pub mod atomic;
pub mod durable;
pub mod group_spec;
pub mod hash_kv;
pub mod judge;
pub mod leases;
pub mod linearizable;
pub mod order;
pub mod reads;
pub mod real_time;
pub mod record;
pub mod recorded_leases;
pub mod recorded_reads;
pub mod revisions;
pub mod state_hash;
pub mod watch;
pub mod watches;

/// What is wrong, for whoever reads the failure.
pub type Verdict = Result<(), String>;
