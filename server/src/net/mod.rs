//! Listeners and connections (contract 1.17, 3.2, 3.3; architecture section 2, idea 6).
//!
//! Every listen URL is bound at start, so that a taken port ends the start-up; nothing is accepted before `serve`. One port
//! speaks gRPC and HTTP, over HTTP/1.1 and HTTP/2, plain or TLS or both (told apart by the first byte).
//!
//! Runs on the I/O runtime whose thread calls `ListenerGroup::serve`; handshakes run on a thread of their own.
//! Invariants: no more connections than the group's limit; once `serve` returned, none is left.
//! Limits: `limits.rs`.

pub mod descriptors;
pub mod limits;

mod accept;
mod address;
mod connection;
mod handshake;
mod peer_info;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

pub use accept::ListenerGroup;
pub use address::{Address, ListenUrl};
pub use connection::{ConnectionOptions, Serve};
pub use peer_info::PeerInfo;
pub use socket::SocketOptions;

use crate::tls::{ServerTls, TlsError, TlsOptions};
use handshake::Handshakes;
use socket::Bound;

/// What to listen on, taken from the configuration.
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    /// `--listen-client-urls`.
    pub client_urls: Vec<String>,
    /// `--listen-client-http-urls`; when given, the client URLs speak gRPC alone.
    pub client_http_urls: Vec<String>,
    /// `--listen-metrics-urls`.
    pub metrics_urls: Vec<String>,
    /// `--listen-peer-urls`.
    pub peer_urls: Vec<String>,
    /// Certificates of the client side; None without `--cert-file` and `--auto-tls`.
    pub client_tls: Option<TlsOptions>,
    /// Certificates of the peer side.
    pub peer_tls: Option<TlsOptions>,
    /// `--socket-reuse-port`, `--socket-reuse-address`.
    pub socket: SocketOptions,
    /// Streams and keep-alive.
    pub connection: ConnectionOptions,
}

/// Why listening failed. Each ends the start-up.
#[derive(Debug)]
pub enum NetError {
    /// A listen URL cannot be understood.
    Url { url: String, cause: String },
    /// The address is taken, not ours, or not permitted.
    Bind { url: String, source: io::Error },
    /// `https` or `unixs` without a certificate.
    NoCertificate { url: String, purpose: &'static str },
    /// Plain and TLS on one unix socket, which we do not tell apart.
    SharedUnixSocket { url: String },
    /// A certificate, key or CA file is not usable.
    Tls(TlsError),
    /// `RESERVED_FILE_DESCRIPTORS` or fewer may be open.
    DescriptorLimit { limit: u64 },
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
                write!(formatter, "{url}: unix and unixs cannot share one socket file")
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
    /// Binds every URL. Needs no runtime. Errors: any URL that cannot be bound, any file that TLS needs.
    pub fn bind(options: &ListenOptions) -> Result<Listeners, NetError> {
        let client_tls = options.client_tls.as_ref().map(ServerTls::open).transpose()?;
        let peer_tls = options.peer_tls.as_ref().map(ServerTls::open).transpose()?;
        let secure = client_tls.is_some() || peer_tls.is_some();
        let handshakes =
            secure.then(Handshakes::start).transpose().map_err(NetError::Thread)?;
        let clients = client_connections_max(descriptors::limit())?;
        let group = |urls: &[String], tls: &Option<Arc<ServerTls>>, limit, purpose| {
            let bound = bind_group(urls, tls, options.socket, purpose)?;
            let tls = tls.clone().zip(handshakes.clone());
            Ok::<_, NetError>(ListenerGroup::new(bound, tls, limit, options.connection))
        };
        // Metrics URLs trust no client certificate in etcd either way: the client settings count (contract 3.2).
        Ok(Listeners {
            client: group(&options.client_urls, &client_tls, clients, "client")?,
            client_http: group(&options.client_http_urls, &client_tls, clients, "client")?,
            metrics: group(
                &options.metrics_urls,
                &client_tls,
                limits::METRICS_CONNECTIONS_MAX,
                "metrics",
            )?,
            peer: group(&options.peer_urls, &peer_tls, limits::PEER_CONNECTIONS_MAX, "peer")?,
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
    urls: &[String],
    tls: &Option<Arc<ServerTls>>,
    options: SocketOptions,
    purpose: &'static str,
) -> Result<Vec<accept::Listener>, NetError> {
    let mut parsed: Vec<ListenUrl> = Vec::new();
    for url in urls {
        parsed.push(ListenUrl::parse(url)?);
    }
    let mut bound: Vec<(Address, accept::Listener)> = Vec::new();
    for url in parsed {
        if url.secure && tls.is_none() {
            return Err(NetError::NoCertificate { url: url.text, purpose });
        }
        let known = bound.iter_mut().find(|(address, _)| *address == url.address);
        if let Some((address, listener)) = known {
            listener.plain |= !url.secure;
            listener.secure |= url.secure;
            if listener.plain && listener.secure && matches!(address, Address::Unix(_)) {
                return Err(NetError::SharedUnixSocket { url: url.text });
            }
            continue;
        }
        let socket = Bound::new(&url.address, options)
            .map_err(|source| NetError::Bind { url: url.text.clone(), source })?;
        let listener = accept::Listener { socket, plain: !url.secure, secure: url.secure };
        bound.push((url.address, listener));
    }
    Ok(bound.into_iter().map(|(_, listener)| listener).collect())
}
