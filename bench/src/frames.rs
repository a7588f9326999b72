//! gRPC framing by hand, and a counter of fields that reads large answers without keeping them.
//!
//! Invariant: [`FieldCounter`] gives the same counts however the bytes are cut into chunks.
//! Limit: it knows the wire types that the etcd protocol uses (varint, 64-bit, length-delimited,
//! 32-bit) and descends one level.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::failure::Failure;

/// Bytes before each message: one flag, four of length.
const HEADER_BYTES: usize = 5;

/// A message with its five bytes in front.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEADER_BYTES + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("requests of the bench are below 4 GiB"));
    message
        .encode(&mut buffer)
        .expect("the buffer was sized for the message");
    buffer.freeze()
}

/// Joins chunks to messages; a message that lies within one chunk is not copied.
#[derive(Debug, Default)]
pub struct MessageBuffer {
    chunk: Bytes,
    joined: BytesMut,
}

impl MessageBuffer {
    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        if self.joined.is_empty() && self.chunk.is_empty() {
            self.chunk = chunk;
            return;
        }
        if !self.chunk.is_empty() {
            self.joined.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
        }
        self.joined.extend_from_slice(&chunk);
    }

    /// The next whole message, without its five bytes.
    pub fn take(&mut self) -> Result<Option<Bytes>, Failure> {
        if !self.chunk.is_empty() {
            let Some(length) = whole_message(&self.chunk)? else {
                return Ok(None);
            };
            self.chunk.advance(HEADER_BYTES);
            return Ok(Some(self.chunk.split_to(length)));
        }
        let Some(length) = whole_message(&self.joined)? else {
            return Ok(None);
        };
        self.joined.advance(HEADER_BYTES);
        Ok(Some(self.joined.split_to(length).freeze()))
    }

    /// What was received beyond the last whole message.
    pub fn take_rest(&mut self) -> Bytes {
        if self.chunk.is_empty() {
            return self.joined.split().freeze();
        }
        std::mem::take(&mut self.chunk)
    }
}

/// The length of the message at the front, when all of it is there.
fn whole_message(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = message_length(*header)?;
    Ok((rest.len() >= length).then_some(length))
}

fn message_length([compressed, a, b, c, d]: [u8; HEADER_BYTES]) -> Result<usize, Failure> {
    if compressed != 0 {
        return Err(Failure::Wrong(
            "a compressed message that nobody asked for".to_owned(),
        ));
    }
    usize::try_from(u32::from_be_bytes([a, b, c, d]))
        .map_err(|_| Failure::Wrong("a message longer than memory".to_owned()))
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_BYTES],
        filled: usize,
    },
    Tag {
        value: u64,
        shift: u32,
    },
    Varint,
    Length {
        field: u64,
        value: u64,
        shift: u32,
    },
    Skip {
        left: usize,
    },
}

/// Counts how often a length-delimited field occurs in a stream of gRPC messages.
#[derive(Debug)]
pub struct FieldCounter {
    field: u64,
    descend: Option<u64>,
    state: State,
    message_left: usize,
    nested_left: usize,
    /// Occurrences seen.
    pub fields: u64,
    /// Messages begun.
    pub messages: u64,
}

impl FieldCounter {
    /// Counts `field`, within the sub-message `descend` if one is named.
    pub fn new(field: u64, descend: Option<u64>) -> FieldCounter {
        FieldCounter {
            field,
            descend,
            state: FieldCounter::HEADER,
            message_left: 0,
            nested_left: 0,
            fields: 0,
            messages: 0,
        }
    }

    const HEADER: State = State::Header {
        bytes: [0; HEADER_BYTES],
        filled: 0,
    };
    const TAG: State = State::Tag { value: 0, shift: 0 };

    /// Whether the last message has been read to its end.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Header { filled: 0, .. })
    }

    /// Reads the next bytes of the body.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if let State::Skip { left } = self.state {
                let taken = left.min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                self.consume(taken)?;
                self.state = State::Skip { left: left - taken };
                if left == taken {
                    self.field_ended();
                }
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else {
                break;
            };
            bytes = rest;
            self.push_byte(*byte)?;
        }
        Ok(())
    }

    fn push_byte(&mut self, byte: u8) -> Result<(), Failure> {
        if let State::Header {
            bytes: mut header,
            filled,
        } = self.state
        {
            if let Some(place) = header.get_mut(filled) {
                *place = byte;
            }
            self.state = State::Header {
                bytes: header,
                filled: filled + 1,
            };
            if filled + 1 == HEADER_BYTES {
                self.message_left = message_length(header)?;
                self.nested_left = 0;
                self.messages += 1;
                self.field_ended();
            }
            return Ok(());
        }
        self.consume(1)?;
        let last = byte & 0x80 == 0;
        let bits = u64::from(byte & 0x7f);
        match self.state {
            State::Header { .. } | State::Skip { .. } => {}
            State::Varint if last => self.field_ended(),
            State::Varint => {}
            State::Tag { value, shift } => {
                let value = value | (bits << shift.min(63));
                self.state = State::Tag {
                    value,
                    shift: shift + 7,
                };
                if last {
                    self.tag_ended(value)?;
                }
            }
            State::Length {
                field,
                value,
                shift,
            } => {
                let value = value | (bits << shift.min(63));
                self.state = State::Length {
                    field,
                    value,
                    shift: shift + 7,
                };
                if last {
                    self.length_ended(field, value)?;
                }
            }
        }
        Ok(())
    }

    fn tag_ended(&mut self, tag: u64) -> Result<(), Failure> {
        let field = tag >> 3;
        self.state = match tag & 7 {
            0 => State::Varint,
            1 => State::Skip { left: 8 },
            2 => State::Length {
                field,
                value: 0,
                shift: 0,
            },
            5 => State::Skip { left: 4 },
            other => return Err(Failure::Wrong(format!("wire type {other} in an answer"))),
        };
        Ok(())
    }

    fn length_ended(&mut self, field: u64, length: u64) -> Result<(), Failure> {
        let left = usize::try_from(length)
            .map_err(|_| Failure::Wrong("a field longer than memory".to_owned()))?;
        let nested = self.nested_left > 0;
        if !nested && self.descend == Some(field) {
            self.nested_left = left;
            self.field_ended();
            return Ok(());
        }
        if nested == self.descend.is_some() && field == self.field {
            self.fields += 1;
        }
        self.state = State::Skip { left };
        if left == 0 {
            self.field_ended();
        }
        Ok(())
    }

    fn field_ended(&mut self) {
        self.state = if self.message_left == 0 {
            FieldCounter::HEADER
        } else {
            FieldCounter::TAG
        };
    }

    fn consume(&mut self, bytes: usize) -> Result<(), Failure> {
        let overrun = || Failure::Wrong("a field runs over the end of its message".to_owned());
        self.message_left = self.message_left.checked_sub(bytes).ok_or_else(overrun)?;
        self.nested_left = self.nested_left.saturating_sub(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvproto::etcdserverpb::{RangeResponse, RangeStreamResponse, ResponseHeader};
    use kvproto::mvccpb::KeyValue;

    fn answer(count: usize) -> RangeResponse {
        let key_value = |n: usize| KeyValue {
            key: Bytes::from(format!("key {n}")),
            value: Bytes::from(vec![b'v'; n * 7]),
            mod_revision: 1 << n,
            ..KeyValue::default()
        };
        RangeResponse {
            header: Some(ResponseHeader {
                revision: 300,
                ..ResponseHeader::default()
            }),
            kvs: (0..count).map(key_value).collect(),
            more: true,
            count: 1 << 40,
        }
    }

    #[test]
    fn counts_are_the_same_however_the_bytes_are_cut() {
        let mut plain = BytesMut::new();
        let mut streamed = BytesMut::new();
        for count in [0, 1, 40, 3] {
            plain.extend_from_slice(&frame(&answer(count)));
            let chunk = RangeStreamResponse {
                range_response: Some(answer(count)),
            };
            streamed.extend_from_slice(&frame(&chunk));
        }
        for size in [1, 2, 3, 5, 64, 1 << 20] {
            for (bytes, descend) in [(&plain, None), (&streamed, Some(1))] {
                let mut counter = FieldCounter::new(2, descend);
                for chunk in bytes.chunks(size) {
                    counter.push(chunk).unwrap();
                }
                assert_eq!(
                    (counter.fields, counter.messages),
                    (44, 4),
                    "chunks of {size}"
                );
                assert!(counter.is_between_messages());
            }
        }
    }

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut bytes = BytesMut::new();
        for count in [2, 0, 9] {
            bytes.extend_from_slice(&frame(&answer(count)));
        }
        for size in [1, 4, 100, 1 << 20] {
            let mut buffer = MessageBuffer::default();
            let mut counts = Vec::new();
            for chunk in bytes.chunks(size) {
                buffer.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = buffer.take().unwrap() {
                    counts.push(RangeResponse::decode(message).unwrap().kvs.len());
                }
            }
            assert_eq!(counts, [2, 0, 9], "chunks of {size}");
            assert!(buffer.take_rest().is_empty());
        }
    }

    #[test]
    fn a_field_beyond_its_message_is_an_error() {
        let mut counter = FieldCounter::new(2, None);
        assert!(counter.push(&[0, 0, 0, 0, 3, 0x12, 9, 1, 1]).is_err());
    }
}
