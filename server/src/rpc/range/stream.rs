//! RangeStream's messages: key-values alone, then a last message with header, more
//! and count (contract 1.5). Merged they equal Range's answer.
//!
//! Limits: a message holds about `--max-request-bytes`; its key limit starts at
//! [`STREAM_FIRST_KEYS`], doubles and halves.

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};
use storage::types::{Key, KeyValueRef};

use super::body::around;
use super::{Reader, Stop, Summary};
use crate::rpc::grpc::{BodySender, Pieces, frame_header};

/// Wire tag of `RangeStreamResponse.range_response` (field 1, length-delimited).
const RANGE_RESPONSE_TAG: u8 = 1 << 3 | 2;

/// Keys of the first message of a stream (contract 1.5).
const STREAM_FIRST_KEYS: usize = 10;

impl Reader {
    /// The messages of RangeStream: key-values alone, then a last message that
    /// carries header, more and count (contract 1.5).
    pub(super) async fn stream_messages(&mut self, sender: &BodySender) -> Result<(), Stop> {
        if self.plan.count_only() {
            let count = self.count_from(None, 0).await?;
            let mut chunk = Pieces::default();
            let summary = self.summary(false, count);
            self.write_message(sender, &mut chunk, Some(&summary), Vec::new())
                .await?;
            sender.send(chunk).await?;
            return Ok(());
        }
        let message_bytes = self.context.options.request_bytes_max as u64;
        let limit = self.plan.limit().unwrap_or(usize::MAX);
        let mut keys_max = STREAM_FIRST_KEYS;
        let mut chunk = Pieces::with_room();
        let mut waiting: Vec<KeyValueRef> = Vec::new();
        let mut waiting_bytes = 0;
        let (mut shown, mut more) = (0, false);
        let mut from = None;
        'walk: loop {
            let (key_values, next) = self.slice(from.as_ref()).await?;
            for reference in key_values {
                if shown == limit {
                    more = true;
                    break 'walk;
                }
                // Only what is followed by another one may go out: the last
                // message is never empty unless all are.
                if waiting.len() >= keys_max || waiting_bytes >= message_bytes {
                    let full = std::mem::take(&mut waiting);
                    keys_max = next_keys_max(keys_max, waiting_bytes, message_bytes);
                    waiting_bytes = 0;
                    self.write_message(sender, &mut chunk, None, full).await?;
                }
                shown += 1;
                waiting_bytes += self.field_len(&reference);
                waiting.push(reference);
            }
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        // What waits is empty only when nothing was shown.
        let last: Option<Key> = waiting.last().map(|last| last.key().into());
        let count = match (more, self.read.count) {
            (_, Some(count)) => count,
            (false, None) => i64::try_from(shown).expect("keys are counted in 63 bits"),
            (true, None) => {
                let shown = i64::try_from(shown).expect("keys are counted in 63 bits");
                self.count_from(last.as_ref(), shown).await?
            }
        };
        self.remember_page(last.as_deref(), shown, more, count)
            .await;
        let summary = self.summary(more, count);
        self.write_message(sender, &mut chunk, Some(&summary), waiting)
            .await?;
        sender.send(chunk).await?;
        Ok(())
    }

    /// Appends one message, the last one with its summary, to the chunk; full chunks are sent.
    /// etcd sorts each message of a stream for itself when a target is named without an order.
    async fn write_message(
        &self,
        sender: &BodySender,
        chunk: &mut Pieces,
        summary: Option<&Summary>,
        mut references: Vec<KeyValueRef>,
    ) -> Result<(), Stop> {
        if !self.plan.in_key_order() {
            if self.plan.sorts_by_value() {
                let values = self.context.handle.values();
                values
                    .make_resident(&mut references, &self.read.pin)
                    .await?;
            }
            (references, _) = self.plan.arrange(references);
        }
        let (head, tail) = summary.map(around).unwrap_or_default();
        let body_len = self.fields_len(&references);
        let inner = head.len() as u64 + body_len + tail.len() as u64;
        let length = 1 + encoded_len_varint(inner) as u64 + inner;
        chunk.put_slice(&frame_header(length)?);
        chunk.put(|small| {
            small.put_u8(RANGE_RESPONSE_TAG);
            encode_varint(inner, small);
        });
        chunk.put_slice(&head);
        let written = self.write_chunks(sender, chunk, references).await?;
        assert_eq!(written, body_len, "lengths were summed wrongly");
        chunk.put_slice(&tail);
        Ok(())
    }
}

/// Doubles while messages are small, halves when they are large (contract 1.5).
fn next_keys_max(keys_max: usize, bytes: u64, wanted: u64) -> usize {
    if bytes < wanted / 2 {
        keys_max.saturating_mul(2)
    } else if bytes > wanted.saturating_mul(2) {
        (keys_max / 2).max(1)
    } else {
        keys_max
    }
}
