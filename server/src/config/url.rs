//! The URLs of etcd's flags: `http`, `https`, `unix` or `unixs`, an address and nothing else.
//!
//! Pure. Invariant: an `http` or `https` URL has a host and a port and no path. Limits: none.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The schemes etcd knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP without TLS.
    Http,
    /// TCP with TLS.
    Https,
    /// A unix socket without TLS.
    Unix,
    /// A unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// As written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }

    /// Whether connections speak TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// Whether the address is a unix socket.
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

/// One URL of a flag. Ordered by its text, as etcd orders its lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: Scheme,
    /// Of `http` and `https`: the host without brackets. Of unix sockets: the path.
    host: String,
    port: u16,
}

impl Url {
    /// Reads one URL.
    ///
    /// # Errors
    /// etcd's (or Go's) own words for what is wrong.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let Some((scheme, rest)) = split_scheme(text) else {
            return Err(unparsable(text));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => {
                return Err(format!(
                    "URL scheme must be http, https, unix, or unixs: {text}"
                ));
            }
        };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        if scheme.is_unix() {
            let text = format!("{}:{}{rest}", scheme.as_str(), authority_mark(text));
            return Ok(Url {
                text,
                scheme,
                host: rest.to_owned(),
                port: 0,
            });
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_host_port(authority)
            .ok_or_else(|| format!("URL address does not have the form \"host:port\": {text}"))?;
        let port = match port {
            "" => 0,
            digits => digits.parse().map_err(|_| {
                format!(
                    "parse {text:?}: invalid port {:?} after host",
                    format!(":{digits}")
                )
            })?,
        };
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let text = format!("{}://{authority}", scheme.as_str());
        Ok(Url {
            text,
            scheme,
            host: host.to_owned(),
            port,
        })
    }

    /// Reads a list divided by commas, sorted as etcd sorts it, each URL once.
    ///
    /// # Errors
    /// Those of [`Url::parse`].
    pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        let mut urls = text
            .split(',')
            .map(Url::parse)
            .collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// An `http` or `https` URL from its parts.
    pub fn from_address(scheme: Scheme, address: SocketAddr) -> Url {
        assert!(!scheme.is_unix(), "a unix socket has no IP address");
        Url {
            text: format!("{}://{address}", scheme.as_str()),
            scheme,
            host: address.ip().to_string(),
            port: address.port(),
        }
    }

    /// As given, with the scheme in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host of an `http` or `https` URL, IPv6 without brackets; of a unix socket its path.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 asks the kernel for one. 0 for unix sockets.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of a unix socket (`unix://name:1` is a file `name:1` in the current directory).
    pub fn unix_path(&self) -> Option<PathBuf> {
        self.scheme.is_unix().then(|| PathBuf::from(&self.host))
    }

    /// The address to listen on; `localhost` is 127.0.0.1, as Go resolves it. `None` for unix
    /// sockets and for other host names, which no list to listen on ever holds.
    pub fn listen_address(&self) -> Option<SocketAddr> {
        if self.scheme.is_unix() {
            return None;
        }
        if self.host == "localhost" {
            return Some(SocketAddr::from(([127, 0, 0, 1], self.port)));
        }
        self.host
            .parse::<IpAddr>()
            .ok()
            .map(|address| SocketAddr::new(address, self.port))
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

/// Splits a scheme off, if there is one as Go understands it.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let starts_with_letter = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (starts_with_letter && scheme.chars().all(legal)).then_some((scheme, rest))
}

/// What Go says of a text without a scheme.
fn unparsable(text: &str) -> String {
    if text.starts_with(':') {
        return format!("parse {text:?}: missing protocol scheme");
    }
    let first_segment = text.split('/').next().unwrap_or_default();
    if first_segment.contains(':') {
        return format!("parse {text:?}: first path segment in URL cannot contain colon");
    }
    format!("URL scheme must be http, https, unix, or unixs: {text}")
}

/// `//` if the text has an authority, as `unix://a` and unlike `unix:/a`.
fn authority_mark(text: &str) -> &'static str {
    if text
        .split_once(':')
        .is_some_and(|(_, rest)| rest.starts_with("//"))
    {
        "//"
    } else {
        ""
    }
}

/// Splits `host:port` or `[host]:port`, without judging either.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = authority.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls() {
        let cases: &[(&str, Scheme, &str, u16)] = &[
            ("http://localhost:2379", Scheme::Http, "localhost", 2379),
            ("https://10.0.0.1:0", Scheme::Https, "10.0.0.1", 0),
            ("HTTP://[::1]:2379", Scheme::Http, "::1", 2379),
            (" http://a:1 ", Scheme::Http, "a", 1),
            ("unix:///run/etcd.sock", Scheme::Unix, "/run/etcd.sock", 0),
            ("unix:/run/etcd.sock", Scheme::Unix, "/run/etcd.sock", 0),
            ("unixs://localhost:m0", Scheme::Unixs, "localhost:m0", 0),
        ];
        for (text, scheme, host, port) in cases {
            let url = Url::parse(text).expect(text);
            assert_eq!(
                (url.scheme(), url.host(), url.port()),
                (*scheme, *host, *port),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_urls_get_the_words_of_etcd() {
        let cases: &[(&str, &str)] = &[
            ("", "URL scheme must be http, https, unix, or unixs: "),
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (":2379", "parse \":2379\": missing protocol scheme"),
            (
                "ftp://a:1",
                "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            ),
            (
                "http://a",
                "URL address does not have the form \"host:port\": http://a",
            ),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            (
                "http://a:x",
                "parse \"http://a:x\": invalid port \":x\" after host",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Url::parse(text), Err((*expected).to_owned()), "{text}");
        }
    }

    #[test]
    fn lists_are_sorted_and_hold_each_url_once() {
        let urls = Url::parse_list("http://b:1,http://a:1,http://b:1").unwrap();
        let texts: Vec<&str> = urls.iter().map(Url::as_str).collect();
        assert_eq!(texts, ["http://a:1", "http://b:1"]);
    }

    #[test]
    fn addresses_to_listen_on() {
        let address = |text: &str| Url::parse(text).unwrap().listen_address();
        assert_eq!(
            address("http://localhost:7"),
            Some("127.0.0.1:7".parse().unwrap())
        );
        assert_eq!(address("http://[::]:7"), Some("[::]:7".parse().unwrap()));
        assert_eq!(address("http://example.org:7"), None);
        assert_eq!(address("unix:///a"), None);
    }
}
