//! Listen addresses: what a listen URL means to the kernel (contract 3.3, 4.1).
//!
//! Invariant: an address holds no path but that of a unix socket, and an IP or `localhost` as its host.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::NetError;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A TCP port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(formatter),
            Address::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// A listen URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// Where to listen.
    pub address: Address,
    /// `https` or `unixs`.
    pub secure: bool,
    /// As it was written, for messages.
    pub text: String,
}

impl ListenUrl {
    /// Parses `http://IP:PORT`, `https://`, `unix://PATH` and `unixs://PATH`. Errors: another scheme, a host name other
    /// than `localhost`, no port, a path on a TCP address.
    pub fn parse(text: &str) -> Result<ListenUrl, NetError> {
        let refuse = |cause: &str| NetError::Url { url: text.to_owned(), cause: cause.to_owned() };
        let (scheme, rest) =
            text.trim().split_once("://").ok_or_else(|| refuse("a listen URL begins with http://, https://, unix:// or unixs://"))?;
        let secure = matches!(scheme, "https" | "unixs");
        let address = match scheme {
            "http" | "https" => Address::Tcp(tcp_address(rest).map_err(|cause| refuse(&cause))?),
            "unix" | "unixs" if !rest.is_empty() => Address::Unix(PathBuf::from(rest)),
            "unix" | "unixs" => return Err(refuse("a unix URL names a file")),
            _ => return Err(refuse("URL scheme must be http, https, unix, or unixs")),
        };
        Ok(ListenUrl { address, secure, text: text.trim().to_owned() })
    }
}

fn tcp_address(rest: &str) -> Result<SocketAddr, String> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('/') {
        return Err("URL must not contain a path".to_owned());
    }
    let (host, port) = authority.rsplit_once(':').ok_or("URL address does not have the form \"host:port\"")?;
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    if host == "localhost" {
        return localhost(port);
    }
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let ip: IpAddr = if bare.is_empty() {
        IpAddr::from([0_u8; 16])
    } else {
        bare.parse().map_err(|_| format!("expected IP in URL for binding ({host})"))?
    };
    Ok(SocketAddr::new(ip, port))
}

/// Go listens on the IPv4 address of `localhost` when there is one.
fn localhost(port: u16) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> =
        ("localhost", port).to_socket_addrs().map_err(|error| format!("cannot resolve localhost: {error}"))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first());
    first.copied().ok_or_else(|| "localhost has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_parses() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        let url = |text: &str| ListenUrl::parse(text).unwrap();
        assert_eq!(url("http://127.0.0.1:2379").address, tcp("127.0.0.1:2379"));
        assert_eq!(url("http://localhost:2379").address, tcp("127.0.0.1:2379"));
        assert_eq!(url("https://[::1]:2379/").address, tcp("[::1]:2379"));
        assert!(url("https://0.0.0.0:1").secure);
        assert!(!url("unix:///run/etcd.sock").secure);
        assert_eq!(url("unixs:///run/etcd.sock").address, Address::Unix("/run/etcd.sock".into()));
        assert_eq!(url("unix://localhost:m1").address, Address::Unix("localhost:m1".into()));
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        for text in ["127.0.0.1:2379", "ftp://127.0.0.1:1", "http://127.0.0.1", "http://127.0.0.1:x", "unix://"] {
            assert!(ListenUrl::parse(text).is_err(), "{text}");
        }
        let name = ListenUrl::parse("http://example.com:2379").unwrap_err().to_string();
        assert!(name.contains("expected IP in URL for binding (example.com)"), "{name}");
        let path = ListenUrl::parse("http://127.0.0.1:2379/x").unwrap_err().to_string();
        assert!(path.contains("path"), "{path}");
    }
}
