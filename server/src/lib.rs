//! Time, network and processes around the storage crate.

pub mod config;
pub mod http;
pub mod metrics;
pub mod net;
pub mod shutdown;
pub mod tls;
pub mod version;
pub mod node;
pub mod rpc;
pub mod runtime;
pub mod watch;
