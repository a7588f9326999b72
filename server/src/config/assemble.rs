//! From settings to a [`Config`]: words become types, and what etcd derives is derived.
//!
//! Pure but for [`default_host`], which asks the kernel for a route. Invariants: see [`Config`].
//! Limits: none.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use super::flags::{Class, all};
use super::notice::Notice;
use super::types::{
    AllowedOrigins, AutoCompaction, ConfigError, InitialClusterState, MetricsLevel, Quota,
    TlsFiles, TlsVersion,
};
use super::value::{Settings, Value};
use super::{Config, FeatureGates, Scheme, Url, log_settings, parse_duration, validate};
use crate::engine::PIN_GRACE;

/// Where the settings come from: etcd treats a few absent flags differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Flags and variables.
    CommandLine,
    /// The configuration file.
    File,
}

/// Builds and checks the configuration.
///
/// # Errors
/// [`ConfigError::Invalid`], with etcd's words where etcd refuses too.
pub fn assemble(
    settings: &Settings,
    source: Source,
    notices: &mut Vec<Notice>,
) -> Result<Config, ConfigError> {
    let reader = Reader(settings);
    let log = log_settings::read(&reader)?;
    validate::settings(settings, source, notices)?;
    let name = reader.text("name");
    let data_dir = match reader.text("data-dir").as_str() {
        "" => PathBuf::from(format!("{name}.sternpost")),
        given => PathBuf::from(given),
    };
    let config = Config {
        data_dir,
        wal_dir: reader.path("wal-dir"),
        listen_client_urls: reader.urls("listen-client-urls"),
        listen_client_http_urls: reader.urls("listen-client-http-urls"),
        listen_peer_urls: reader.urls("listen-peer-urls"),
        listen_metrics_urls: reader.urls("listen-metrics-urls"),
        advertise_client_urls: reader.urls("advertise-client-urls"),
        initial_advertise_peer_urls: reader.urls("initial-advertise-peer-urls"),
        initial_cluster: reader.text("initial-cluster"),
        initial_cluster_state: match reader.text("initial-cluster-state").as_str() {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        initial_cluster_token: reader.text("initial-cluster-token"),
        force_new_cluster: reader.boolean("force-new-cluster"),
        heartbeat_interval: Duration::from_millis(reader.unsigned("heartbeat-interval")),
        election_timeout: Duration::from_millis(reader.unsigned("election-timeout")),
        initial_election_tick_advance: reader.boolean("initial-election-tick-advance"),
        pre_vote: reader.boolean("pre-vote"),
        strict_reconfig_check: reader.boolean("strict-reconfig-check"),
        max_learners: reader.bounded("max-learners")?,
        unsafe_no_fsync: reader.boolean("unsafe-no-fsync"),
        quota: quota(reader.signed("quota-backend-bytes")),
        auto_compaction: auto_compaction(
            &reader.text("auto-compaction-mode"),
            &reader.text("auto-compaction-retention"),
        )?,
        max_txn_ops: reader.bounded("max-txn-ops")?,
        max_request_bytes: reader.bounded("max-request-bytes")?,
        max_concurrent_streams: reader.bounded("max-concurrent-streams")?,
        grpc_keepalive_min_time: reader.duration("grpc-keepalive-min-time")?,
        grpc_keepalive_interval: nonzero(reader.duration("grpc-keepalive-interval")?),
        grpc_keepalive_timeout: nonzero(reader.duration("grpc-keepalive-timeout")?),
        socket_reuse_port: reader.boolean("socket-reuse-port"),
        socket_reuse_address: reader.boolean("socket-reuse-address"),
        enable_grpc_gateway: reader.boolean("enable-grpc-gateway"),
        watch_progress_notify_interval: nonzero(reader.duration("watch-progress-notify-interval")?)
            .unwrap_or(Config::PROGRESS_INTERVAL_DEFAULT),
        client_tls: reader.client_tls(),
        peer_tls: reader.peer_tls(),
        self_signed_cert_validity_years: reader.bounded("self-signed-cert-validity")?,
        cipher_suites: reader.list("cipher-suites"),
        tls_min_version: validate::tls_version(&reader.text("tls-min-version"))?
            .unwrap_or(TlsVersion::Tls12),
        tls_max_version: validate::tls_version(&reader.text("tls-max-version"))?,
        cors: origins(reader.list("cors")),
        host_whitelist: origins(reader.list("host-whitelist")),
        auth_token: reader.text("auth-token"),
        bcrypt_cost: reader.bounded("bcrypt-cost")?,
        auth_token_ttl: Duration::from_secs(reader.unsigned("auth-token-ttl")),
        metrics: match reader.text("metrics").as_str() {
            "extensive" => MetricsLevel::Extensive,
            _ => MetricsLevel::Basic,
        },
        warning_apply_duration: reader.duration("warning-apply-duration")?,
        warning_unary_request_duration: reader.duration("warning-unary-request-duration")?,
        corrupt_check_time: nonzero(reader.duration("corrupt-check-time")?),
        compact_hash_check_time: reader.duration("compact-hash-check-time")?,
        reader_grace: PIN_GRACE,
        feature_gates: reader.gates()?,
        log,
        discovery: all().any(|flag| flag.class == Class::Refused && settings.is_set(flag.name)),
        name,
    };
    notice_flags_without_meaning(settings, notices);
    Ok(derive(config, settings, notices))
}

/// Settings of which the value of each flag is read in its type.
pub struct Reader<'a>(pub &'a Settings);

impl Reader<'_> {
    /// A text.
    pub fn text(&self, name: &'static str) -> String {
        match self.0.value(name) {
            Value::Text(text) => text,
            other => unreachable_kind(name, &other),
        }
    }

    /// A boolean.
    pub fn boolean(&self, name: &'static str) -> bool {
        match self.0.value(name) {
            Value::Boolean(value) => value,
            other => unreachable_kind(name, &other),
        }
    }

    /// A list of words.
    pub fn list(&self, name: &'static str) -> Vec<String> {
        match self.0.value(name) {
            Value::List(words) => words,
            other => unreachable_kind(name, &other),
        }
    }

    fn unsigned(&self, name: &'static str) -> u64 {
        match self.0.value(name) {
            Value::Unsigned(number) => number,
            other => unreachable_kind(name, &other),
        }
    }

    fn signed(&self, name: &'static str) -> i64 {
        match self.0.value(name) {
            Value::Signed(number) => number,
            other => unreachable_kind(name, &other),
        }
    }

    fn urls(&self, name: &'static str) -> Vec<Url> {
        match self.0.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable_kind(name, &other),
        }
    }

    fn path(&self, name: &'static str) -> Option<PathBuf> {
        let text = self.text(name);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    /// A number in a narrower type.
    fn bounded<T: TryFrom<i128>>(&self, name: &'static str) -> Result<T, ConfigError> {
        let number = match self.0.value(name) {
            Value::Unsigned(number) => i128::from(number),
            Value::Signed(number) => i128::from(number),
            other => unreachable_kind(name, &other),
        };
        T::try_from(number)
            .map_err(|_| ConfigError::invalid(format!("--{name} is out of range ({number})")))
    }

    fn duration(&self, name: &'static str) -> Result<Duration, ConfigError> {
        let nanoseconds = self.signed(name);
        u64::try_from(nanoseconds)
            .map(Duration::from_nanos)
            .map_err(|_| {
                ConfigError::invalid(format!(
                    "--{name} must not be negative (set to {nanoseconds}ns)"
                ))
            })
    }

    fn gates(&self) -> Result<FeatureGates, ConfigError> {
        let mut gates = FeatureGates::default();
        gates
            .add(&self.text("feature-gates"))
            .map_err(ConfigError::invalid)?;
        Ok(gates)
    }

    fn client_tls(&self) -> TlsFiles {
        TlsFiles {
            cert_file: self.path("cert-file"),
            key_file: self.path("key-file"),
            client_cert_file: self.path("client-cert-file"),
            client_key_file: self.path("client-key-file"),
            client_cert_auth: self.boolean("client-cert-auth"),
            trusted_ca_file: self.path("trusted-ca-file"),
            crl_file: self.path("client-crl-file"),
            auto_tls: self.boolean("auto-tls"),
            allowed_cns: Vec::new(),
            allowed_hostnames: words(self.list("client-cert-allowed-hostname")),
            skip_client_san_verification: false,
        }
    }

    fn peer_tls(&self) -> TlsFiles {
        TlsFiles {
            cert_file: self.path("peer-cert-file"),
            key_file: self.path("peer-key-file"),
            client_cert_file: self.path("peer-client-cert-file"),
            client_key_file: self.path("peer-client-key-file"),
            client_cert_auth: self.boolean("peer-client-cert-auth"),
            trusted_ca_file: self.path("peer-trusted-ca-file"),
            crl_file: self.path("peer-crl-file"),
            auto_tls: self.boolean("peer-auto-tls"),
            allowed_cns: words(self.list("peer-cert-allowed-cn")),
            allowed_hostnames: words(self.list("peer-cert-allowed-hostname")),
            skip_client_san_verification: self.boolean("peer-skip-client-san-verification"),
        }
    }
}

fn unreachable_kind(name: &str, value: &Value) -> ! {
    panic!("flag {name} holds {value:?}, which is not of its kind")
}

/// Retention as etcd reads it: a bare number means hours or revisions, all else is a duration.
fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, ConfigError> {
    let revision_mode = mode == "revision";
    let count = match retention {
        "" => Some(0),
        text => text.parse::<i64>().ok().filter(|count| *count >= 0),
    };
    let nanoseconds = match count {
        Some(0) => return Ok(AutoCompaction::Off),
        Some(count) if revision_mode => return Ok(AutoCompaction::Revision(count)),
        Some(hours) => hours
            .checked_mul(3_600_000_000_000)
            .ok_or_else(|| ConfigError::invalid("--auto-compaction-retention is too long"))?,
        None => parse_duration(retention).map_err(|error| {
            ConfigError::invalid(format!("error parsing CompactionRetention: {error}"))
        })?,
    };
    match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => Ok(AutoCompaction::Off),
        // etcd counts the nanoseconds of a duration as revisions here, which nobody can mean.
        Ok(_) if revision_mode => Err(ConfigError::invalid(format!(
            "--auto-compaction-retention={retention} is no number of revisions"
        ))),
        Ok(nanoseconds) => Ok(AutoCompaction::Periodic(Duration::from_nanos(nanoseconds))),
    }
}

fn quota(bytes: i64) -> Quota {
    match u64::try_from(bytes) {
        Err(_) => Quota::Off,
        Ok(0) => Quota::Default,
        Ok(bytes) => Quota::Bytes(bytes),
    }
}

fn nonzero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn words(words: Vec<String>) -> Vec<String> {
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

fn origins(listed: Vec<String>) -> AllowedOrigins {
    let listed = words(listed);
    if listed.is_empty() || listed.iter().any(|origin| origin == "*") {
        return AllowedOrigins::All;
    }
    AllowedOrigins::Listed(listed)
}

fn notice_flags_without_meaning(settings: &Settings, notices: &mut Vec<Notice>) {
    for flag in all().filter(|flag| settings.is_set(flag.name)) {
        if matches!(flag.class, Class::Accepted | Class::Ignored) {
            let flag_name = flag.name.to_owned();
            notices.push(Notice::WithoutMeaning {
                flag: flag_name,
                reason: flag.help,
            });
        }
    }
}

/// What follows from other settings: an advertised address for a member that listens everywhere,
/// and the initial cluster of a member that has only been given a name.
fn derive(mut config: Config, settings: &Settings, notices: &mut Vec<Notice>) -> Config {
    let mut host = None;
    for (listen, advertise, flag) in [
        (
            &config.listen_peer_urls,
            &mut config.initial_advertise_peer_urls,
            "initial-advertise-peer-urls",
        ),
        (
            &config.listen_client_urls,
            &mut config.advertise_client_urls,
            "advertise-client-urls",
        ),
    ] {
        let everywhere = listen.first().filter(|url| url.host() == "0.0.0.0");
        let (Some(url), false) = (everywhere, settings.is_set(flag)) else {
            continue;
        };
        let Some(address) = host.or_else(default_host) else {
            continue;
        };
        host = Some(address);
        let address = SocketAddr::new(address.ip(), url.port());
        *advertise = vec![Url::from_address(Scheme::Http, address)];
    }
    if let Some(address) = host {
        notices.push(Notice::DefaultHost {
            host: address.ip().to_string(),
        });
    }
    if !settings.is_set("initial-cluster") {
        let own: Vec<String> = config
            .initial_advertise_peer_urls
            .iter()
            .map(|url| format!("{}={url}", config.name))
            .collect();
        config.initial_cluster = own.join(",");
    }
    config
}

/// The address this machine would use towards the outside. Nothing is sent: the kernel only picks a
/// route to an address of the documentation network.
fn default_host() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket
        .local_addr()
        .ok()
        .filter(|address| !address.ip().is_unspecified())
}
