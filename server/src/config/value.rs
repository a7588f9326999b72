//! The values that flags take, and how Go reads them from text.
//!
//! Pure. Invariant: a [`Settings`] holds only values of the kind of their flag. Limits: none.

use std::collections::BTreeMap;

use super::flags::{Flag, Kind, find};
use super::{FeatureGates, Url, parse_duration};

/// A value as read from a flag, a variable or the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Text`], [`Kind::Choice`], [`Kind::Choices`], [`Kind::Gates`].
    Text(String),
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of [`Kind::Unsigned`], [`Kind::Unsigned32`].
    Unsigned(u64),
    /// Of [`Kind::Signed`]; of [`Kind::Duration`] in nanoseconds.
    Signed(i64),
    /// Of [`Kind::Urls`], sorted, each once.
    Urls(Vec<Url>),
    /// Of [`Kind::List`], [`Kind::Set`], [`Kind::Origins`].
    List(Vec<String>),
    /// Of [`Kind::Ignored`].
    Nothing,
}

/// What was set, by flag name. What was not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, Value>);

impl Settings {
    /// Sets a flag; the last value counts, but feature gates add up.
    pub fn set(&mut self, flag: &'static Flag, value: Value) {
        if let (Kind::Gates, Value::Text(more)) = (flag.kind, &value)
            && let Some(Value::Text(text)) = self.0.get_mut(flag.name)
        {
            text.push(',');
            text.push_str(more);
            return;
        }
        self.0.insert(flag.name, value);
    }

    /// Whether the flag was set.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a flag of the table, its default if it was not set.
    pub fn value(&self, name: &'static str) -> Value {
        if let Some(value) = self.0.get(name) {
            return value.clone();
        }
        let flag = find(name).expect("only names of the table are asked for");
        default_value(flag)
    }
}

/// The default of a flag.
pub fn default_value(flag: &Flag) -> Value {
    if flag.default.is_empty() && matches!(flag.kind, Kind::Urls | Kind::List | Kind::Set) {
        return match flag.kind {
            Kind::Urls => Value::Urls(Vec::new()),
            _ => Value::List(Vec::new()),
        };
    }
    if flag.default.is_empty() && matches!(flag.kind, Kind::Choices(_)) {
        return Value::Text(String::new());
    }
    parse(flag.kind, flag.default).expect("a test reads every default of the table")
}

/// Reads a value as a flag or a variable holds it.
///
/// # Errors
/// The words that Go's flag package, or etcd's value type, has for it.
pub fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Ignored => Ok(Value::Nothing),
        Kind::Boolean => parse_boolean(text)
            .map(Value::Boolean)
            .ok_or_else(|| "parse error".to_owned()),
        Kind::Unsigned => unsigned(text).map(Value::Unsigned),
        Kind::Unsigned32 => unsigned32(text).map(Value::Unsigned),
        Kind::Signed => signed(text).map(Value::Signed),
        Kind::Duration => parse_duration(text)
            .map(Value::Signed)
            .map_err(|_| "parse error".to_owned()),
        Kind::Urls if text.is_empty() => Ok(Value::Urls(Vec::new())),
        Kind::Urls => Url::parse_list(text).map(Value::Urls),
        Kind::Origins if text == "*" || text.is_empty() => Ok(Value::List(vec!["*".to_owned()])),
        Kind::Origins => {
            let urls = Url::parse_list(text)?;
            Ok(Value::List(urls.iter().map(Url::to_string).collect()))
        }
        Kind::List => Ok(Value::List(text.split(',').map(str::to_owned).collect())),
        Kind::Set => {
            let mut words: Vec<String> = text.split(',').map(str::to_owned).collect();
            words.sort();
            words.dedup();
            Ok(Value::List(words))
        }
        Kind::Choice(legal) => {
            if legal.contains(&text) {
                return Ok(Value::Text(text.to_owned()));
            }
            Err("invalid value".to_owned())
        }
        Kind::Choices(legal) => match text.split(',').find(|word| !legal.contains(word)) {
            None => Ok(Value::Text(text.to_owned())),
            Some(word) => Err(format!("invalid value {word:?}")),
        },
        Kind::Gates => {
            FeatureGates::default().add(text)?;
            Ok(Value::Text(text.to_owned()))
        }
    }
}

/// Go's `strconv.ParseBool`.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A number with an optional sign, read as Go reads it with base 0: `0x`, `0o`, `0b`, a leading
/// zero for octal, underscores between digits. `None` if it is none; the magnitude saturates.
pub fn parse_number(text: &str) -> Option<(bool, u128)> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, rest) = match (lower.get(..2), lower.len()) {
        (Some("0x"), _) => (16, lower.get(2..)?),
        (Some("0o"), _) => (8, lower.get(2..)?),
        (Some("0b"), _) => (2, lower.get(2..)?),
        (Some(start), 2..) if start.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    let prefixed = rest.len() != lower.len();
    let badly_placed = rest.ends_with('_') || rest.contains("__") || rest.is_empty();
    if badly_placed || (!prefixed && rest.starts_with('_')) {
        return None;
    }
    let mut magnitude: u128 = 0;
    for digit in rest.chars().filter(|c| *c != '_') {
        let digit = digit.to_digit(radix)?;
        magnitude = magnitude
            .saturating_mul(u128::from(radix))
            .saturating_add(u128::from(digit));
    }
    Some((negative, magnitude))
}

fn unsigned(text: &str) -> Result<u64, String> {
    match parse_number(text) {
        // Go's ParseUint knows no sign, not even a plus.
        Some((_, number)) if !text.starts_with(['-', '+']) => {
            u64::try_from(number).map_err(|_| "value out of range".to_owned())
        }
        _ => Err("parse error".to_owned()),
    }
}

fn signed(text: &str) -> Result<i64, String> {
    let (negative, magnitude) = parse_number(text).ok_or_else(|| "parse error".to_owned())?;
    let number = i128::try_from(magnitude)
        .ok()
        .map(|n| if negative { -n } else { n });
    number
        .and_then(|n| i64::try_from(n).ok())
        .ok_or_else(|| "value out of range".to_owned())
}

/// etcd's own type, which shows the words of `strconv`.
fn unsigned32(text: &str) -> Result<u64, String> {
    let failed = |why: &str| Err(format!("strconv.ParseUint: parsing {text:?}: {why}"));
    let syntax = text.starts_with(['-', '+']);
    match parse_number(text) {
        Some((false, number)) if !syntax => match u32::try_from(number) {
            Ok(number) => Ok(u64::from(number)),
            Err(_) => failed("value out of range"),
        },
        _ => failed("invalid syntax"),
    }
}
