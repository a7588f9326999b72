//! The log: one line per event, JSON with zap's field names on stderr unless told otherwise
//! (contract 4.1).
//!
//! Everyone logs with the macros of `tracing` and fields; a name like `data_dir` is written as
//! `data-dir`, as etcd spells its fields. An event with `target: "fatal"` has the level `fatal`;
//! whoever logs it ends the process. Lines are written by the thread that logs: there are few.
//! Invariants: a line is written whole, by one call. Limits: of rotated files, by flags.

mod line;
mod output;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::{LogConfig, LogLevel};
use line::Lines;
use output::Outputs;

/// The target of events that end the process; they are written with the level `fatal`.
pub const FATAL: &str = "fatal";

/// Opens the outputs and starts to log to them. Called once in the life of the process.
///
/// # Errors
/// An output cannot be opened; the text names it.
///
/// # Panics
/// When it is called twice.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let outputs = Outputs::open(config)?;
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(config.format))
        .log_internal_errors(false)
        .with_writer(outputs)
        .with_filter(targets(config.level));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("the log is started only once");
    Ok(())
}

/// Our own crates log at the level asked for; libraries only what is worth a warning, since their
/// debug lines are per frame and per packet.
fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Fatal => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_target("server", ours)
        .with_target("storage", ours)
        .with_target("sternpost", ours)
        .with_target(FATAL, LevelFilter::ERROR)
}
