//! gzip of single messages, the one encoding that etcd knows (contract 1.1).
//!
//! Limits: a request is inflated no further than the receive limit; an answer's
//! message is held up to [`DEFLATE_BYTES_MAX`]. A larger one leaves as it is, which
//! the flag before each message allows: how long it becomes is not known before
//! all of it is compressed, and nothing holds all of it.

use std::io::{ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use tonic::Status;

use super::body::AnswerBody;
use super::chunk::Chunk;
use super::frames::FRAME_HEADER_BYTES;
use crate::http::Slices;

/// The longest message of an answer that is compressed: a few milliseconds.
const DEFLATE_BYTES_MAX: usize = 256 << 10;

const COMPRESSED: u8 = 1;

/// Inflates one message of a request.
///
/// # Errors
/// A status in grpc-go's words for what is no gzip or longer than the limit.
pub(super) fn inflate(compressed: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    let decoder = MultiGzDecoder::new(compressed);
    if decoder.header().is_none() {
        let why = match compressed {
            [] => "EOF",
            short if short.len() < 10 => "unexpected EOF",
            _ => "gzip: invalid header",
        };
        let text = format!("grpc: failed to decompress the message: {why}");
        return Err(Status::internal(text));
    }
    let mut message = Vec::new();
    // One more byte than may be tells a longer message from one that just fits.
    let mut bounded = decoder.take(bytes_max as u64 + 1);
    let read = bounded.read_to_end(&mut message);
    if message.len() > bytes_max {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message after decompression larger than max {bytes_max}"
        )));
    }
    match read {
        Ok(_) => Ok(message.into()),
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
                _ if error.to_string().contains("checksum") => "gzip: invalid checksum".to_owned(),
                _ => format!("gzip: {error}"),
            };
            let text = format!("grpc: failed to read decompressed data: {why}");
            Err(Status::internal(text))
        }
    }
}

/// True when a request says that its messages are gzip.
pub fn is_gzip(headers: &HeaderMap) -> bool {
    let encoding = headers.get("grpc-encoding");
    encoding.is_some_and(|encoding| encoding == "gzip")
}

/// Compresses the answer to a request that was compressed, as etcd does, unless
/// the client lists what it accepts and gzip is not there.
#[must_use]
pub fn deflated(response: Response<AnswerBody>, request: &HeaderMap) -> Response<AnswerBody> {
    let accepts = |listed: &HeaderValue| {
        let mut names = listed.as_bytes().split(|byte| *byte == b',');
        names.any(|name| name.trim_ascii() == b"gzip")
    };
    let listed = request.get("grpc-accept-encoding");
    // A status alone has no message that could be compressed.
    let has_messages = !response.headers().contains_key("grpc-status");
    if !is_gzip(request) || !listed.is_none_or(accepts) || !has_messages {
        return response;
    }
    let mut response = response.map(|inner| {
        AnswerBody::Deflated(Box::new(DeflatedBody {
            inner,
            message: BytesMut::new(),
            passing: 0,
        }))
    });
    let headers = response.headers_mut();
    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    response
}

/// A body of messages, each of them compressed on its way out.
#[derive(Debug)]
pub struct DeflatedBody {
    inner: AnswerBody,
    /// The beginning of the message that is not complete yet.
    message: BytesMut,
    /// Bytes that remain of a message too long to compress.
    passing: usize,
}

impl DeflatedBody {
    fn take(&mut self, mut data: &[u8], out: &mut BytesMut) {
        while !data.is_empty() {
            if self.passing > 0 {
                let (now, rest) = data.split_at(self.passing.min(data.len()));
                out.put_slice(now);
                (self.passing, data) = (self.passing - now.len(), rest);
                continue;
            }
            let wanted = match self.message.split_first_chunk::<FRAME_HEADER_BYTES>() {
                None => FRAME_HEADER_BYTES,
                Some(([_, length @ ..], _)) => {
                    let length = u32::from_be_bytes(*length) as usize;
                    if length > DEFLATE_BYTES_MAX {
                        out.put_slice(&self.message.split());
                        self.passing = length;
                        continue;
                    }
                    FRAME_HEADER_BYTES + length
                }
            };
            let missing = wanted - self.message.len();
            let (now, rest) = data.split_at(missing.min(data.len()));
            self.message.put_slice(now);
            data = rest;
            if self.message.len() == wanted && wanted > FRAME_HEADER_BYTES {
                deflate(&self.message.split().split_off(FRAME_HEADER_BYTES), out);
            } else if self.message[..] == [0; FRAME_HEADER_BYTES] {
                self.message.clear();
                deflate(&[], out);
            }
        }
    }
}

/// Appends a message, compressed, with its five bytes in front.
fn deflate(message: &[u8], out: &mut BytesMut) {
    const IN_MEMORY: &str = "memory takes all";
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect(IN_MEMORY);
    let compressed = encoder.finish().expect(IN_MEMORY);
    let length = u32::try_from(compressed.len()).expect("a short message stays short");
    out.reserve(FRAME_HEADER_BYTES + compressed.len());
    out.put_u8(COMPRESSED);
    out.put_u32(length);
    out.put_slice(&compressed);
}

impl DeflatedBody {
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, axum::Error>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
            let data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            };
            let mut out = BytesMut::new();
            data.each(|piece| self.take(piece, &mut out));
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.freeze().into()))));
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    fn refusal(message: &[u8]) -> (i32, String) {
        let status = inflate(message, 100).unwrap_err();
        (status.code() as i32, status.message().to_owned())
    }

    #[test]
    fn a_message_is_inflated_up_to_the_limit_and_no_further() {
        for length in [0, 1, 99, 100] {
            let message = vec![7; length];
            assert_eq!(inflate(&compressed(&message), 100).unwrap(), message);
        }
        for length in [101, 50 << 20] {
            let text = "grpc: received message after decompression larger than max 100";
            let bomb = compressed(&vec![0; length]);
            assert_eq!(refusal(&bomb), (8, text.to_owned()));
        }
        let in_two = [compressed(b"one"), compressed(b"two")].concat();
        assert_eq!(inflate(&in_two, 100).unwrap(), "onetwo");
    }

    /// Codes and texts as etcd 3.7.3 gave them.
    #[test]
    fn what_is_no_gzip_is_refused() {
        let good = compressed(b"message");
        let mut flipped = good.clone();
        let at = flipped.len() - 6;
        flipped[at] ^= 1;
        let begin = "grpc: failed to decompress the message: ";
        let read = "grpc: failed to read decompressed data: ";
        for (bad, why) in [
            (&b""[..], format!("{begin}EOF")),
            (&[1, 2, 3, 4], format!("{begin}unexpected EOF")),
            (b"0123456789abcdef", format!("{begin}gzip: invalid header")),
            (&good[..good.len() - 6], format!("{read}unexpected EOF")),
            (
                &[&good[..], &[1, 2, 3]].concat(),
                format!("{read}unexpected EOF"),
            ),
            (&flipped, format!("{read}gzip: invalid checksum")),
        ] {
            assert_eq!(refusal(bad), (13, why), "{bad:x?}");
        }
    }

    /// Messages are found however the body is cut; the long one passes as it is.
    #[test]
    fn an_answer_is_compressed_message_by_message() {
        let messages = [
            vec![],
            b"short".to_vec(),
            vec![b'x'; DEFLATE_BYTES_MAX],
            vec![b'y'; DEFLATE_BYTES_MAX + 1],
            b"last".to_vec(),
        ];
        let mut plain = Vec::new();
        for message in &messages {
            plain.push(0);
            plain.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            plain.extend(message);
        }
        for cut in [1, 3, 5, 7, 65_536, plain.len()] {
            let mut body = DeflatedBody {
                inner: AnswerBody::Empty,
                message: BytesMut::new(),
                passing: 0,
            };
            let mut out = BytesMut::new();
            for part in plain.chunks(cut) {
                body.take(part, &mut out);
            }
            let mut rest = &out[..];
            for message in &messages {
                let ([flag, length @ ..], behind) = rest.split_first_chunk::<5>().unwrap();
                let length = u32::from_be_bytes(*length) as usize;
                let (sent, behind) = behind.split_at(length);
                assert_eq!(*flag == COMPRESSED, message.len() <= DEFLATE_BYTES_MAX);
                if *flag == COMPRESSED {
                    assert_eq!(inflate(sent, DEFLATE_BYTES_MAX).unwrap(), *message);
                } else {
                    assert_eq!(sent, message);
                }
                rest = behind;
            }
            assert_eq!(rest, b"");
        }
    }
}
