//! Time, network and processes around the storage crate.

pub mod config;
pub mod shutdown;
pub mod version;
