//! Time, network and processes around the storage crate.

pub mod http;
pub mod metrics;
pub mod net;
pub mod tls;
