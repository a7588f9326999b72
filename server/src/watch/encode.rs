//! The bytes of watch responses. The key-values come encoded from the index and
//! are shared by all watchers; only the framing is made here, for each watcher.
//!
//! Pure functions; byte-identical to what the generated messages would encode.

use bytes::{BufMut, BytesMut};
use kvproto::etcdserverpb::{ResponseHeader, WatchResponse};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use storage::types::EncodedKeyValue;
use tonic::Status;

use crate::rpc::grpc::{BODY_CHUNK_BYTES, FRAME_HEADER_BYTES, frame_header};

/// An event whose key-values are in memory.
#[derive(Clone, Debug)]
pub(super) struct ReadyEvent {
    pub(super) deletion: bool,
    pub(super) key_value: EncodedKeyValue,
    pub(super) previous: Option<EncodedKeyValue>,
}

/// Wire tag of `WatchResponse.events` (field 11, length-delimited).
const EVENTS_TAG: u8 = 11 << 3 | 2;
/// Wire bytes of `Event.type = DELETE`.
const TYPE_DELETE: [u8; 2] = [1 << 3, 1];
/// Wire tag of `Event.kv`.
const KV_TAG: u8 = 2 << 3 | 2;
/// Wire tag of `Event.prev_kv`.
const PREV_KV_TAG: u8 = 3 << 3 | 2;

impl ReadyEvent {
    /// Bytes of the event's message, without tag and length.
    fn body_len(&self, prev_kv: bool) -> usize {
        let previous = self.previous.as_ref().filter(|_| prev_kv);
        let deletion = if self.deletion { TYPE_DELETE.len() } else { 0 };
        deletion
            + field_len(self.key_value.0.len())
            + previous.map_or(0, |previous| field_len(previous.0.len()))
    }

    /// Bytes that the event takes in a response.
    pub(super) fn encoded_len(&self, prev_kv: bool) -> usize {
        field_len(self.body_len(prev_kv))
    }

    fn encode(&self, prev_kv: bool, buffer: &mut BytesMut) {
        buffer.put_u8(EVENTS_TAG);
        encode_varint(self.body_len(prev_kv) as u64, buffer);
        if self.deletion {
            buffer.put_slice(&TYPE_DELETE);
        }
        put_field(KV_TAG, &self.key_value.0, buffer);
        if let Some(previous) = self.previous.as_ref().filter(|_| prev_kv) {
            put_field(PREV_KV_TAG, &previous.0, buffer);
        }
    }
}

/// What stands before the events of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) header: ResponseHeader,
    pub(super) watch_id: i64,
    pub(super) fragment: bool,
}

impl Head {
    fn message(self) -> WatchResponse {
        WatchResponse {
            header: Some(self.header),
            watch_id: self.watch_id,
            fragment: self.fragment,
            ..Default::default()
        }
    }

    /// Bytes of a response without events.
    pub(super) fn encoded_len(self) -> usize {
        self.message().encoded_len()
    }
}

/// Appends a framed response with events of one watcher.
///
/// # Errors
/// When the message is longer than gRPC can say.
pub(super) fn put_events_response<'a>(
    head: Head,
    prev_kv: bool,
    events: impl Iterator<Item = &'a ReadyEvent> + Clone,
    buffer: &mut BytesMut,
) -> Result<(), Status> {
    let head = head.message();
    let events_len: usize = events.clone().map(|event| event.encoded_len(prev_kv)).sum();
    let length = head.encoded_len() + events_len;
    make_room(FRAME_HEADER_BYTES + length, buffer);
    let end = buffer.len() + FRAME_HEADER_BYTES + length;
    buffer.put_slice(&frame_header(length as u64)?);
    // `events` has the highest field number, so they follow all other fields.
    head.encode(buffer).expect("the buffer is large enough");
    for event in events {
        event.encode(prev_kv, buffer);
    }
    assert_eq!(buffer.len(), end, "lengths were summed wrongly");
    Ok(())
}

/// Appends a framed response without events.
///
/// # Errors
/// As [`put_events_response`].
pub(super) fn put_response(response: &WatchResponse, buffer: &mut BytesMut) -> Result<(), Status> {
    let length = response.encoded_len();
    make_room(FRAME_HEADER_BYTES + length, buffer);
    buffer.put_slice(&frame_header(length as u64)?);
    response.encode(buffer).expect("the buffer is large enough");
    Ok(())
}

/// A first response takes what it needs, since most are alone; with the second comes the room for
/// a whole chunk.
fn make_room(length: usize, buffer: &mut BytesMut) {
    if buffer.is_empty() {
        buffer.reserve(length);
    } else if buffer.capacity() - buffer.len() < length {
        let chunk = BODY_CHUNK_BYTES.saturating_sub(buffer.len());
        buffer.reserve(chunk + length);
    }
}

fn field_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn put_field(tag: u8, bytes: &[u8], buffer: &mut BytesMut) {
    buffer.put_u8(tag);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kvproto::mvccpb::event::EventType;
    use kvproto::mvccpb::{Event, KeyValue};

    fn encoded(key_value: &KeyValue) -> EncodedKeyValue {
        EncodedKeyValue(key_value.encode_to_vec().into())
    }

    #[test]
    fn equals_the_generated_encoding() {
        let long = vec![b'v'; 300];
        let new = KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            mod_revision: 900,
            version: 3,
            value: long.into(),
            lease: -5,
        };
        let old = KeyValue {
            mod_revision: 7,
            value: Bytes::new(),
            ..new.clone()
        };
        let gone = KeyValue {
            key: new.key.clone(),
            mod_revision: 901,
            ..Default::default()
        };
        let ready = [
            ReadyEvent {
                deletion: false,
                key_value: encoded(&new),
                previous: Some(encoded(&old)),
            },
            ReadyEvent {
                deletion: true,
                key_value: encoded(&gone),
                previous: Some(encoded(&new)),
            },
            ReadyEvent {
                deletion: false,
                key_value: encoded(&old),
                previous: None,
            },
        ];
        for prev_kv in [false, true] {
            for fragment in [false, true] {
                let header = ResponseHeader {
                    revision: 901,
                    raft_term: 2,
                    ..Default::default()
                };
                let head = Head {
                    header,
                    watch_id: 5,
                    fragment,
                };
                let mut bytes = BytesMut::new();
                put_events_response(head, prev_kv, ready.iter(), &mut bytes).unwrap();
                let put = EventType::Put as i32;
                let wanted = WatchResponse {
                    header: Some(header),
                    watch_id: 5,
                    fragment,
                    events: vec![
                        Event {
                            r#type: put,
                            kv: Some(new.clone()),
                            prev_kv: prev_kv.then(|| old.clone()),
                        },
                        Event {
                            r#type: EventType::Delete as i32,
                            kv: Some(gone.clone()),
                            prev_kv: prev_kv.then(|| new.clone()),
                        },
                        Event {
                            r#type: put,
                            kv: Some(old.clone()),
                            prev_kv: None,
                        },
                    ],
                    ..Default::default()
                };
                assert_eq!(bytes[FRAME_HEADER_BYTES..], wanted.encode_to_vec());
            }
        }
    }
}
