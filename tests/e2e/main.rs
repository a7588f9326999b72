//! The real process from outside: killed, stopped, refused, and read by clients that stop
//! reading. Everything goes through loopback and the generated client stubs.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

#[path = "../model/apply/answer.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod answer;
mod bad_input;
mod campaign;
mod client;
mod content;
mod disk;
mod faults;
#[path = "../history/mod.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod history;
mod kill;
mod large_keys;
mod lifecycle;
mod load;
mod log_place;
mod methods;
#[path = "../model/apply/model.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod model;
mod power;
mod process;
mod recorder;
mod scrub;
mod shim;
mod slow_reader;
mod terminal;
mod wire;
