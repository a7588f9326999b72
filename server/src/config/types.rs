//! The typed values of a [`super::Config`] that more than one flag or a word stands for.
//!
//! Plain data. Invariants: none beyond the types. Limits: none.

use std::path::PathBuf;
use std::time::Duration;

/// Why a configuration is refused, and how the process ends (contract 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The command line is not in the language of flags: this text, then the usage, on stderr,
    /// exit code 2.
    Usage(String),
    /// A value, or values together, make no sense: one log line, exit code 1.
    Invalid(String),
    /// A flag and its `ETCD_*` variable are both there: one log line of level fatal, exit code 1.
    Shadowed {
        /// The name of the variable.
        variable: String,
    },
}

impl ConfigError {
    /// A refusal of level `Invalid`.
    pub fn invalid(text: impl Into<String>) -> ConfigError {
        ConfigError::Invalid(text.into())
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Usage(text) | ConfigError::Invalid(text) => out.write_str(text),
            ConfigError::Shadowed { variable } => {
                write!(
                    out,
                    "{variable} is shadowed by the corresponding command-line flag"
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    /// The cluster is being founded.
    New,
    /// This member joins a cluster that runs.
    Existing,
}

/// `--quota-backend-bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// 0 or nothing given: etcd's default of [`Quota::DEFAULT_BYTES`].
    Default,
    /// Negative: no quota.
    Off,
    /// This many bytes in use.
    Bytes(u64),
}

impl Quota {
    /// etcd's default quota: 2 GiB.
    pub const DEFAULT_BYTES: u64 = 2 * 1024 * 1024 * 1024;

    /// The bytes in use from which on writes are refused; `None` is never.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Quota::Default => Some(Quota::DEFAULT_BYTES),
            Quota::Off => None,
            Quota::Bytes(bytes) => Some(bytes),
        }
    }
}

/// `--auto-compaction-mode` with `--auto-compaction-retention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Retention 0.
    Off,
    /// Keep what was current within this time.
    Periodic(Duration),
    /// Keep this many revisions. Above zero.
    Revision(i64),
}

/// `--metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsLevel {
    /// `basic`.
    Basic,
    /// `extensive`: also the histograms of gRPC handling time.
    Extensive,
}

/// A TLS version that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `TLS1.2`.
    Tls12,
    /// `TLS1.3`.
    Tls13,
}

/// The TLS files and rules of one side (clients or peers).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain (PEM) the listener shows.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// The certificate for connections that this member opens itself.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Whether a client must show a certificate.
    pub client_cert_auth: bool,
    /// The authorities (PEM) that client certificates are checked against. etcd checks a
    /// certificate that is shown as soon as this is set, and demands one with `client_cert_auth`.
    pub trusted_ca_file: Option<PathBuf>,
    /// Revoked certificates.
    pub crl_file: Option<PathBuf>,
    /// Certificates of our own making, kept below the data directory; ignored when files are given.
    pub auto_tls: bool,
    /// Common names a client certificate must carry one of; empty allows all.
    pub allowed_cns: Vec<String>,
    /// Host names (SAN) a client certificate must carry one of; empty allows all.
    pub allowed_hostnames: Vec<String>,
    /// Peers only: do not compare a peer's address with its certificate.
    pub skip_client_san_verification: bool,
}

impl TlsFiles {
    /// Whether certificate files are given (etcd's `TLSInfo.Empty`, turned round).
    pub fn has_certificate(&self) -> bool {
        self.cert_file.is_some() || self.key_file.is_some()
    }
}

/// `--cors`, `--host-whitelist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Empty or `*`.
    All,
    /// Only these.
    Listed(Vec<String>),
}

/// `--log-level`. What etcd calls dpanic, panic and fatal is one level here: only lines of
/// level fatal pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `debug`.
    Debug,
    /// `info`.
    Info,
    /// `warn`.
    Warn,
    /// `error`.
    Error,
    /// `dpanic`, `panic`, `fatal`.
    Fatal,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, zap's field names.
    Json,
    /// Columns divided by tabs, fields as JSON at the end.
    Console,
}

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// `stderr` and `default`.
    Stderr,
    /// `stdout`.
    Stdout,
    /// `systemd/journal`.
    Journal,
    /// A file, appended to; `/dev/null` for none.
    File(PathBuf),
}

/// `--log-rotation-config-json`, with `--enable-log-rotation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// A file longer than this many MiB is moved aside. Above zero.
    pub max_size_mib: u64,
    /// Moved files older than this are removed; `None` is never.
    pub max_age_days: Option<u64>,
    /// Moved files beyond this many are removed, the oldest first; `None` is never.
    pub max_backups: Option<usize>,
}

/// How the server logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Lines below it are dropped.
    pub level: LogLevel,
    /// Never empty.
    pub outputs: Vec<LogOutput>,
    /// JSON or console.
    pub format: LogFormat,
    /// Only with a single file among the outputs.
    pub rotation: Option<LogRotation>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: LogLevel::Info,
            outputs: vec![LogOutput::Stderr],
            format: LogFormat::Json,
            rotation: None,
        }
    }
}
