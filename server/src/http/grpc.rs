//! The front of the client port: counts gRPC calls and answers those that nobody serves.
//!
//! Wraps the whole router, so that neither bodies nor handlers are boxed once more. Invariant:
//! every call counted as started is counted as handled once: with the status it ended with, or as
//! `Canceled` when its answer was dropped before its end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tower::Service;

use crate::metrics::Metrics;

static CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Numbers of codes used here.
const CANCELED: usize = 1;
const UNKNOWN: usize = 2;
const UNIMPLEMENTED: u8 = 12;

/// The bytes before each message: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// A service in front of the router. Cheap to clone when the router is.
#[derive(Clone, Debug)]
pub struct GrpcFront<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> GrpcFront<S> {
    /// Wraps `inner`; the methods served are those `metrics` was made with.
    pub fn new(inner: S, metrics: Arc<Metrics>) -> GrpcFront<S> {
        GrpcFront { inner, metrics }
    }
}

/// An answer without messages: HTTP 200 with the status in its headers.
pub fn grpc_status<B: Default>(code: u8, message: &str) -> Response<B> {
    let mut response = Response::new(B::default());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    let message =
        HeaderValue::from_str(&percent_encoded(message)).expect("encoded as visible ASCII");
    headers.insert("grpc-message", message);
    response
}

fn percent_encoded(message: &str) -> String {
    let encode = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    message.bytes().map(encode).collect()
}

/// True for a request of gRPC, whatever its messages are written in.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What grpc-go says of a path that nobody serves.
pub fn unknown_method(path: &str, has_service: impl Fn(&str) -> bool) -> String {
    let name = path.strip_prefix('/').unwrap_or(path);
    match name.rsplit_once('/') {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if has_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

impl<S, B, R> Service<Request<B>> for GrpcFront<S>
where
    S: Service<Request<CountedRequest<B>>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
    R: Body<Data: Slices> + Default + Unpin,
{
    type Response = Response<CountedResponse<R>>;
    type Error = Infallible;
    type Future = FrontFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_grpc = is_grpc(request.headers());
        let place = if is_grpc {
            self.metrics.grpc.place(request.uri().path())
        } else {
            None
        };
        if is_grpc && place.is_none() {
            let has_service = |service: &str| self.metrics.grpc.has_service(service);
            let message = unknown_method(request.uri().path(), has_service);
            return FrontFuture {
                inner: None,
                call: None,
                refused: Some(message),
            };
        }
        let call = place.map(|place| Call::start(self.metrics.clone(), place, request.headers()));
        let counting = call.as_ref().map(|call| (call.metrics.clone(), call.place));
        let counted = request.map(|inner| CountedRequest {
            inner,
            counting,
            messages: MessageCount::default(),
        });
        FrontFuture {
            inner: Some(self.inner.call(counted)),
            call,
            refused: None,
        }
    }
}

/// One call, from its start to its end.
#[derive(Debug)]
struct Call {
    metrics: Arc<Metrics>,
    place: usize,
    /// Only when durations are wanted.
    started: Option<Instant>,
    ended: bool,
}

impl Call {
    fn start(metrics: Arc<Metrics>, place: usize, headers: &HeaderMap) -> Call {
        let series = metrics.grpc.at(place);
        series.started.increment();
        let version = headers.get(&CLIENT_API_VERSION).map(HeaderValue::as_bytes);
        // Not UTF-8: the call is refused elsewhere, and etcd does not count it.
        if let Ok(version) = std::str::from_utf8(version.unwrap_or(b"unknown")) {
            metrics
                .client_requests
                .count(version, series.is_streaming());
        }
        let started = series.is_timed().then(Instant::now);
        Call {
            metrics,
            place,
            started,
            ended: false,
        }
    }

    fn end(&mut self, code: usize) {
        if self.ended {
            return;
        }
        self.ended = true;
        let series = self.metrics.grpc.at(self.place);
        series.handled(code);
        if let Some(started) = self.started {
            series.observe(started.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELED);
    }
}

fn code_of(headers: &HeaderMap) -> Option<usize> {
    headers.get(&GRPC_STATUS).map(|code| {
        code.to_str()
            .ok()
            .and_then(|code| code.parse().ok())
            .unwrap_or(UNKNOWN)
    })
}

/// The answer to come.
#[derive(Debug)]
pub struct FrontFuture<F> {
    inner: Option<F>,
    call: Option<Call>,
    refused: Option<String>,
}

impl<F, R> Future for FrontFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Body + Default,
{
    type Output = Result<Response<CountedResponse<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(message) = self.refused.take() {
            return Poll::Ready(Ok(grpc_status(UNIMPLEMENTED, &message)));
        }
        let inner = self
            .inner
            .as_mut()
            .expect("a call that is not refused has an answer to come");
        let response = match ready!(Pin::new(inner).poll(context)) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let mut call = self.call.take();
        if let Some(call) = &mut call {
            match code_of(response.headers()) {
                Some(code) => call.end(code),
                None if response.status() != StatusCode::OK => call.end(UNKNOWN),
                None => {}
            }
        }
        let count = |inner| CountedResponse {
            inner,
            call,
            messages: MessageCount::default(),
        };
        Poll::Ready(Ok(response.map(count)))
    }
}

/// Finds messages in a stream of bytes cut anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageCount {
    prefix: [u8; PREFIX_BYTES],
    prefix_filled: usize,
    /// Bytes of the current message that have not passed yet.
    remaining: u64,
}

impl MessageCount {
    /// Counts the messages whose prefix ends in `bytes`, and the bytes of messages in it (prefixes
    /// left out).
    pub fn feed(&mut self, mut bytes: &[u8]) -> (u64, u64) {
        let (mut messages, mut payload) = (0, 0);
        while !bytes.is_empty() {
            if self.remaining > 0 {
                let here = usize::try_from(self.remaining)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let (part, rest) = bytes.split_at(here);
                let part = u64::try_from(part.len()).expect("a length is 64 bits at most");
                (self.remaining, payload, bytes) = (self.remaining - part, payload + part, rest);
                continue;
            }
            let (first, rest) = bytes.split_at(1);
            bytes = rest;
            let slot = self
                .prefix
                .get_mut(self.prefix_filled)
                .expect("emptied when it is full");
            *slot = first.first().copied().expect("split at one");
            self.prefix_filled += 1;
            if self.prefix_filled == PREFIX_BYTES {
                let [_, a, b, c, d] = self.prefix;
                self.prefix_filled = 0;
                self.remaining = u64::from(u32::from_be_bytes([a, b, c, d]));
                messages += 1;
            }
        }
        (messages, payload)
    }
}

/// A request body that counts what passes.
#[derive(Debug)]
pub struct CountedRequest<B> {
    inner: B,
    counting: Option<(Arc<Metrics>, usize)>,
    messages: MessageCount,
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedRequest<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let this = &mut *self;
        if let (Some(Ok(frame)), Some((metrics, place))) = (&frame, &this.counting)
            && let Some(data) = frame.data_ref()
        {
            let (messages, bytes) = this.messages.feed(data);
            metrics.grpc.at(*place).received.add(messages);
            metrics.member.grpc_received_bytes.add(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body that counts what passes and how the call ends.
#[derive(Debug, Default)]
pub struct CountedResponse<B> {
    inner: B,
    call: Option<Call>,
    messages: MessageCount,
}

/// Bytes in one or many pieces, to be looked at.
pub trait Slices {
    /// Visits them in order.
    fn each(&self, visit: impl FnMut(&[u8]));
}

impl Slices for Bytes {
    fn each(&self, mut visit: impl FnMut(&[u8])) {
        visit(self);
    }
}

impl<B: Body<Data: Slices> + Unpin> Body for CountedResponse<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let this = &mut *self;
        let Some(call) = &mut this.call else {
            return Poll::Ready(frame);
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let (mut messages, mut bytes) = (0, 0);
                    data.each(|piece| {
                        let counted = this.messages.feed(piece);
                        (messages, bytes) = (messages + counted.0, bytes + counted.1);
                    });
                    call.metrics.grpc.at(call.place).sent.add(messages);
                    call.metrics.member.grpc_sent_bytes.add(bytes);
                } else if let Some(trailers) = frame.trailers_ref() {
                    call.end(code_of(trailers).unwrap_or(UNKNOWN));
                }
            }
            Some(Err(_)) | None => call.end(UNKNOWN),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
