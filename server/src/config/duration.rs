//! Durations as Go writes and reads them (`1h30m`, `100ms`, `1.5s`), since flags, variables and log
//! fields of etcd use that syntax.
//!
//! Pure. Invariants: what [`format_duration`] writes, [`parse_duration`] reads back to the same
//! value. Limits: a duration is a signed 64-bit count of nanoseconds, about 292 years.

use std::time::Duration;

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a Go duration; the result is in nanoseconds and may be negative.
///
/// # Errors
/// Go's own words for what is wrong, for instance `time: missing unit in duration "5"`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        let unit_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let nanoseconds = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, size)| *size);
        let Some(nanoseconds) = nanoseconds else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let part = scale(number, nanoseconds).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if negative { -total } else { total })
}

/// Writes a duration as Go does: `1h0m0s`, `100ms`, `1.5s`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < 1_000 {
        return format!("{nanoseconds}ns");
    }
    if nanoseconds < 1_000_000 {
        return format!("{}\u{b5}s", with_fraction(nanoseconds, 1_000));
    }
    if nanoseconds < 1_000_000_000 {
        return format!("{}ms", with_fraction(nanoseconds, 1_000_000));
    }
    let minutes = nanoseconds / 60_000_000_000;
    let seconds = with_fraction(nanoseconds % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Splits digits with at most one decimal point off the front.
fn split_number(text: &str) -> (&str, &str) {
    let mut seen_point = false;
    let end = text.find(|c: char| {
        if c == '.' && !seen_point {
            seen_point = true;
            return false;
        }
        !c.is_ascii_digit()
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// `number` (digits with an optional fraction) times `unit`, cut to whole nanoseconds.
fn scale(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(unit)?;
    let mut digit_value = unit / 10;
    for digit in fraction.bytes() {
        total = total.checked_add(i64::from(digit - b'0').checked_mul(digit_value)?)?;
        digit_value /= 10;
    }
    Some(total)
}

/// `value / unit` with as many decimals as it needs.
fn with_fraction(value: u128, unit: u128) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = unit.to_string().len() - 1;
    let padded = format!("{fraction:0digits$}");
    format!("{whole}.{}", padded.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("100ms", 100_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us", 3_000),
            ("3\u{b5}s", 3_000),
            ("1h15m30.918s", 4_530_918_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        let cases: &[(&str, &str)] = &[
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("-", "time: invalid duration \"-\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            ("3000000h", "time: invalid duration \"3000000h\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Err((*expected).to_owned()), "{text}");
        }
    }

    #[test]
    fn writes_as_go_writes() {
        let cases: &[(u64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (600_000_000_000, "10m0s"),
            (7_200_000_000_000, "2h0m0s"),
            (245_001_000_000, "4m5.001s"),
        ];
        for (nanoseconds, expected) in cases {
            let text = format_duration(Duration::from_nanos(*nanoseconds));
            assert_eq!(&text, expected);
            assert_eq!(
                parse_duration(&text),
                Ok(i64::try_from(*nanoseconds).unwrap())
            );
        }
    }
}
