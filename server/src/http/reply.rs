//! Replies as Go's net/http writes them, queries as it reads them, and JSON strings.

use std::fmt::Write;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A body of this type with status 200.
pub(super) fn ok(content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Plain text with status 200, as Go's sniffing would label it.
pub(super) fn plain(body: String) -> Response {
    ok(PLAIN, body)
}

/// Plain text that must not be sniffed, as the probes answer.
pub(super) fn probe(body: String) -> Response {
    let mut response = plain(body);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// Go's `http.Error`.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    let mut response = probe(format!("{text}\n"));
    *response.status_mut() = status;
    response
}

/// Go's mux for a path that nobody serves.
pub(super) fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// For everything but GET where only GET is served (HEAD included, as in etcd).
pub(super) fn only_get() -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The values of a query's key, decoded; a value that cannot be decoded is left out, as Go does.
pub(super) fn query_values(query: Option<&str>, key: &str) -> Vec<String> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'));
    let decoded = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name)?, decode(value)?))
    });
    decoded
        .filter(|(name, _)| name == key)
        .map(|(_, value)| value)
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A JSON string as Go's encoding/json writes it, with HTML characters escaped.
pub(super) fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("a string grows");
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let values = |query| query_values(Some(query), "exclude");
        assert_eq!(
            values("exclude=NOSPACE&x&exclude=a%20b+c&exclude"),
            ["NOSPACE", "a b c", ""]
        );
        assert_eq!(values("exclude=%zz&exclude=ok&exclude=a;b"), ["ok"]);
        assert!(query_values(None, "exclude").is_empty());
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(
            json_string("a\"\\\n<\u{1}"),
            "\"a\\\"\\\\\\n\\u003c\\u0001\""
        );
    }
}
