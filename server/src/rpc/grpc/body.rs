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
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::chunk::{Chunk, Pieces};
use super::gzip::DeflatedBody;
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
    Data(Chunk),
    End(Status),
}

impl BodySender {
    /// Hands over bytes; waits while the client does not take any.
    ///
    /// # Errors
    /// [`Closed`] when the client has gone.
    pub async fn send(&self, data: impl Into<Chunk>) -> Result<(), Closed> {
        let item = Item::Data(data.into());
        self.frames.send(item).await.map_err(|_| Closed)
    }

    /// Sends what is in the chunk when `bytes` more would make it too long for a frame; how
    /// many bytes went.
    ///
    /// # Errors
    /// [`Closed`] when the client has gone.
    pub async fn make_room(&self, chunk: &mut Pieces, bytes: usize) -> Result<u64, Closed> {
        let length = chunk.len();
        if chunk.is_empty() || length + bytes <= BODY_CHUNK_BYTES {
            return Ok(0);
        }
        let full = std::mem::replace(chunk, Pieces::with_room());
        self.send(full).await.map(|()| length as u64)
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

/// What a call, or a request for something else on the same port, is answered with.
#[derive(Debug, Default)]
pub enum AnswerBody {
    /// Nothing.
    #[default]
    Empty,
    /// One message and its trailers.
    Unary(UnaryBody),
    /// What a producer feeds.
    Stream(StreamBody),
    /// Messages compressed on their way out.
    Deflated(Box<DeflatedBody>),
    /// Of the plain endpoints.
    Plain(Body),
}

/// A streaming answer and the end that feeds it.
#[must_use]
pub fn streaming() -> (BodySender, Response<AnswerBody>) {
    let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    let body = StreamBody {
        frames: receiver,
        ended: false,
    };
    (BodySender { frames }, response(AnswerBody::Stream(body)))
}

/// The answer of a unary call: the framed message, or a status alone.
#[must_use]
pub fn unary(answer: Result<Bytes, Status>) -> Response<AnswerBody> {
    match answer {
        Ok(data) => response(AnswerBody::Unary(UnaryBody {
            data: Some(data),
            trailers: true,
        })),
        Err(status) => empty_status(status),
    }
}

/// An answer without a message ("trailers only").
#[must_use]
pub fn empty_status(status: Status) -> Response<AnswerBody> {
    let mut response = response(AnswerBody::Empty);
    write_status(&status, response.headers_mut());
    response
}

fn response(body: AnswerBody) -> Response<AnswerBody> {
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

fn trailers(status: &Status) -> Frame<Chunk> {
    let mut headers = HeaderMap::with_capacity(2);
    write_status(status, &mut headers);
    Frame::trailers(headers)
}

/// One message and its trailers.
#[derive(Debug)]
pub struct UnaryBody {
    data: Option<Bytes>,
    trailers: bool,
}

impl UnaryBody {
    fn next(&mut self) -> Option<Frame<Chunk>> {
        if let Some(data) = self.data.take() {
            return Some(Frame::data(data.into()));
        }
        let trailing = std::mem::take(&mut self.trailers);
        trailing.then(|| trailers(&Status::new(Code::Ok, "")))
    }
}

/// What a producer feeds.
#[derive(Debug)]
pub struct StreamBody {
    frames: mpsc::Receiver<Item>,
    ended: bool,
}

impl StreamBody {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Chunk>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.frames.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Item::Data(data))) => Poll::Ready(Some(Frame::data(data))),
            Poll::Ready(Some(Item::End(status))) => {
                self.ended = true;
                Poll::Ready(Some(trailers(&status)))
            }
            Poll::Ready(None) => {
                self.ended = true;
                let status = Status::from(Rejected::Stopped);
                Poll::Ready(Some(trailers(&status)))
            }
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Chunk;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, axum::Error>>> {
        match &mut *self {
            AnswerBody::Empty => Poll::Ready(None),
            AnswerBody::Unary(body) => Poll::Ready(body.next().map(Ok)),
            AnswerBody::Stream(body) => body.poll_next(context).map(|next| next.map(Ok)),
            AnswerBody::Deflated(body) => body.poll_next(context),
            AnswerBody::Plain(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map_ok(|frame| frame.map_data(Chunk::from))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Empty => true,
            AnswerBody::Unary(body) => body.data.is_none() && !body.trailers,
            AnswerBody::Stream(body) => body.ended,
            AnswerBody::Deflated(body) => body.is_end_stream(),
            AnswerBody::Plain(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Empty => SizeHint::with_exact(0),
            AnswerBody::Plain(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
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
