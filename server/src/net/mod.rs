//! Listeners and connections (contract 1.17, 3.2, 3.3; architecture section 2, idea 6).
//!
//! Every listen URL is bound at start, so that a taken port ends the start-up; nothing is accepted
//! before `serve`. One port speaks gRPC and HTTP, over HTTP/1.1 and HTTP/2, plain or TLS or both
//! (told apart by the first byte).
//!
//! Runs on the I/O runtime whose thread calls `ListenerGroup::serve`; handshakes run on a thread of
//! their own. Invariants: no more connections than the group's limit; once `serve` returned, none
//! is left. Limits: `limits.rs`.

pub mod descriptors;
pub mod limits;

mod accept;
mod address;
mod connection;
mod gather;
mod handshake;
mod options;
mod peer_info;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

pub use accept::ListenerGroup;
pub use address::Address;
pub use connection::{ConnectionOptions, Serve};
pub use options::ListenOptions;
pub use peer_info::PeerInfo;
pub use socket::SocketOptions;

use crate::config::Url;
use crate::tls::{ServerTls, TlsError};
use handshake::Handshakes;
use socket::Bound;

/// Why listening failed. Each ends the start-up.
#[derive(Debug)]
pub enum NetError {
    /// A listen URL cannot be understood.
    Url {
        /// As it was written.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The address is taken, not ours, or not permitted.
    Bind {
        /// As it was written.
        url: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// `https` or `unixs` without a certificate.
    NoCertificate {
        /// As it was written.
        url: String,
        /// `client`, `metrics` or `peer`.
        purpose: &'static str,
    },
    /// Plain and TLS on one unix socket, which we do not tell apart.
    SharedUnixSocket {
        /// The second of the two, as it was written.
        url: String,
    },
    /// A certificate, key or CA file is not usable.
    Tls(TlsError),
    /// `RESERVED_FILE_DESCRIPTORS` or fewer may be open.
    DescriptorLimit {
        /// The soft limit on open files.
        limit: u64,
    },
    /// The handshake thread could not be started.
    Thread(io::Error),
}

impl std::fmt::Display for NetError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NetError::Url { url, cause } => write!(formatter, "cannot listen on {url:?}: {cause}"),
            NetError::Bind { url, source } => write!(formatter, "cannot listen on {url}: {source}"),
            NetError::NoCertificate { url, purpose } => write!(
                formatter,
                "TLS key/cert (--cert-file, --key-file) must be provided for {purpose} url {url} with HTTPS scheme"
            ),
            NetError::SharedUnixSocket { url } => {
                write!(
                    formatter,
                    "{url}: unix and unixs cannot share one socket file"
                )
            }
            NetError::Tls(error) => error.fmt(formatter),
            NetError::DescriptorLimit { limit } => write!(
                formatter,
                "file descriptor limit of {limit} is too low; more than {} are needed",
                limits::RESERVED_FILE_DESCRIPTORS
            ),
            NetError::Thread(error) => write!(formatter, "cannot start the TLS thread: {error}"),
        }
    }
}

impl std::error::Error for NetError {}

impl From<TlsError> for NetError {
    fn from(error: TlsError) -> Self {
        NetError::Tls(error)
    }
}

/// Everything bound, nothing served yet.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC, and HTTP unless `client_http` has listeners of its own.
    pub client: ListenerGroup,
    /// `--listen-client-http-urls`; empty by default.
    pub client_http: ListenerGroup,
    /// `--listen-metrics-urls`; served as soon as it is bound.
    pub metrics: ListenerGroup,
    /// `--listen-peer-urls`.
    pub peer: ListenerGroup,
}

impl Listeners {
    /// Binds every URL. Needs no runtime. Errors: any URL that cannot be bound, any file that TLS
    /// needs.
    pub fn bind(options: &ListenOptions) -> Result<Listeners, NetError> {
        let client_tls = options
            .client_tls
            .as_ref()
            .map(ServerTls::open)
            .transpose()?;
        let peer_tls = options.peer_tls.as_ref().map(ServerTls::open).transpose()?;
        let secure = client_tls.is_some() || peer_tls.is_some();
        let handshakes = secure
            .then(Handshakes::start)
            .transpose()
            .map_err(NetError::Thread)?;
        let clients = client_connections_max(descriptors::limit())?;
        let group = |urls: &[Url], tls: &Option<Arc<ServerTls>>, limit, purpose| {
            let bound = bind_group(urls, tls, options.socket, purpose)?;
            let tls = tls.clone().zip(handshakes.clone());
            Ok::<_, NetError>(ListenerGroup::new(bound, tls, limit, options.connection))
        };
        // Metrics URLs trust no client certificate in etcd either way: the client settings count
        // (contract 3.2).
        Ok(Listeners {
            client: group(&options.client_urls, &client_tls, clients, "client")?,
            client_http: group(&options.client_http_urls, &client_tls, clients, "client")?,
            metrics: group(
                &options.metrics_urls,
                &client_tls,
                limits::METRICS_CONNECTIONS_MAX,
                "metrics",
            )?,
            peer: group(
                &options.peer_urls,
                &peer_tls,
                limits::PEER_CONNECTIONS_MAX,
                "peer",
            )?,
        })
    }
}

/// Connections all client listeners of a group may hold.
fn client_connections_max(descriptors: Option<u64>) -> Result<usize, NetError> {
    let limit = descriptors.unwrap_or(u64::MAX);
    if limit <= limits::RESERVED_FILE_DESCRIPTORS {
        return Err(NetError::DescriptorLimit { limit });
    }
    let connections = (limit - limits::RESERVED_FILE_DESCRIPTORS).min(limits::CONNECTIONS_MAX);
    Ok(usize::try_from(connections).expect("at most CONNECTIONS_MAX"))
}

/// One socket per address, however many URLs name it.
fn bind_group(
    urls: &[Url],
    tls: &Option<Arc<ServerTls>>,
    options: SocketOptions,
    purpose: &'static str,
) -> Result<Vec<accept::Listener>, NetError> {
    let mut bound: Vec<(Address, accept::Listener)> = Vec::new();
    for url in urls {
        let (text, secure) = (url.to_string(), url.scheme().is_secure());
        let Some(wanted) = Address::of(url) else {
            return Err(NetError::Url {
                url: text,
                cause: "expected IP in URL for binding".to_owned(),
            });
        };
        if secure && tls.is_none() {
            return Err(NetError::NoCertificate { url: text, purpose });
        }
        if let Some((address, listener)) = bound.iter_mut().find(|(address, _)| *address == wanted)
        {
            listener.plain |= !secure;
            listener.secure |= secure;
            if listener.plain && listener.secure && matches!(address, Address::Unix(_)) {
                return Err(NetError::SharedUnixSocket { url: text });
            }
            continue;
        }
        let socket =
            Bound::new(&wanted, options).map_err(|source| NetError::Bind { url: text, source })?;
        bound.push((
            wanted,
            accept::Listener {
                socket,
                plain: !secure,
                secure,
            },
        ));
    }
    Ok(bound.into_iter().map(|(_, listener)| listener).collect())
}
