//! The deterministic state machine: a command of the log in, an outcome out.

mod alarm;
pub mod codec;
pub mod command;
mod lease;
mod outcome;
pub mod space;

pub use alarm::Alarms;
pub use lease::Leases;
pub use outcome::{
    InheritedValue, LeaseChange, OpResult, Outcome, Projection, RangeResult, Response, TxnResult,
};
