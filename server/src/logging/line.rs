//! How an event becomes a line.
//!
//! Pure but for the clock. Invariant: a line holds no raw control character, so one event is one
//! line. Limits: none.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// Writes events as JSON objects or as columns.
#[derive(Debug)]
pub struct Lines {
    format: LogFormat,
}

impl Lines {
    /// Lines of this format.
    pub fn new(format: LogFormat) -> Lines {
        Lines { format }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line {
            time: timestamp(SystemTime::now()),
            level: level_name(metadata.target(), *metadata.level()),
            caller: caller(metadata.file(), metadata.line()),
            fields,
        };
        writer.write_str(&line.write(self.format))
    }
}

struct Line {
    time: String,
    level: &'static str,
    caller: String,
    fields: Fields,
}

impl Line {
    fn write(&self, format: LogFormat) -> String {
        let mut text = String::new();
        let Fields { message, json } = &self.fields;
        match format {
            LogFormat::Json => {
                text.push_str("{\"level\":\"");
                text.push_str(self.level);
                text.push_str("\",\"ts\":\"");
                text.push_str(&self.time);
                text.push_str("\",\"caller\":");
                push_json_text(&mut text, &self.caller);
                text.push_str(",\"msg\":");
                push_json_text(&mut text, message);
                if !json.is_empty() {
                    text.push(',');
                    text.push_str(json);
                }
                text.push('}');
            }
            LogFormat::Console => {
                let message = message.replace(|c: char| c.is_control(), " ");
                for part in [&self.time, self.level, &self.caller, &message] {
                    text.push_str(part);
                    text.push('\t');
                }
                if json.is_empty() {
                    text.pop();
                } else {
                    text.push('{');
                    text.push_str(json);
                    text.push('}');
                }
            }
        }
        text.push('\n');
        text
    }
}

/// The message, and all other fields as the inside of a JSON object.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
}

impl Fields {
    fn push(&mut self, field: &Field, write_value: impl FnOnce(&mut String)) {
        if !self.json.is_empty() {
            self.json.push(',');
        }
        push_json_text(&mut self.json, &field.name().replace('_', "-"));
        self.json.push(':');
        write_value(&mut self.json);
    }

    fn push_text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = text.to_owned();
            return;
        }
        self.push(field, |json| push_json_text(json, text));
    }

    fn push_bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.push(field, |json| push_display(json, value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.push_bare(field, value);
        } else {
            self.push_text(field, &value.to_string());
        }
    }
}

/// The level as zap writes it.
fn level_name(target: &str, level: Level) -> &'static str {
    match level {
        _ if target == super::FATAL => "fatal",
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The place in the source: the path below `src`, or the last two parts of it.
fn caller(file: Option<&str>, line: Option<u32>) -> String {
    let file = file.unwrap_or("unknown");
    let (before, below) = file.rsplit_once("src/").unwrap_or(("", file));
    let crate_name = before
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let path = match below.contains('/') || crate_name.is_empty() {
        true => below.to_owned(),
        false => format!("{crate_name}/{below}"),
    };
    format!("{path}:{}", line.unwrap_or(0))
}

/// `2026-11-21T01:02:03.000004Z`: UTC with microseconds, as etcd writes it in UTC.
pub(super) fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The Gregorian date of a day counted from 1970-01-01. Counts in eras of 400 years that begin on
/// the first of March, so that the leap day is the last of a year.
fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let first_day = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
    let day_of_year = day_of_era - first_day;
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year_of_era + next_year, month, day)
}

fn push_display(out: &mut String, value: impl fmt::Display) {
    write!(out, "{value}").expect("writing to a String cannot fail");
}

/// Appends a JSON string in quotes.
fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => push_display(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_utc_with_microseconds() {
        let cases: &[(u64, u32, &str)] = &[
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 5_000, "2000-02-29T00:00:00.000005Z"),
            (1_709_251_199, 999_999_000, "2024-02-29T23:59:59.999999Z"),
            (1_795_224_080, 0, "2026-11-21T01:21:20.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ];
        for (seconds, nanos, expected) in cases {
            let time = UNIX_EPOCH + Duration::new(*seconds, *nanos);
            assert_eq!(&timestamp(time), expected);
        }
    }

    fn line() -> Line {
        let fields = Fields {
            message: "a \"b\"\n\u{1}".to_owned(),
            json: "\"n\":1".to_owned(),
        };
        Line {
            time: "T".to_owned(),
            level: "info",
            caller: "c:1".to_owned(),
            fields,
        }
    }

    #[test]
    fn one_event_is_one_line() {
        assert_eq!(
            line().write(LogFormat::Json),
            "{\"level\":\"info\",\"ts\":\"T\",\"caller\":\"c:1\",\
             \"msg\":\"a \\\"b\\\"\\n\\u0001\",\"n\":1}\n"
        );
        assert_eq!(
            line().write(LogFormat::Console),
            "T\tinfo\tc:1\ta \"b\"  \t{\"n\":1}\n"
        );
    }

    #[test]
    fn callers_are_short() {
        assert_eq!(
            caller(Some("server/src/config/notice.rs"), Some(7)),
            "config/notice.rs:7"
        );
        assert_eq!(
            caller(Some("/a/server/src/cli.rs"), Some(7)),
            "server/cli.rs:7"
        );
        assert_eq!(caller(None, None), "unknown:0");
    }
}
