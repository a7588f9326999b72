//! One connection, served by hyper: HTTP/1.1 and HTTP/2 told apart by the preface, each with the
//! settings of etcd.
//!
//! Runs on the I/O runtime that accepted it. Limits: `limits.rs`; the number of connections is
//! bounded by the accept loop.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use super::gather::gather;
use super::limits;
use super::peer_info::PeerInfo;

/// What the configuration says about connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    /// `--max-concurrent-streams`.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-interval`; None pings never.
    pub keepalive_interval: Option<Duration>,
    /// `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Some(Duration::from_secs(2 * 3600)),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// What a listener serves: a router, or any clonable service over hyper's requests. It gets a
/// `PeerInfo` extension.
pub trait Serve<B>:
    Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S, B> Serve<B> for S where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// A builder with every limit set. `proven`: the client showed a certificate that was verified.
pub(super) fn builder(options: ConnectionOptions, proven: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_READ_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS_MAX)
        .max_local_error_reset_streams((!proven).then_some(limits::LOCAL_RESETS_MAX))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        .max_send_buf_size(limits::STREAM_SEND_BUFFER_BYTES)
        // grpc-go sends none either.
        .auto_date_header(false)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}

/// Serves until the peer is done, or until `stop` resolves and what was open by then has been
/// answered.
pub(super) async fn serve<I, S, B>(
    io: I,
    peer: PeerInfo,
    builder: auto::Builder<TokioExecutor>,
    service: S,
    stop: impl Future<Output = ()>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Serve<B>,
    B: Body<Data: Send> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let remote = peer.remote();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        // The services given are always ready: a router, or a layer over one.
        service.clone().call(request)
    });
    let (io, drain) = gather(io);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut ended = None;
    let outcome = poll_fn(|context| {
        if !stopping && stop.as_mut().poll(context).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        if ended.is_none()
            && let Poll::Ready(outcome) = connection.as_mut().poll(context)
        {
            ended = Some(outcome);
        }
        // What this turn wrote leaves in one call.
        let drained = ready!(drain.poll(context));
        match ended.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => drained.map_or_else(|error| Poll::Ready(Err(error.into())), |()| Poll::Pending),
        }
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(?remote, %error, "connection ended");
    }
}
