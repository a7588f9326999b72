//! What a listen URL means to the kernel (contract 3.3).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Url;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The address of a URL; None for a host name that is no address.
    pub fn of(url: &Url) -> Option<Address> {
        let unix = url.unix_path().map(Address::Unix);
        unix.or_else(|| url.listen_address().map(Address::Tcp))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(formatter),
            Address::Unix(path) => path.display().fmt(formatter),
        }
    }
}
