//! What must hold for any bytes: one file and one function a format. The same bodies are run
//! by libFuzzer (`fuzz_targets`, by `run.sh`) and, bounded, by `cargo test` ([`bounded`]).
//!
//! A body panics when a promise of the format is broken; it returns whether the bytes were
//! taken for something, so that a test can tell that its inputs go deep.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test"
)]

pub mod bolt_reader;
#[cfg(test)]
mod bounded;
pub mod grpc_bytes;
pub mod grpc_structure;
pub mod log_record;
pub mod manifest;
pub mod requests;
pub mod segment_recovery;
pub mod source;
pub mod transactions;

#[path = "../../model/apply/answer.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod answer;
#[path = "../../../server/src/rpc/convert.rs"]
#[allow(dead_code, reason = "answers are no input")]
mod convert;
#[path = "../../model/apply/deferred.rs"]
mod deferred;
#[path = "../../model/apply/generate.rs"]
mod generate;
#[path = "../../integrity/log_image.rs"]
#[allow(dead_code, reason = "tests/integrity uses all of it")]
mod log_image;
#[path = "../../model/apply/member.rs"]
mod member;
#[path = "../../model/apply/model.rs"]
#[allow(dead_code, reason = "the simulation uses all of it")]
mod model;
#[path = "../../../server/src/rpc/status.rs"]
#[allow(dead_code, reason = "only refusals of a request's form are reached")]
mod status;
#[path = "../../../server/src/rpc/validate.rs"]
mod validate;

// Where the included files look for them.
use storage::{planted, types};

/// What `rpc::status` translates besides a request's form; never built here.
mod runtime {
    #[allow(dead_code, reason = "the server builds them")]
    pub enum Rejected {
        Refusal(storage::error::Refusal),
        NoLeader,
        Stopped,
        TimedOut,
        TooDeep,
        TooManyRequests,
    }
}
