//! Length-prefixed messages: one byte "compressed", four bytes length, the
//! message. Owns the receive buffer of one request.
//!
//! Limits: a message longer than `bytes_max` is refused before it is read or while
//! it is inflated; the buffer never holds more than one message and one HTTP/2 frame.

use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;

use super::gzip::inflate;
use super::lenient::decode;

/// How long an ended call's client may go on sending before it is reset.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes before each message.
pub const FRAME_HEADER_BYTES: usize = 5;

/// The five bytes before an uncompressed message of this length.
///
/// # Errors
/// When the message is longer than grpc-go sends (2^31 - 1 bytes, contract 8).
pub fn frame_header(length: u64) -> Result<[u8; FRAME_HEADER_BYTES], Status> {
    const SEND_BYTES_MAX: u64 = i32::MAX as u64;
    let Some(short) = u32::try_from(length)
        .ok()
        .filter(|_| length <= SEND_BYTES_MAX)
    else {
        return Err(Status::resource_exhausted(format!(
            "grpc: trying to send message larger than max ({length} vs. {SEND_BYTES_MAX})"
        )));
    };
    let [a, b, c, d] = short.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// A message with its five bytes in front.
///
/// # Errors
/// As [`frame_header`].
pub fn frame_message(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(FRAME_HEADER_BYTES + length);
    buffer.put_slice(&frame_header(length as u64)?);
    message.encode(&mut buffer).expect("the buffer grows");
    Ok(buffer.freeze())
}

/// The messages of a request on their way in.
#[derive(Debug)]
pub struct Incoming {
    /// The request's body.
    pub body: Body,
    /// True when the request says that its messages are gzip.
    pub gzip: bool,
    /// The longest message taken, before and after it is inflated.
    pub bytes_max: usize,
    /// The method's path, which says what the messages are.
    pub path: Option<PathAndQuery>,
}

impl Incoming {
    fn path(&self) -> &str {
        self.path.as_ref().map_or("", PathAndQuery::path)
    }
}

/// Reads the one message of a unary request.
///
/// # Errors
/// A status for a malformed, oversize or missing message.
pub async fn read_unary<M: Message + Default + 'static>(incoming: Incoming) -> Result<M, Status> {
    let mut stream = MessageStream::<M>::new(incoming);
    match stream.receive().await? {
        Received::Message(bytes) => decode(&bytes, stream.incoming.path()).map_err(|error| {
            Status::internal(format!("grpc: error unmarshalling request: {error}"))
        }),
        Received::End => Err(Status::unknown("EOF")),
        Received::CutShort => Err(Status::unknown(CUT_SHORT)),
    }
}

/// Reads the one message of a request whose answer is a stream.
///
/// # Errors
/// A status for a malformed, oversize, missing or second message.
pub async fn read_one<M: Message + Default + 'static>(incoming: Incoming) -> Result<M, Status> {
    let mut stream = MessageStream::new(incoming);
    let Some(message) = stream.next().await? else {
        let text = "cardinality violation: received no request message \
                    from non-client-streaming RPC";
        return Err(Status::internal(text));
    };
    if stream.next().await?.is_some() {
        let text = "cardinality violation: received multiple request messages \
                    for non-client-streaming RPC";
        return Err(Status::internal(text));
    }
    Ok(message)
}

/// What ends in the middle of a message (grpc-go's words).
const CUT_SHORT: &str = "unexpected EOF";

/// What a request's body gives.
enum Received {
    Message(Bytes),
    /// The client has closed its side, between two messages or in the bytes
    /// before one.
    End,
    CutShort,
}

/// The messages of a request, one after the other.
#[derive(Debug)]
pub struct MessageStream<M> {
    incoming: Incoming,
    buffer: BytesMut,
    ended: bool,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default + 'static> MessageStream<M> {
    /// Reads messages from a request's body.
    #[must_use]
    pub fn new(incoming: Incoming) -> Self {
        let buffer = BytesMut::new();
        MessageStream {
            incoming,
            buffer,
            ended: false,
            message: PhantomData,
        }
    }

    /// The next message; None once the client has closed its side. Cancel safe:
    /// what was received stays in the buffer.
    ///
    /// # Errors
    /// A status for a malformed or oversize message, and for a stream that broke.
    pub async fn next(&mut self) -> Result<Option<M>, Status> {
        match self.receive().await? {
            Received::Message(bytes) => match decode(&bytes, self.incoming.path()) {
                Ok(message) => Ok(Some(message)),
                Err(error) => Err(Status::internal(format!(
                    "grpc: failed to unmarshal the received message: {error}"
                ))),
            },
            Received::End => Ok(None),
            Received::CutShort => Err(Status::internal(CUT_SHORT)),
        }
    }

    async fn receive(&mut self) -> Result<Received, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Received::Message(message));
            }
            if self.ended {
                let complete = self.buffer.len() < FRAME_HEADER_BYTES;
                return Ok(if complete {
                    Received::End
                } else {
                    Received::CutShort
                });
            }
            match self.incoming.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.keep(data);
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Err(Status::cancelled(format!(
                        "the client's stream broke: {error}"
                    )));
                }
                None => self.ended = true,
            }
        }
    }

    /// Reads and forgets the rest. Ending a call while its client still sends
    /// would count as a reset of ours (rust-stack, section 4).
    pub async fn drain(&mut self) {
        self.buffer = BytesMut::new();
        while !self.ended {
            self.ended = !matches!(self.incoming.body.frame().await, Some(Ok(_)));
        }
    }

    fn keep(&mut self, data: Bytes) {
        if self.buffer.is_empty() {
            // Taking the frame over spares a copy; a frame that is shared is copied.
            self.buffer = data
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.buffer.extend_from_slice(&data);
        }
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(([flag, length @ ..], _)) = self.buffer.split_first_chunk::<FRAME_HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let (flag, length) = (*flag, u32::from_be_bytes(*length) as usize);
        let bytes_max = self.incoming.bytes_max;
        if length > bytes_max {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({length} vs. {bytes_max})"
            )));
        }
        if self.buffer.len() < FRAME_HEADER_BYTES + length {
            let missing = FRAME_HEADER_BYTES + length - self.buffer.len();
            self.buffer.reserve(missing);
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        let bytes = self.buffer.split_to(length).freeze();
        match flag {
            0 => Ok(Some(bytes)),
            1 if self.incoming.gzip => inflate(&bytes, bytes_max).map(Some),
            1 => Err(Status::internal(
                "grpc: compressed flag set with identity or empty encoding",
            )),
            flag => Err(Status::internal(format!(
                "grpc: received unexpected payload format {flag}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use kvproto::etcdserverpb::LeaseRevokeRequest;

    use super::*;

    const MESSAGE: &[u8] = &[0, 0, 0, 0, 2, 8, 77];

    fn incoming(body: &[u8]) -> Incoming {
        Incoming {
            body: Body::from(body.to_vec()),
            gzip: false,
            bytes_max: 100,
            path: Some(PathAndQuery::from_static("/etcdserverpb.Lease/LeaseRevoke")),
        }
    }

    fn told(answer: Result<LeaseRevokeRequest, Status>) -> Result<i64, (i32, String)> {
        match answer {
            Ok(request) => Ok(request.id),
            Err(status) => Err((status.code() as i32, status.message().to_owned())),
        }
    }

    /// Codes and texts as etcd 3.7.3 gave them: to a unary call, and to one whose
    /// answer is a stream.
    #[tokio::test]
    async fn a_request_of_one_message() {
        const MANY: &str = "cardinality violation: received multiple request messages for non-client-streaming RPC";
        const NONE: &str =
            "cardinality violation: received no request message from non-client-streaming RPC";
        let two = MESSAGE.repeat(2);
        for (body, unary, streamed) in [
            (MESSAGE, Ok(77), Ok(77)),
            (&two[..], Ok(77), Err((13, MANY))),
            (&two[..9], Ok(77), Ok(77)),
            (&MESSAGE[..3], Err((2, "EOF")), Err((13, NONE))),
            (
                &MESSAGE[..5],
                Err((2, "unexpected EOF")),
                Err((13, "unexpected EOF")),
            ),
            (
                &MESSAGE[..6],
                Err((2, "unexpected EOF")),
                Err((13, "unexpected EOF")),
            ),
        ] {
            let owned = |(code, text): (i32, &str)| (code, text.to_owned());
            let found = told(read_unary(incoming(body)).await);
            assert_eq!(found, unary.map_err(owned), "{body:?}");
            let found = told(read_one(incoming(body)).await);
            assert_eq!(found, streamed.map_err(owned), "{body:?}");
        }
    }

    #[tokio::test]
    async fn flags_and_limits() {
        const EMPTY: &str = "grpc: compressed flag set with identity or empty encoding";
        const LARGE: &str = "grpc: received message larger than max (101 vs. 100)";
        let flagged = [&[1], &MESSAGE[1..]].concat();
        let unknown = [&[2], &MESSAGE[1..]].concat();
        for (body, code, text) in [
            (&flagged[..], 13, EMPTY),
            (&unknown, 13, "grpc: received unexpected payload format 2"),
            (&[0, 0, 0, 0, 101], 8, LARGE),
        ] {
            let found = told(read_unary(incoming(body)).await);
            assert_eq!(found, Err((code, text.to_owned())));
        }
        // Of a request that names gzip, each message says for itself whether it is.
        let plain = Incoming {
            gzip: true,
            ..incoming(MESSAGE)
        };
        assert_eq!(told(read_unary(plain).await), Ok(77));
    }
}
