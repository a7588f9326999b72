//! The configuration file of `--config-file` (contract 4.1): YAML or JSON with etcd's keys.
//!
//! Keys are flag names (in any case, as Go's decoder has it) but for the nested ones; durations are
//! whole nanoseconds; a value of another type is an error; unknown keys are noticed and ignored.
//! Invariants: none. Limits: [`FILE_BYTES_MAX`].

use std::io::Read;

use super::ConfigError;
use super::flags::{Flag, Kind, find};
use super::notice::Notice;
use super::value::{Settings, Value, parse, parse_number};
use super::yaml::{Node, parse_document};

/// A configuration is a page of text; more than this is another file by mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads the file into settings.
///
/// # Errors
/// [`ConfigError::Invalid`] with the path and the key.
pub fn load(path: &str, notices: &mut Vec<Notice>) -> Result<Settings, ConfigError> {
    let text = read(path).map_err(|error| ConfigError::invalid(format!("open {path}: {error}")))?;
    let settings = parse_file(&text, notices)
        .map_err(|error| ConfigError::invalid(format!("{path}: {error}")))?;
    notices.push(Notice::FileLoaded {
        path: path.to_owned(),
    });
    Ok(settings)
}

fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(std::io::Error::other(format!(
            "longer than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// Reads the text of a file.
fn parse_file(text: &str, notices: &mut Vec<Notice>) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let pairs = match parse_document(text)? {
        None => return Ok(settings),
        Some(Node::Mapping(pairs)) => pairs,
        Some(node) if node.is_null() => return Ok(settings),
        Some(node) => {
            return Err(format!(
                "keys and values expected, found {}",
                node.describe()
            ));
        }
    };
    for (key, node) in &pairs {
        set_key(&mut settings, "", key, node, notices)?;
    }
    Ok(settings)
}

/// Sets what one key says; `group` is the nested key it stands in, with a dot, or nothing.
fn set_key(
    settings: &mut Settings,
    group: &str,
    key: &str,
    node: &Node,
    notices: &mut Vec<Notice>,
) -> Result<(), String> {
    let full = format!("{group}{key}").to_ascii_lowercase();
    if node.is_null() {
        return Ok(());
    }
    if is_group(&full) {
        let Node::Mapping(pairs) = node else {
            return Err(format!(
                "{full}: keys and values expected, found {}",
                node.describe()
            ));
        };
        for (key, node) in pairs {
            set_key(settings, &format!("{full}."), key, node, notices)?;
        }
        return Ok(());
    }
    let Some((flag, kind)) = flag_of_key(&full) else {
        notices.push(Notice::UnknownKey { key: full });
        return Ok(());
    };
    if let Some(value) = convert(kind, node).map_err(|error| format!("{full}: {error}"))? {
        settings.set(flag, value);
    }
    Ok(())
}

fn is_group(key: &str) -> bool {
    const GROUPS: [&str; 7] = [
        "client-transport-security",
        "peer-transport-security",
        "socket-options",
        "discovery-config",
        "discovery-config.client",
        "discovery-config.client.secure",
        "discovery-config.client.auth",
    ];
    GROUPS.contains(&key)
}

/// The flag that a key sets, and the kind it has in the file.
fn flag_of_key(key: &str) -> Option<(&'static Flag, Kind)> {
    let Some((group, word)) = key.rsplit_once('.') else {
        let only_nested = [
            "cert-file",
            "key-file",
            "client-cert-file",
            "client-key-file",
            "client-cert-auth",
            "trusted-ca-file",
            "auto-tls",
            "socket-reuse-port",
            "socket-reuse-address",
            "config-file",
            "version",
        ];
        let flag = find(key)?;
        let nested = only_nested.contains(&key.strip_prefix("peer-").unwrap_or(key))
            || key.ends_with("-crl-file")
            || key.contains("-cert-allowed-")
            || key == "peer-skip-client-san-verification"
            || (key.starts_with("discovery-") && !key.starts_with("discovery-srv"));
        let ignored = matches!(flag.kind, Kind::Ignored);
        let kind = if key == "log-outputs" {
            Kind::List
        } else {
            flag.kind
        };
        return (!nested && !ignored).then_some((flag, kind));
    };
    let name = match (group, word) {
        ("client-transport-security", "allowed-hostname") => {
            "client-cert-allowed-hostname".to_owned()
        }
        ("peer-transport-security", "allowed-cn") => "peer-cert-allowed-cn".to_owned(),
        ("peer-transport-security", "allowed-hostname") => "peer-cert-allowed-hostname".to_owned(),
        (
            "client-transport-security",
            "cert-file" | "key-file" | "client-cert-file" | "client-key-file" | "client-cert-auth"
            | "trusted-ca-file" | "auto-tls",
        ) => word.to_owned(),
        (
            "peer-transport-security",
            "cert-file"
            | "key-file"
            | "client-cert-file"
            | "client-key-file"
            | "client-cert-auth"
            | "trusted-ca-file"
            | "auto-tls"
            | "skip-client-san-verification",
        ) => format!("peer-{word}"),
        ("socket-options", _) => format!("socket-{word}"),
        ("discovery-config" | "discovery-config.client" | "discovery-config.client.secure", _) => {
            format!("discovery-{word}")
        }
        ("discovery-config.client.auth", "username") => "discovery-user".to_owned(),
        ("discovery-config.client.auth", "password") => "discovery-password".to_owned(),
        _ => return None,
    };
    let flag = find(&name)?;
    let kind = if flag.kind == Kind::Set {
        Kind::List
    } else {
        flag.kind
    };
    Some((flag, kind))
}

/// Reads a node as a value; `None` when the key says nothing (an empty list of URLs).
fn convert(kind: Kind, node: &Node) -> Result<Option<Value>, String> {
    let expected = |what: &str| Err(format!("{what} expected, found {}", node.describe()));
    if kind == Kind::List {
        let Node::Sequence(items) = node else {
            return expected("a list of texts");
        };
        let texts: Result<Vec<String>, String> = items.iter().map(text_of).collect();
        return Ok(Some(Value::List(texts?)));
    }
    let Node::Scalar { text, plain } = node else {
        return expected("one value");
    };
    match kind {
        Kind::Boolean => match (plain, boolean(text)) {
            (true, Some(value)) => Ok(Some(Value::Boolean(value))),
            _ => expected("true or false"),
        },
        Kind::Unsigned | Kind::Unsigned32 => {
            let limit = if kind == Kind::Unsigned {
                u64::MAX
            } else {
                u64::from(u32::MAX)
            };
            match whole_number(text)
                .filter(|_| *plain)
                .and_then(|n| u64::try_from(n).ok())
            {
                Some(number) if number <= limit => Ok(Some(Value::Unsigned(number))),
                _ => expected(&format!("a whole number from 0 to {limit}")),
            }
        }
        Kind::Signed | Kind::Duration => {
            let number = whole_number(text)
                .filter(|_| *plain)
                .and_then(|n| i64::try_from(n).ok());
            match number {
                Some(number) => Ok(Some(Value::Signed(number))),
                None if kind == Kind::Signed => expected("a whole number"),
                None => expected("a duration as a whole number of nanoseconds (5s is 5000000000)"),
            }
        }
        _ => {
            let text = text_of(node)?;
            let empty_means_default = !matches!(kind, Kind::Text);
            if text.is_empty() && empty_means_default {
                return Ok(None);
            }
            parse(kind, &text).map(Some)
        }
    }
}

/// A text; a number or a boolean without quotes is none, as in etcd.
fn text_of(node: &Node) -> Result<String, String> {
    match node {
        Node::Scalar { text, plain } => {
            let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            let number = numeric && (text.parse::<f64>().is_ok() || whole_number(text).is_some());
            if *plain && (number || boolean(text).is_some()) {
                return Err(format!("text expected, found {text}; put it in quotes"));
            }
            Ok(text.clone())
        }
        _ => Err(format!("text expected, found {}", node.describe())),
    }
}

/// The booleans of YAML 1.1, which etcd reads.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// A whole number as YAML 1.1 writes it; `1e6` and `5.0` are whole numbers for a JSON decoder too.
fn whole_number(text: &str) -> Option<i128> {
    if let Some((negative, magnitude)) = parse_number(text) {
        let magnitude = i128::try_from(magnitude).ok()?;
        return Some(if negative { -magnitude } else { magnitude });
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !fraction.bytes().all(|digit| digit == b'0') || exponent.starts_with('-') {
        return None;
    }
    let scale = 10_i128.checked_pow(exponent.trim_start_matches('+').parse().ok()?)?;
    whole.parse::<i128>().ok()?.checked_mul(scale)
}
