//! Range's one message: small ones as one frame, large ones in chunks of
//! [`BODY_CHUNK_BYTES`] with their length said before.

use bytes::{BufMut, Bytes, BytesMut};
use kvproto::etcdserverpb as pb;
use prost::Message;
use prost::encoding::encode_varint;
use storage::apply::Projection;
use storage::types::{EncodedKeyValue, KeyValueRef};
use tonic::Status;

use super::{FETCH_KEY_VALUES_MAX, Reader, Stop, Summary};
use crate::rpc::grpc::{BODY_CHUNK_BYTES, BodySender, FRAME_HEADER_BYTES, frame_header};

/// Wire tag of `RangeResponse.kvs` (field 2, length-delimited).
const KVS_TAG: u8 = 2 << 3 | 2;

impl Reader {
    /// A small answer as one frame.
    pub(super) async fn whole(
        &self,
        summary: &Summary,
        body_len: u64,
        mut key_values: Vec<KeyValueRef>,
    ) -> Result<Bytes, Status> {
        let (head, tail) = around(summary);
        let length = head.len() as u64 + body_len + tail.len() as u64;
        let capacity = FRAME_HEADER_BYTES + usize::try_from(length).expect("it fits in memory");
        let frame = frame_header(length)?;
        if self.plan.projection() == Projection::Whole {
            self.context
                .handle
                .values()
                .make_resident(&mut key_values)
                .await;
        }
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.put_slice(&frame);
        buffer.put_slice(&head);
        for reference in &key_values {
            put_key_value(&self.encoded(reference), &mut buffer);
        }
        buffer.put_slice(&tail);
        assert_eq!(buffer.len(), capacity, "lengths were summed wrongly");
        Ok(buffer.freeze())
    }

    /// A large answer whose references are at hand, in many chunks.
    pub(super) async fn stream_collected(
        &self,
        sender: &BodySender,
        summary: Summary,
        body_len: u64,
        key_values: Vec<KeyValueRef>,
    ) -> Result<(), Stop> {
        let (head, tail) = around(&summary);
        let length = head.len() as u64 + body_len + tail.len() as u64;
        let mut buffer = BytesMut::with_capacity(2 * BODY_CHUNK_BYTES);
        buffer.put_slice(&frame_header(length)?);
        buffer.put_slice(&head);
        let written = self.write_chunks(sender, &mut buffer, key_values).await?;
        assert_eq!(written, body_len, "lengths were summed wrongly");
        buffer.put_slice(&tail);
        sender.send(buffer.freeze()).await?;
        Ok(())
    }

    /// The second pass of a large unary answer: one message in many chunks.
    pub(super) async fn stream_one(
        &mut self,
        sender: &BodySender,
        summary: Summary,
        body_len: u64,
        limit: usize,
    ) -> Result<(), Stop> {
        let (head, tail) = around(&summary);
        let length = head.len() as u64 + body_len + tail.len() as u64;
        let mut buffer = BytesMut::with_capacity(2 * BODY_CHUNK_BYTES);
        buffer.put_slice(&frame_header(length)?);
        buffer.put_slice(&head);
        let mut written = 0;
        let mut left = limit;
        let mut from = None;
        while left > 0 {
            let (mut key_values, next) = self.slice(from.as_ref()).await?;
            key_values.truncate(left);
            left -= key_values.len();
            written += self.write_chunks(sender, &mut buffer, key_values).await?;
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        assert_eq!(
            written, body_len,
            "a pinned revision changed between two passes"
        );
        buffer.put_slice(&tail);
        sender.send(buffer.freeze()).await?;
        Ok(())
    }

    async fn write_chunks(
        &self,
        sender: &BodySender,
        buffer: &mut BytesMut,
        key_values: Vec<KeyValueRef>,
    ) -> Result<u64, Stop> {
        let mut written = 0;
        for group in key_values.chunks(FETCH_KEY_VALUES_MAX) {
            let mut group = group.to_vec();
            if self.plan.projection() == Projection::Whole {
                let values = self.context.handle.values();
                values.make_resident(&mut group).await;
            }
            for reference in &group {
                written += self.field_len(reference);
                put_key_value(&self.encoded(reference), buffer);
                if buffer.len() >= BODY_CHUNK_BYTES {
                    sender.send(buffer.split().freeze()).await?;
                    buffer.reserve(2 * BODY_CHUNK_BYTES);
                }
            }
        }
        Ok(written)
    }
}

/// What is encoded before and after the key-values (fields 1, and 3 and 4).
fn around(summary: &Summary) -> (Vec<u8>, Vec<u8>) {
    let head = pb::RangeResponse {
        header: Some(summary.header),
        ..Default::default()
    };
    let tail = pb::RangeResponse {
        header: None,
        ..summary.message()
    };
    (head.encode_to_vec(), tail.encode_to_vec())
}

fn put_key_value(encoded: &EncodedKeyValue, buffer: &mut BytesMut) {
    buffer.put_u8(KVS_TAG);
    encode_varint(encoded.0.len() as u64, buffer);
    buffer.put_slice(&encoded.0);
}
