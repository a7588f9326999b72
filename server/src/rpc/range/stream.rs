//! RangeStream's messages: key-values alone, then a last message with header, more
//! and count (contract 1.5). Merged they equal Range's answer.
//!
//! Limits: a message holds about `--max-request-bytes`; its key limit starts at
//! [`STREAM_FIRST_KEYS`], doubles and halves.

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use storage::apply::Projection;
use storage::types::{Key, KeyValueRef};
use tonic::Status;

use super::{Reader, Stop, Summary};
use crate::rpc::convert;
use crate::rpc::grpc::{BodySender, frame_message};

/// Keys of the first message of a stream (contract 1.5).
const STREAM_FIRST_KEYS: usize = 10;

impl Reader {
    /// The messages of RangeStream: key-values alone, then a last message that
    /// carries header, more and count (contract 1.5).
    pub(super) async fn stream_messages(&mut self, sender: &BodySender) -> Result<(), Stop> {
        if self.plan.count_only() {
            let count = self.count_from(None, 0).await?;
            sender
                .send(last_message(&self.summary(false, count), Vec::new())?)
                .await?;
            return Ok(());
        }
        let message_bytes = self.context.options.request_bytes_max as u64;
        let limit = self.plan.limit().unwrap_or(usize::MAX);
        let mut keys_max = STREAM_FIRST_KEYS;
        let mut waiting: Vec<KeyValueRef> = Vec::new();
        let mut waiting_bytes = 0;
        let (mut shown, mut more) = (0, false);
        let mut last: Option<Key> = None;
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
                    let message = self.stream_message(full).await;
                    sender.send(frame_message(&message)?).await?;
                }
                shown += 1;
                waiting_bytes += self.field_len(&reference);
                last = Some(reference.key().into());
                waiting.push(reference);
            }
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
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
        let rest = self.messages(waiting).await;
        sender
            .send(last_message(&self.summary(more, count), rest)?)
            .await?;
        Ok(())
    }

    async fn stream_message(&self, references: Vec<KeyValueRef>) -> pb::RangeStreamResponse {
        let kvs = self.messages(references).await;
        pb::RangeStreamResponse {
            range_response: Some(pb::RangeResponse {
                kvs,
                ..Default::default()
            }),
        }
    }

    /// etcd sorts each message of a stream for itself when a target is named
    /// without an order.
    async fn messages(&self, mut references: Vec<KeyValueRef>) -> Vec<kvproto::mvccpb::KeyValue> {
        if self.plan.projection() == Projection::Whole || self.plan.sorts_by_value() {
            let values = self.context.handle.values();
            values.make_resident(&mut references).await;
        }
        if !self.plan.in_key_order() {
            (references, _) = self.plan.arrange(references);
        }
        references
            .iter()
            .map(|reference| convert::key_value(&self.encoded(reference)))
            .collect()
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

fn last_message(summary: &Summary, kvs: Vec<kvproto::mvccpb::KeyValue>) -> Result<Bytes, Status> {
    let response = pb::RangeResponse {
        kvs,
        ..summary.message()
    };
    frame_message(&pb::RangeStreamResponse {
        range_response: Some(response),
    })
}
