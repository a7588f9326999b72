//! The `ETCD_*` variables (contract 4.1).
//!
//! A variable counts when its flag was not given and it is not empty; a flag and its variable
//! together are refused, even when the variable is empty; unknown ones are only noticed, since
//! Kubernetes and others put variables of that prefix into every container.
//! Pure: the environment is an argument. Invariants, limits: none.

use super::ConfigError;
use super::flags::all;
use super::notice::Notice;
use super::value::{Settings, parse};

/// One variable: name and value.
pub type Variable = (String, String);

/// Adds the variables to what the command line set.
///
/// # Errors
/// [`ConfigError::Shadowed`], or [`ConfigError::Invalid`] with etcd's words.
pub fn apply(
    settings: &mut Settings,
    environment: &[Variable],
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    let mut failure = None;
    let given = settings.clone();
    // etcd goes through the flags by name, and the last failure is the one it shows.
    let mut flags: Vec<_> = all().filter(|flag| flag.name != "version").collect();
    flags.sort_by_key(|flag| flag.name);
    let mut used = Vec::new();
    for flag in flags {
        let name = flag.variable();
        let Some(value) = lookup(environment, &name) else {
            continue;
        };
        if given.is_set(flag.name) {
            return Err(ConfigError::Shadowed { variable: name });
        }
        used.push(name.clone());
        if value.is_empty() {
            continue;
        }
        match parse(flag.kind, value) {
            Ok(parsed) => {
                settings.set(flag, parsed);
                notices.push(Notice::VariableUsed {
                    name,
                    value: value.to_owned(),
                });
            }
            Err(error) => failure = Some(format!("invalid value {value:?} for {name}: {error}")),
        }
    }
    for (name, value) in environment
        .iter()
        .filter(|(name, _)| name.starts_with("ETCD_"))
    {
        match name.as_str() {
            "ETCD_VERSION" if !value.is_empty() => {
                notices.push(Notice::VariableSpecial {
                    name: name.clone(),
                    value: value.clone(),
                });
            }
            "ETCD_VERSION" | "ETCD_UNSUPPORTED_ARCH" => {}
            _ if used.contains(name) => {}
            _ => notices.push(Notice::VariableUnknown { name: name.clone() }),
        }
    }
    failure.map_or(Ok(()), |text| Err(ConfigError::Invalid(text)))
}

/// The value of a variable.
pub fn lookup<'a>(environment: &'a [Variable], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}
