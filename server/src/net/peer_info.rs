//! Who is at the other end of a connection: a request extension.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection. Cheap to clone; every request of the connection carries it as an
/// extension.
#[derive(Clone, Debug)]
pub struct PeerInfo(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: Option<SocketAddr>,
    tls: bool,
    common_name: Option<String>,
}

impl PeerInfo {
    /// A peer by address (None: a unix socket), whether TLS is spoken, and the common name of its
    /// verified certificate.
    pub fn new(remote: Option<SocketAddr>, tls: bool, common_name: Option<String>) -> PeerInfo {
        assert!(tls || common_name.is_none(), "a certificate needs TLS");
        PeerInfo(Arc::new(Inner {
            remote,
            tls,
            common_name,
        }))
    }

    /// The remote address; None for a unix socket.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0.remote
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.tls
    }

    /// The subject's common name of a verified client certificate. A certificate without one gives
    /// an empty name.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }
}
