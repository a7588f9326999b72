//! What a member is told at its start: flags, `ETCD_*` variables and the YAML file of etcd,
//! turned into one typed [`Config`] (contract 4.1 and 4.2).
//!
//! Read once by `main`, before any thread exists; nothing changes it later. Invariants: every value
//! in a [`Config`] was validated on its own and against the others; what may only be judged when
//! the data directory is known to be empty is judged by [`Config::bootstrap`].
//! Limits: the configuration file in [`crate::config::file`].

mod assemble;
mod bootstrap;
mod command_line;
mod duration;
mod environment;
mod feature_gates;
mod file;
mod flag_table;
mod flags;
mod help;
mod log_settings;
mod notice;
mod types;
mod url;
mod validate;
mod value;
mod yaml;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod flags_tests;
#[cfg(test)]
mod tests;

pub use bootstrap::Bootstrap;
pub use duration::{format_duration, parse_duration};
pub use environment::Variable;
pub use feature_gates::{FeatureGate, FeatureGates};
pub use help::{flag_help, usage};
pub use notice::Notice;
pub use types::{
    AllowedOrigins, AutoCompaction, ConfigError, InitialClusterState, LogConfig, LogFormat,
    LogLevel, LogOutput, LogRotation, MetricsLevel, Quota, TlsFiles, TlsVersion,
};
pub use url::{Scheme, Url};

use std::path::PathBuf;
use std::time::Duration;

use assemble::{Source, assemble};
use command_line::{Parsed, parse_arguments};
use value::{Settings, Value};

/// The whole configuration of one member. Each field is the flag of the same name (contract 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `--name`: the name published in the member list.
    pub name: String,
    /// `--data-dir`, by default `./<name>.sternpost`.
    pub data_dir: PathBuf,
    /// `--wal-dir`: a directory of its own for the Raft log.
    pub wal_dir: Option<PathBuf>,

    /// `--listen-client-urls`: gRPC, and HTTP unless `listen_client_http_urls` has any.
    pub listen_client_urls: Vec<Url>,
    /// `--listen-client-http-urls`: when not empty, HTTP is served only there.
    pub listen_client_http_urls: Vec<Url>,
    /// `--listen-peer-urls`.
    pub listen_peer_urls: Vec<Url>,
    /// `--listen-metrics-urls`: `/metrics` and the health endpoints, without client certificates.
    pub listen_metrics_urls: Vec<Url>,
    /// `--advertise-client-urls`, as published in the member list.
    pub advertise_client_urls: Vec<Url>,
    /// `--initial-advertise-peer-urls`.
    pub initial_advertise_peer_urls: Vec<Url>,

    /// `--initial-cluster`, unparsed: it only counts for an empty data directory.
    pub initial_cluster: String,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: InitialClusterState,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--force-new-cluster`: keep the data, forget the other members.
    pub force_new_cluster: bool,

    /// `--heartbeat-interval`: the length of a tick. Above zero.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`: at least five heartbeats, at most 50 seconds.
    pub election_timeout: Duration,
    /// `--initial-election-tick-advance`.
    pub initial_election_tick_advance: bool,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--max-learners`.
    pub max_learners: usize,

    /// `--unsafe-no-fsync`: an answer no longer means that the data is on disk.
    pub unsafe_no_fsync: bool,
    /// `--quota-backend-bytes`.
    pub quota: Quota,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`.
    pub auto_compaction: AutoCompaction,

    /// `--max-txn-ops`: operations in one list of a transaction.
    pub max_txn_ops: usize,
    /// `--max-request-bytes`: of one request as encoded.
    pub max_request_bytes: usize,
    /// `--max-concurrent-streams` of one client connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: clients that ping more often are cut off.
    pub grpc_keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`: how often the server pings; `None` is never.
    pub grpc_keepalive_interval: Option<Duration>,
    /// `--grpc-keepalive-timeout`: how long a ping may stay unanswered; `None` is for ever.
    pub grpc_keepalive_timeout: Option<Duration>,
    /// `--socket-reuse-port`.
    pub socket_reuse_port: bool,
    /// `--socket-reuse-address`.
    pub socket_reuse_address: bool,
    /// `--enable-grpc-gateway`: the JSON API.
    pub enable_grpc_gateway: bool,
    /// `--watch-progress-notify-interval`. Above zero.
    pub watch_progress_notify_interval: Duration,

    /// `--cert-file` and its family: what clients connect to.
    pub client_tls: TlsFiles,
    /// `--peer-cert-file` and its family.
    pub peer_tls: TlsFiles,
    /// `--self-signed-cert-validity` in years.
    pub self_signed_cert_validity_years: u32,
    /// `--cipher-suites` by their Go names; empty leaves the choice to the TLS library.
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`.
    pub tls_min_version: TlsVersion,
    /// `--tls-max-version`; `None` is the newest.
    pub tls_max_version: Option<TlsVersion>,
    /// `--cors`.
    pub cors: AllowedOrigins,
    /// `--host-whitelist`: host names accepted in HTTP requests without TLS.
    pub host_whitelist: AllowedOrigins,

    /// `--auth-token`: `simple`, or `jwt,...`.
    pub auth_token: String,
    /// `--bcrypt-cost`.
    pub bcrypt_cost: u32,
    /// `--auth-token-ttl`.
    pub auth_token_ttl: Duration,

    /// `--metrics`.
    pub metrics: MetricsLevel,
    /// `--warning-apply-duration`: slower applies are logged.
    pub warning_apply_duration: Duration,
    /// `--warning-unary-request-duration`: slower requests are logged.
    pub warning_unary_request_duration: Duration,
    /// `--corrupt-check-time`: how often members compare themselves; `None` is never.
    pub corrupt_check_time: Option<Duration>,
    /// `--compact-hash-check-time`.
    pub compact_hash_check_time: Duration,
    /// No flag: how long a reader whose revision is compacted may hold back the purge.
    pub reader_grace: Duration,
    /// `--feature-gates`.
    pub feature_gates: FeatureGates,
    /// `--log-level`, `--log-outputs`, `--log-format` and log rotation.
    pub log: LogConfig,
    /// One of the `--discovery-*` flags was given: refused by [`Config::bootstrap`].
    pub discovery: bool,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// Run a member.
    Serve(Box<Config>),
}

impl Config {
    /// etcd's interval when 0 is given.
    pub const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);

    /// The configuration of a member that is given nothing at all.
    pub fn defaults() -> Config {
        assemble(&Settings::default(), Source::CommandLine, &mut Vec::new())
            .expect("a test assembles the defaults")
    }

    /// Ticks of one heartbeat interval in an election timeout.
    pub fn election_ticks(&self) -> usize {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        usize::try_from(ticks).unwrap_or(usize::MAX)
    }
}

/// Reads the command line (without the name of the program), the environment and the file that they
/// name. What should be logged is added to `notices`, also when an error follows.
///
/// # Errors
/// [`ConfigError`], in the order in which etcd finds what is wrong.
pub fn read(
    arguments: &[String],
    environment: &[Variable],
    notices: &mut Vec<Notice>,
) -> Result<Request, ConfigError> {
    let (mut settings, rest) = match parse_arguments(arguments, notices)? {
        Parsed::Help => return Ok(Request::Help),
        Parsed::Flags { settings, rest } => (settings, rest),
    };
    if let Some(stray) = rest.first() {
        return Err(ConfigError::invalid(format!(
            "{stray:?} is not a valid flag"
        )));
    }
    if settings.value("version") == Value::Boolean(true) {
        return Ok(Request::Version);
    }
    let file = match settings.value("config-file") {
        Value::Text(path) if !path.is_empty() => Some(path),
        _ => environment::lookup(environment, "ETCD_CONFIG_FILE")
            .filter(|path| !path.is_empty())
            .map(str::to_owned),
    };
    let source = if let Some(path) = file {
        settings = file::load(&path, notices)?;
        Source::File
    } else {
        environment::apply(&mut settings, environment, notices)?;
        Source::CommandLine
    };
    Ok(Request::Serve(Box::new(assemble(
        &settings, source, notices,
    )?)))
}
