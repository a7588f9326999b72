//! What the program does with its command line: run a member, print a text, or check a directory.
//!
//! Runs on the main thread. Exit codes (contract 4.1): 0 after a stop without a signal and for
//! texts, 2 for a command line that is not in the language of flags, 1 for everything else that
//! goes wrong; a member that is stopped by a signal dies of it. Invariants, limits: none.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{
    self, Config, ConfigError, LogConfig, Notice, Request, Url, Variable, format_duration,
};
use crate::logging::{self, FATAL};
use crate::version::{ETCD_VERSION, STERNPOST_VERSION};
use crate::{check_command, shutdown, signals};

/// How often the runtime looks at sockets and timers, in polls of tasks: small, so that nothing
/// holds a turn (the design's sixth idea).
const EVENT_INTERVAL: u32 = 4;

/// How often it looks at what other threads have woken, above all the log thread, before its own
/// tasks: at every poll. By default a durable group would wait for 31 polls beside a list.
const GLOBAL_QUEUE_INTERVAL: u32 = 1;

/// Does what the command line asks for. `arguments` begins with the name of the program.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let arguments: Vec<String> = match arguments.into_iter().map(OsString::into_string).collect() {
        Ok(arguments) => arguments,
        Err(bad) => return usage_error(&format!("an argument is not UTF-8: {bad:?}")),
    };
    // A variable that is not UTF-8 cannot be one of ours.
    let environment: Vec<Variable> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let given = arguments.get(1..).unwrap_or_default();
    match given.first().map(String::as_str) {
        Some("check") => return check(given.get(1..).unwrap_or_default()),
        Some(other @ ("gateway" | "grpc-proxy")) => {
            print_error(&format!("{other} is not supported by Sternpost\n"));
            return ExitCode::from(1);
        }
        _ => {}
    }
    let mut notices = Vec::new();
    match config::read(given, &environment, &mut notices) {
        Err(ConfigError::Usage(text)) => usage_error(&text),
        Err(error) => refuse(&arguments, &notices, &error),
        Ok(Request::Help) => {
            print_error(config::usage());
            print(&config::flag_help())
        }
        Ok(Request::Version) => print(&versions()),
        Ok(Request::Serve(config)) => {
            if let Err(error) = logging::start(&config.log) {
                let error = ConfigError::Invalid(error);
                return refuse(&arguments, &notices, &error);
            }
            log_start(&arguments, &notices);
            serve(*config)
        }
    }
}

/// The text of `--version`; harnesses and images read its first line (contract 4.1).
fn versions() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {}\nGo Version: none (written in Rust)\n\
         Go OS/Arch: {}/{architecture}\nSternpost Version: {STERNPOST_VERSION}\n",
        option_env!("STERNPOST_GIT_SHA").unwrap_or("unknown"),
        std::env::consts::OS,
    )
}

/// Runs a member until it is told to stop.
fn serve(config: Config) -> ExitCode {
    log_config(&config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fatal(&format!("cannot start the runtime: {error}")),
    };
    let (trigger, shutdown) = shutdown::channel();
    let result = runtime.block_on(async {
        signals::listen(trigger).map_err(|error| format!("cannot handle signals: {error}"))?;
        crate::run(config, shutdown.clone()).await
    });
    match (result, shutdown.cause()) {
        (Err(error), _) => fatal(&error.to_string()),
        (Ok(()), Some(cause)) => signals::die_of(cause),
        (Ok(()), None) => ExitCode::SUCCESS,
    }
}

/// `sternpost check DIR`.
fn check(arguments: &[String]) -> ExitCode {
    let [directory] = arguments else {
        return usage_error("check takes one argument, the data directory");
    };
    check_command::run(Path::new(directory))
}

/// A configuration that makes no sense: etcd's two lines, exit code 1.
fn refuse(arguments: &[String], notices: &[Notice], error: &ConfigError) -> ExitCode {
    if !tracing::dispatcher::has_been_set()
        && let Err(error) = logging::start(&LogConfig::default())
    {
        print_error(&format!("cannot start the log: {error}\n"));
    }
    if let ConfigError::Shadowed { variable } = error {
        notices.iter().for_each(Notice::log);
        tracing::error!(
            target: FATAL,
            environment_variable = %variable,
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag)"
        );
        return ExitCode::from(1);
    }
    log_start(arguments, notices);
    tracing::warn!(error = %error, "failed to verify flags");
    ExitCode::from(1)
}

fn log_start(arguments: &[String], notices: &[Notice]) {
    notices.iter().for_each(Notice::log);
    tracing::info!(args = %arguments.join(" "), "Running: ");
}

/// The configuration in one line, with etcd's names.
fn log_config(config: &Config) {
    tracing::info!(
        etcd_version = ETCD_VERSION,
        sternpost_version = STERNPOST_VERSION,
        name = %config.name,
        data_dir = %config.data_dir.display(),
        wal_dir = %config.wal_dir.as_deref().unwrap_or(std::path::Path::new("")).display(),
        force_new_cluster = config.force_new_cluster,
        heartbeat_interval = %format_duration(config.heartbeat_interval),
        election_timeout = %format_duration(config.election_timeout),
        initial_advertise_peer_urls = %joined(&config.initial_advertise_peer_urls),
        listen_peer_urls = %joined(&config.listen_peer_urls),
        advertise_client_urls = %joined(&config.advertise_client_urls),
        listen_client_urls = %joined(&config.listen_client_urls),
        listen_metrics_urls = %joined(&config.listen_metrics_urls),
        initial_cluster = %config.initial_cluster,
        initial_cluster_token = %config.initial_cluster_token,
        quota_backend_bytes = config.quota.bytes().unwrap_or(0),
        max_request_bytes = config.max_request_bytes,
        max_txn_ops = config.max_txn_ops,
        pre_vote = config.pre_vote,
        feature_gates = %config.feature_gates,
        auto_compaction = ?config.auto_compaction,
        unsafe_no_fsync = config.unsafe_no_fsync,
        "starting an etcd server"
    );
}

fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

fn fatal(error: &str) -> ExitCode {
    tracing::error!(target: FATAL, error = %error, "the member stops");
    ExitCode::from(1)
}

fn usage_error(text: &str) -> ExitCode {
    print_error(&format!("{text}\n{}\n", config::usage()));
    ExitCode::from(2)
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}

/// Writes to stderr. When even that fails there is nobody left to tell, and the exit code stays.
fn print_error(text: &str) {
    std::io::stderr()
        .lock()
        .write_all(text.as_bytes())
        .unwrap_or_default();
}
