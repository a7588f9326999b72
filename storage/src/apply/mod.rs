//! The deterministic state machine: a command of the log in, an outcome out.

pub mod command;
