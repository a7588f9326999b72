//! Time, network and processes around the storage crate.

pub mod cli;
pub mod config;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod sd_notify;
pub mod shutdown;
pub mod signals;
pub mod tls;
pub mod version;

/// Runs a member until `shutdown` asks for a stop.
///
/// # Errors
/// Always, until the parts of a member are put together.
pub async fn run(
    _config: config::Config,
    _shutdown: shutdown::Shutdown,
) -> Result<(), Box<dyn std::error::Error>> {
    Err("this build of Sternpost cannot run a member yet".into())
}
