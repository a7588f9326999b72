//! Time, network and processes around the storage crate; the member itself.
//! The library is embeddable: [`run`] is all that the program does after it has
//! read its command line.
//!
//! Arrows: `rpc, watch, http -> runtime -> engine -> node -> storage`; `run` puts them
//! together.

mod bootstrap;
mod check_command;
pub mod cli;
pub mod config;
pub mod engine;
pub mod http;
pub mod logging;
mod member_view;
pub mod metrics;
pub mod net;
pub mod node;
pub mod rpc;
mod run;
pub mod runtime;
pub mod sd_notify;
pub mod shutdown;
pub mod signals;
pub mod tls;
pub mod version;
pub mod watch;

pub use bootstrap::StartError;
pub use run::run;
