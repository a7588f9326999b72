//! The deterministic state machine: a command of the log in, an outcome out.
//!
//! `machine` holds the state and takes one entry after the other; `txn`,
//! `compare` and `read` are the rules of requests; `range` plans reads for the
//! server too; `codec` is the byte form of commands. Rules: contract 1.4 to 1.8,
//! 1.10 and 1.13.

mod alarm;
pub mod codec;
pub mod command;
mod compare;
mod lease;
mod machine;
mod needs;
mod outcome;
mod range;
mod read;
pub mod space;
#[cfg(test)]
mod tests;
mod txn;

pub use alarm::Alarms;
pub use lease::Leases;
pub use machine::{EntryData, Loading, MachineHash, Restart, StateMachine};
pub use outcome::{
    DeferredRange, InheritedValue, LeaseChange, OpResult, Outcome, Projection, RangeResult,
    Response, TxnResult,
};
pub use range::Plan;
