//! The `--log-*` flags as a [`LogConfig`].
//!
//! Pure. Invariants: those of [`LogConfig`]. Limits: none.

use super::assemble::Reader;
use super::types::{ConfigError, LogConfig, LogFormat, LogLevel, LogOutput, LogRotation};
use super::yaml::{Node, parse_document};

/// etcd's default size of a log file, in MiB, before it is moved aside.
const ROTATION_MIB_DEFAULT: u64 = 100;

/// Reads and checks the flags.
///
/// # Errors
/// [`ConfigError::Invalid`], with etcd's words where etcd refuses too.
pub fn read(reader: &Reader<'_>) -> Result<LogConfig, ConfigError> {
    match reader.text("logger").as_str() {
        "zap" => {}
        "capnslog" => return Err(ConfigError::invalid("--logger=capnslog is removed in v3.5")),
        other => {
            return Err(ConfigError::invalid(format!(
                "unknown logger option {other:?}"
            )));
        }
    }
    let mut names = reader.list("log-outputs");
    if names.is_empty() {
        names.push("default".to_owned());
    }
    if names.len() > 1 && names.iter().any(|name| name == "default") {
        return Err(ConfigError::invalid(
            "multi logoutput for \"default\" is not supported yet",
        ));
    }
    let outputs: Vec<LogOutput> = names.iter().map(|name| output(name)).collect();
    if outputs.len() > 1 && outputs.contains(&LogOutput::Journal) {
        return Err(ConfigError::invalid(format!(
            "running with systemd/journal but other '--log-outputs' values ({names:?}) are \
             configured with 'default'; override 'default' value with something else"
        )));
    }
    let rotation = match reader.boolean("enable-log-rotation") {
        false => None,
        true => Some(rotation(
            &outputs,
            &reader.text("log-rotation-config-json"),
        )?),
    };
    Ok(LogConfig {
        level: level(&reader.text("log-level"))?,
        outputs,
        format: format(&reader.text("log-format"))?,
        rotation,
    })
}

fn output(name: &str) -> LogOutput {
    match name {
        "default" | "stderr" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "systemd/journal" => LogOutput::Journal,
        path => LogOutput::File(path.into()),
    }
}

fn level(text: &str) -> Result<LogLevel, ConfigError> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(LogLevel::Debug),
        "info" | "" => Ok(LogLevel::Info),
        "warn" => Ok(LogLevel::Warn),
        "error" => Ok(LogLevel::Error),
        "dpanic" | "panic" | "fatal" => Ok(LogLevel::Fatal),
        _ => Err(ConfigError::invalid(format!(
            "unrecognized level: {text:?}"
        ))),
    }
}

fn format(text: &str) -> Result<LogFormat, ConfigError> {
    match text {
        "json" | "" => Ok(LogFormat::Json),
        "console" => Ok(LogFormat::Console),
        _ => Err(ConfigError::invalid(format!(
            "unknown log format: {text}, supported values json, console"
        ))),
    }
}

fn rotation(outputs: &[LogOutput], json: &str) -> Result<LogRotation, ConfigError> {
    let files = outputs
        .iter()
        .filter(|output| matches!(output, LogOutput::File(_)))
        .count();
    if files != 1 {
        return Err(ConfigError::invalid(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ));
    }
    let bad = |why: String| {
        ConfigError::invalid(format!("improperly formatted log rotation config: {why}"))
    };
    let Some(Node::Mapping(pairs)) = parse_document(json).map_err(bad)? else {
        return Err(bad("a JSON object is expected".to_owned()));
    };
    let number = |name: &str| match pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        None => Ok(0),
        Some((_, Node::Scalar { text, plain: true })) => text
            .parse::<u64>()
            .map_err(|_| ConfigError::invalid(format!("invalid log rotation config: {name}"))),
        Some(_) => Err(ConfigError::invalid(format!(
            "invalid log rotation config: {name}"
        ))),
    };
    let some = |count: u64| (count > 0).then_some(count);
    Ok(LogRotation {
        max_size_mib: some(number("maxsize")?).unwrap_or(ROTATION_MIB_DEFAULT),
        max_age_days: some(number("maxage")?),
        max_backups: some(number("maxbackups")?).and_then(|count| usize::try_from(count).ok()),
    })
}
