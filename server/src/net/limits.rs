//! Named limits of the network layer, each with its reason.

use std::time::Duration;

/// File descriptors kept back from client connections for segments, checkpoints and peers (etcd
/// keeps the same number).
pub const RESERVED_FILE_DESCRIPTORS: u64 = 150;
/// Connections when the process has no limit on descriptors: bounds memory, not descriptors.
pub const CONNECTIONS_MAX: u64 = 1 << 20;
/// Connections to all metrics listeners together: probes and scrapers, a few per second.
pub const METRICS_CONNECTIONS_MAX: usize = 64;
/// Connections to the peer listeners until members exist: they answer 404 only.
pub const PEER_CONNECTIONS_MAX: usize = 64;
/// Connections that have not finished their TLS handshake. When one more arrives, the oldest is
/// cut: an honest handshake takes a millisecond or two, so the oldest of so many is a peer that
/// does not speak.
pub const HANDSHAKES_MAX: usize = 512;
/// A TLS handshake, including the wait for its first byte.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The request head of HTTP/1.1 and the first byte of any connection (etcd: ReadHeaderTimeout).
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(300);
/// How long open requests may run on after shutdown began; etcd is expected to be gone 5 s after
/// SIGTERM.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Backlog asked of the kernel; it cuts this to net.core.somaxconn.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Receive window of one HTTP/2 stream: holds the largest request with its framing.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Receive window of one HTTP/2 connection: so many full streams before a client must wait for us.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes hyper buffers per stream before a writer must wait.
pub const STREAM_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Streams reset by the peer before we accepted them. The default of 20 cuts the connection when
/// kube-apiserver cancels watches in bulk (rust-stack, section 4).
pub const PENDING_RESETS_MAX: usize = 200_000;
/// Resets sent by ourselves (a stream ended while its client still sends) on a connection without a
/// verified client certificate; no bound where the client has proven who it is.
pub const LOCAL_RESETS_MAX: usize = 1_000_000;
/// Bytes of one request's headers over HTTP/2 (grpc-go's server default).
pub const HEADER_LIST_BYTES_MAX: u32 = 16 << 20;
/// Bytes of answers gathered on a connection before they are sent at once: what the kernel sends as
/// one segment over loopback; sixty answers of 1 KiB, or four frames of HTTP/2 at its default size.
pub const GATHERED_BYTES_MAX: usize = 64 << 10;
