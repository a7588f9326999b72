//! Range's one message: small ones as one frame, large ones in chunks of
//! [`BODY_CHUNK_BYTES`] with their length said before.

use bytes::{BufMut, Bytes};
use kvproto::etcdserverpb as pb;
use prost::Message;
use prost::encoding::encode_varint;
use storage::apply::Projection;
use storage::mvcc::key_value::Fields;
use storage::types::KeyValueRef;
use tonic::Status;

use super::{FETCH_KEY_VALUES_MAX, Reader, Stop, Summary};
use crate::rpc::convert::{Projected, projected, projected_len};
use crate::rpc::grpc::{BodySender, FRAME_HEADER_BYTES, Pieces, frame_header};
use crate::runtime::field_bytes;

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
            let values = self.context.handle.values();
            values
                .make_resident(&mut key_values, &self.read.pin)
                .await?;
        }
        let mut buffer = Vec::with_capacity(capacity);
        buffer.put_slice(&frame);
        buffer.put_slice(&head);
        for reference in &key_values {
            match projected(reference, self.plan.projection()) {
                Projected::Whole(encoded) => {
                    put_head(encoded.0.len(), &mut buffer);
                    buffer.put_slice(&encoded.0);
                }
                Projected::Part(fields) => put_part(&fields, &mut buffer),
            }
        }
        buffer.put_slice(&tail);
        assert_eq!(buffer.len(), capacity, "lengths were summed wrongly");
        Ok(buffer.into())
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
        let mut chunk = Pieces::with_room();
        chunk.put_slice(&frame_header(length)?);
        chunk.put_slice(&head);
        let written = self.write_chunks(sender, &mut chunk, key_values).await?;
        assert_eq!(written, body_len, "lengths were summed wrongly");
        chunk.put_slice(&tail);
        sender.send(chunk).await?;
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
        let mut chunk = Pieces::with_room();
        chunk.put_slice(&frame_header(length)?);
        chunk.put_slice(&head);
        let written = self.write_slices(sender, &mut chunk, limit).await?;
        assert_eq!(
            written, body_len,
            "a pinned revision changed between two passes"
        );
        chunk.put_slice(&tail);
        sender.send(chunk).await?;
        Ok(())
    }

    /// Reads so many key-values, slice by slice, and appends them to the chunk.
    pub(super) async fn write_slices(
        &mut self,
        sender: &BodySender,
        chunk: &mut Pieces,
        limit: usize,
    ) -> Result<u64, Stop> {
        let mut written = 0;
        let mut left = limit;
        let mut from = None;
        while left > 0 {
            let (mut key_values, next) = self.slice(from.as_ref()).await?;
            key_values.truncate(left);
            left -= key_values.len();
            written += self.write_chunks(sender, chunk, key_values).await?;
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        Ok(written)
    }

    /// Appends key-values to the chunk; a chunk that the next one does not fit into is sent.
    pub(super) async fn write_chunks(
        &self,
        sender: &BodySender,
        chunk: &mut Pieces,
        key_values: Vec<KeyValueRef>,
    ) -> Result<u64, Stop> {
        let mut written = 0;
        for group in key_values.chunks(FETCH_KEY_VALUES_MAX) {
            let fetched = self.fetched(group).await?;
            for reference in fetched.as_deref().unwrap_or(group) {
                let length = self.field_len(reference);
                let fits = usize::try_from(length).expect("it fits in memory");
                sender.make_room(chunk, fits).await?;
                match projected(reference, self.plan.projection()) {
                    Projected::Whole(encoded) => {
                        chunk.put(|small| put_head(encoded.0.len(), small));
                        chunk.put_encoded(encoded);
                    }
                    Projected::Part(fields) => chunk.put(|small| put_part(&fields, small)),
                }
                written += length;
            }
        }
        Ok(written)
    }

    /// The group with its values in memory; None when they are, or are not wanted.
    async fn fetched(&self, group: &[KeyValueRef]) -> Result<Option<Vec<KeyValueRef>>, Stop> {
        let is_resident = |reference: &KeyValueRef| matches!(reference, KeyValueRef::Resident(_));
        if self.plan.projection() != Projection::Whole || group.iter().all(is_resident) {
            return Ok(None);
        }
        let mut group = group.to_vec();
        let values = self.context.handle.values();
        values.make_resident(&mut group, &self.read.pin).await?;
        Ok(Some(group))
    }

    /// Bytes of one key-value in the answer.
    pub(super) fn field_len(&self, reference: &KeyValueRef) -> u64 {
        let length = projected_len(reference, self.plan.projection());
        field_bytes(length)
    }
}

/// What is encoded before and after the key-values (fields 1, and 3 and 4).
pub(super) fn around(summary: &Summary) -> (Vec<u8>, Vec<u8>) {
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

fn put_head(length: usize, buffer: &mut Vec<u8>) {
    buffer.put_u8(KVS_TAG);
    encode_varint(length as u64, buffer);
}

fn put_part(fields: &Fields<'_>, buffer: &mut Vec<u8>) {
    put_head(fields.encoded_len(), buffer);
    fields.encode_into(buffer);
}
