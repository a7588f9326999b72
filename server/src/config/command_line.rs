//! The command line, in the syntax of Go's flag package (contract 4.1).
//!
//! `-name v`, `--name v`, `-name=v`, `--name=v`; a boolean stands alone or has `=value`; reading
//! stops at the first word that is no flag; the last of several counts. clap cannot read this.
//! Pure. Invariants: none. Limits: those of the kernel on arguments.

use super::ConfigError;
use super::flags::{EXPERIMENTAL_GATES, Flag, Kind, find};
use super::notice::Notice;
use super::value::{Settings, Value, parse, parse_boolean};

/// What the command line said.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// `-h` or `--help` was met before anything wrong.
    Help,
    /// Flags and what was left after them.
    Flags {
        /// What was set.
        settings: Settings,
        /// The first word that is no flag, and all that follows.
        rest: Vec<String>,
    },
}

/// Reads the arguments after the name of the program.
///
/// # Errors
/// [`ConfigError::Usage`] with Go's words.
pub fn parse_arguments(
    arguments: &[String],
    notices: &mut Vec<Notice>,
) -> Result<Parsed, ConfigError> {
    let mut settings = Settings::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.as_slice().first() {
        let name = match argument.strip_prefix('-') {
            None | Some("") => break,
            Some("-") => {
                arguments.next();
                break;
            }
            Some(name) => name.strip_prefix('-').unwrap_or(name),
        };
        arguments.next();
        if name.is_empty() || name.starts_with(['-', '=']) {
            return Err(ConfigError::Usage(format!("bad flag syntax: {argument}")));
        }
        let (name, given) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        if name == "help" || name == "h" {
            return Ok(Parsed::Help);
        }
        if let Some((flag, value)) = experimental_gate(name, given)? {
            notices.push(Notice::Renamed {
                given: name.to_owned(),
                now: value.clone(),
            });
            settings.set(flag, Value::Text(value));
            continue;
        }
        let flag = lookup(name, notices)?;
        let value = match (given, flag.is_boolean()) {
            (Some(value), _) => value,
            (None, true) => "true",
            (None, false) => arguments
                .next()
                .map(String::as_str)
                .ok_or_else(|| ConfigError::Usage(format!("flag needs an argument: -{name}")))?,
        };
        let parsed = parse(flag.kind, value).map_err(|error| {
            ConfigError::Usage(match flag.kind {
                Kind::Boolean => format!("invalid boolean value {value:?} for -{name}: {error}"),
                _ => format!("invalid value {value:?} for flag -{name}: {error}"),
            })
        })?;
        settings.set(flag, parsed);
    }
    Ok(Parsed::Flags {
        settings,
        rest: arguments.cloned().collect(),
    })
}

/// The flag of this name; a name of etcd 3.5 that begins with `experimental-` leads to today's.
fn lookup(name: &str, notices: &mut Vec<Notice>) -> Result<&'static Flag, ConfigError> {
    if let Some(flag) = find(name) {
        return Ok(flag);
    }
    if let Some(flag) = name.strip_prefix("experimental-").and_then(find) {
        notices.push(Notice::Renamed {
            given: name.to_owned(),
            now: flag.name.to_owned(),
        });
        return Ok(flag);
    }
    Err(ConfigError::Usage(format!(
        "flag provided but not defined: -{name}"
    )))
}

/// The feature gate that an `--experimental-*` boolean has become, as text for `--feature-gates`.
fn experimental_gate(
    name: &str,
    given: Option<&str>,
) -> Result<Option<(&'static Flag, String)>, ConfigError> {
    let Some((_, gate)) = EXPERIMENTAL_GATES.iter().find(|(old, _)| *old == name) else {
        return Ok(None);
    };
    let value = given.unwrap_or("true");
    let on = parse_boolean(value).ok_or_else(|| {
        ConfigError::Usage(format!(
            "invalid boolean value {value:?} for -{name}: parse error"
        ))
    })?;
    let flag = find("feature-gates").expect("it stands in the table");
    Ok(Some((flag, format!("{gate}={on}"))))
}
