//! Length-prefixed messages: one byte "compressed", four bytes length, the
//! message. Owns the receive buffer of one request.
//!
//! Limits: a message longer than `receive_bytes_max` is refused before it is
//! read; the buffer never holds more than one message and one HTTP/2 frame.

use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;

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

/// Reads the one message of a unary request.
///
/// # Errors
/// A status for a malformed, oversize, compressed or missing message.
pub async fn read_unary<M: Message + Default>(
    body: Body,
    receive_bytes_max: usize,
) -> Result<M, Status> {
    let mut stream = MessageStream::new(body, receive_bytes_max);
    match stream.next().await? {
        Some(message) => Ok(message),
        None => Err(Status::internal("grpc: the request holds no message")),
    }
}

/// The messages of a request, one after the other.
#[derive(Debug)]
pub struct MessageStream<M> {
    body: Body,
    buffer: BytesMut,
    receive_bytes_max: usize,
    ended: bool,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> MessageStream<M> {
    /// Reads messages from a request's body.
    #[must_use]
    pub fn new(body: Body, receive_bytes_max: usize) -> Self {
        let buffer = BytesMut::new();
        MessageStream {
            body,
            buffer,
            receive_bytes_max,
            ended: false,
            message: PhantomData,
        }
    }

    /// The next message; None once the client has closed its side. Cancel safe:
    /// what was received stays in the buffer.
    ///
    /// # Errors
    /// A status for a malformed, oversize or compressed message, and for a
    /// stream that broke.
    pub async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            if self.ended {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Status::internal("unexpected EOF"))
                };
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.receive(data);
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
            self.ended = !matches!(self.body.frame().await, Some(Ok(_)));
        }
    }

    fn receive(&mut self, data: Bytes) {
        if self.buffer.is_empty() {
            // Taking the frame over spares a copy; a frame that is shared is copied.
            self.buffer = data
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.buffer.extend_from_slice(&data);
        }
    }

    fn take_message(&mut self) -> Result<Option<M>, Status> {
        let Some(([compressed, a, b, c, d], _)) = self.buffer.split_first_chunk() else {
            return Ok(None);
        };
        let flag = *compressed;
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if length > self.receive_bytes_max {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({length} vs. {})",
                self.receive_bytes_max
            )));
        }
        if self.buffer.len() < FRAME_HEADER_BYTES + length {
            let missing = FRAME_HEADER_BYTES + length - self.buffer.len();
            self.buffer.reserve(missing);
            return Ok(None);
        }
        match flag {
            0 => {}
            // A call that names an encoding was refused before (`dispatch`).
            1 => {
                return Err(Status::internal(
                    "grpc: compressed flag set with identity or empty encoding",
                ));
            }
            flag => {
                return Err(Status::internal(format!(
                    "grpc: received unexpected payload format {flag}"
                )));
            }
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        let bytes = self.buffer.split_to(length).freeze();
        match M::decode(bytes) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(Status::internal(format!(
                "grpc: error unmarshalling request: {error}"
            ))),
        }
    }
}
