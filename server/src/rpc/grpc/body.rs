//! Response bodies. A unary answer is one frame and its trailers; a streaming
//! one is fed through a bounded channel, so that whoever produces stands still
//! while the client does.
//!
//! Invariant: a stream whose producer goes away without [`BodySender::end`] is
//! never closed as a success.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use crate::runtime::Rejected;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Bytes of one body frame, and about what a producer should hand over at a
/// time: nothing may hold a turn of the loop (design, sixth idea).
pub const BODY_CHUNK_BYTES: usize = 64 << 10;

/// Frames that wait between a producer and the connection.
const FRAMES_WAITING_MAX: usize = 2;

/// The client has gone; nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// The producer's end of a streaming answer.
#[derive(Clone, Debug)]
pub struct BodySender {
    frames: mpsc::Sender<Item>,
}

#[derive(Debug)]
enum Item {
    Data(Bytes),
    End(Status),
}

impl BodySender {
    /// Hands over bytes; waits while the client does not take any.
    ///
    /// # Errors
    /// [`Closed`] when the client has gone.
    pub async fn send(&self, data: Bytes) -> Result<(), Closed> {
        self.frames.send(Item::Data(data)).await.map_err(|_| Closed)
    }

    /// Ends the answer with this status.
    pub async fn end(self, status: Status) {
        // The client may have gone; then nobody needs the status.
        self.frames.send(Item::End(status)).await.unwrap_or(());
    }

    /// Completes when the client has gone.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }
}

/// A streaming answer and the end that feeds it.
#[must_use]
pub fn streaming() -> (BodySender, Response<Body>) {
    let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    let body = StreamBody {
        frames: receiver,
        ended: false,
    };
    (BodySender { frames }, response(Body::new(body)))
}

/// The answer of a unary call: the framed message, or a status alone.
#[must_use]
pub fn unary(answer: Result<Bytes, Status>) -> Response<Body> {
    match answer {
        Ok(data) => response(Body::new(UnaryBody {
            data: Some(data),
            trailers: true,
        })),
        Err(status) => empty_status(status),
    }
}

/// An answer without a message ("trailers only").
#[must_use]
pub fn empty_status(status: Status) -> Response<Body> {
    let mut response = response(Body::empty());
    write_status(&status, response.headers_mut());
    response
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

fn write_status(status: &Status, headers: &mut HeaderMap) {
    if status.code() == Code::Ok && status.message().is_empty() {
        headers.insert(&GRPC_STATUS, HeaderValue::from_static("0"));
        headers.insert(&GRPC_MESSAGE, HeaderValue::from_static(""));
        return;
    }
    headers.insert(&GRPC_STATUS, HeaderValue::from(i32::from(status.code())));
    let message = HeaderValue::try_from(percent_encoded(status.message()));
    let message = message.expect("encoded as visible ASCII");
    headers.insert(&GRPC_MESSAGE, message);
}

/// The text of a status on the wire, as grpc-go writes it: spaces stay.
fn percent_encoded(message: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut headers = HeaderMap::with_capacity(2);
    write_status(status, &mut headers);
    Frame::trailers(headers)
}

struct UnaryBody {
    data: Option<Bytes>,
    trailers: bool,
}

impl http_body::Body for UnaryBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::take(&mut self.trailers) {
            return Poll::Ready(Some(Ok(trailers(&Status::new(Code::Ok, "")))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.trailers
    }
}

struct StreamBody {
    frames: mpsc::Receiver<Item>,
    ended: bool,
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.frames.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Item::Data(data))) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Poll::Ready(Some(Item::End(status))) => {
                self.ended = true;
                Poll::Ready(Some(Ok(trailers(&status))))
            }
            Poll::Ready(None) => {
                self.ended = true;
                let status = Status::from(Rejected::Stopped);
                Poll::Ready(Some(Ok(trailers(&status))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_as_grpc_go_writes_it() {
        let mut headers = HeaderMap::new();
        let text = "etcdserver: 100% \"full\"\n\u{e9}";
        write_status(&Status::unavailable(text), &mut headers);
        assert_eq!(headers["grpc-status"], "14");
        let encoded = "etcdserver: 100%25 \"full\"%0A%C3%A9";
        assert_eq!(headers["grpc-message"], encoded);
    }
}
