//! What etcd checks before it starts, in its order and words (contract 4.1).
//!
//! Pure. Invariants: none. Limits: none.

use super::assemble::{Reader, Source};
use super::notice::Notice;
use super::types::{ConfigError, TlsVersion};
use super::value::{Settings, Value};
use super::{FeatureGate, FeatureGates, Url, format_duration};
use std::time::Duration;

/// The longest election timeout etcd allows, in milliseconds.
const ELECTION_MS_MAX: u64 = 50_000;

/// Checks the settings against each other.
///
/// # Errors
/// [`ConfigError::Invalid`] with etcd's words.
pub fn settings(
    settings: &Settings,
    source: Source,
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    let reader = Reader(settings);
    if reader.text("discovery-fallback") == "proxy" {
        return Err(ConfigError::invalid(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ));
    }
    urls(settings)?;
    if reader.text("discovery-token").is_empty() != reader.list("discovery-endpoints").is_empty() {
        return Err(ConfigError::invalid(
            "both --discovery-token and --discovery-endpoints must be set",
        ));
    }
    timing(settings)?;
    let listens = settings.is_set("listen-client-urls");
    let advertises = settings.is_set("advertise-client-urls");
    if source == Source::CommandLine && listens && !advertises {
        return Err(ConfigError::invalid(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    match reader.text("auto-compaction-mode").as_str() {
        "periodic" | "revision" => {}
        "" => return Err(ConfigError::invalid("undefined auto-compaction-mode")),
        other => {
            return Err(ConfigError::invalid(format!(
                "unknown auto-compaction-mode {other:?}"
            )));
        }
    }
    gates(&reader.text("feature-gates"), notices)?;
    let hash_check = signed(settings, "compact-hash-check-time");
    if hash_check <= 0 {
        return Err(ConfigError::invalid(format!(
            "--compact-hash-check-time must be >0 (set to {})",
            shown_duration(hash_check)
        )));
    }
    tls(&reader)
}

/// Reads `TLS1.2`, `TLS1.3` or nothing.
///
/// # Errors
/// [`ConfigError::Invalid`] with etcd's words.
pub fn tls_version(text: &str) -> Result<Option<TlsVersion>, ConfigError> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::Tls12)),
        "TLS1.3" => Ok(Some(TlsVersion::Tls13)),
        _ => Err(ConfigError::invalid(format!(
            "unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)"
        ))),
    }
}

fn urls(settings: &Settings) -> Result<(), ConfigError> {
    for name in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
        "listen-metrics-urls",
    ] {
        for url in url_list(settings, name) {
            if !url.scheme().is_unix() && url.listen_address().is_none() {
                return Err(ConfigError::invalid(format!(
                    "expected IP in URL for binding ({url})"
                )));
            }
        }
    }
    let no_host = |urls: &[Url]| {
        let without = urls
            .iter()
            .find(|url| !url.scheme().is_unix() && url.host().is_empty());
        without.map(|url| (joined(urls), format!("unexpected empty host ({url})")))
    };
    if let Some((all, error)) = no_host(&url_list(settings, "initial-advertise-peer-urls")) {
        return Err(ConfigError::invalid(format!(
            "--initial-advertise-peer-urls {all:?} must be \"host:port\" ({error})"
        )));
    }
    if let Some((all, error)) = no_host(&url_list(settings, "advertise-client-urls")) {
        return Err(ConfigError::invalid(format!(
            "--advertise-client-urls {all:?} must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({error})"
        )));
    }
    for name in ["listen-peer-urls", "listen-client-urls"] {
        if url_list(settings, name).is_empty() {
            return Err(ConfigError::invalid(format!(
                "--{name} must name at least one URL"
            )));
        }
    }
    Ok(())
}

fn timing(settings: &Settings) -> Result<(), ConfigError> {
    let heartbeat = unsigned(settings, "heartbeat-interval");
    let election = unsigned(settings, "election-timeout");
    let text = if heartbeat == 0 {
        "--heartbeat-interval must be >0 (set to 0ms)".to_owned()
    } else if election == 0 {
        "--election-timeout must be >0 (set to 0ms)".to_owned()
    } else if heartbeat.saturating_mul(5) > election {
        format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        )
    } else if election > ELECTION_MS_MAX {
        format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_MS_MAX}ms"
        )
    } else {
        return Ok(());
    };
    Err(ConfigError::Invalid(text))
}

fn gates(text: &str, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    let mut gates = FeatureGates::default();
    gates.add(text).map_err(ConfigError::Invalid)?;
    let checkpoint = gates.enabled(FeatureGate::LeaseCheckpoint);
    let persist = gates.enabled(FeatureGate::LeaseCheckpointPersist);
    if persist && !checkpoint {
        return Err(ConfigError::invalid(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint",
        ));
    }
    if checkpoint && !persist {
        notices.push(Notice::LeaseCheckpointAlone);
    }
    Ok(())
}

fn tls(reader: &Reader<'_>) -> Result<(), ConfigError> {
    let (min, max) = (
        reader.text("tls-min-version"),
        reader.text("tls-max-version"),
    );
    let (oldest, newest) = (tls_version(&min)?, tls_version(&max)?);
    if newest.is_some() && oldest > newest {
        return Err(ConfigError::invalid(format!(
            "min version ({min}) is greater than max version ({max})"
        )));
    }
    let suites = reader.list("cipher-suites");
    if oldest == Some(TlsVersion::Tls13) && !suites.is_empty() {
        return Err(ConfigError::invalid(
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ));
    }
    Ok(())
}

fn url_list(settings: &Settings, name: &'static str) -> Vec<Url> {
    match settings.value(name) {
        Value::Urls(urls) => urls,
        other => panic!("flag {name} holds {other:?}, which is not of its kind"),
    }
}

fn unsigned(settings: &Settings, name: &'static str) -> u64 {
    match settings.value(name) {
        Value::Unsigned(number) => number,
        other => panic!("flag {name} holds {other:?}, which is not of its kind"),
    }
}

fn signed(settings: &Settings, name: &'static str) -> i64 {
    match settings.value(name) {
        Value::Signed(number) => number,
        other => panic!("flag {name} holds {other:?}, which is not of its kind"),
    }
}

fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

fn shown_duration(nanoseconds: i64) -> String {
    let text = format_duration(Duration::from_nanos(nanoseconds.unsigned_abs()));
    if nanoseconds < 0 {
        format!("-{text}")
    } else {
        text
    }
}
