//! Responses on their way out: values brought into memory, framed, in fragments where
//! the watcher asked for them, gathered into chunks of [`BODY_CHUNK_BYTES`].
//!
//! Part of the stream's task; waits in the body while the client does not read.
//! Invariant: the outbox is empty whenever the stream waits for something else.

use kvproto::etcdserverpb::{ResponseHeader, WatchResponse};
use storage::types::{EncodedKeyValue, Event, KeyValueRef};

use super::encode::{Head, ReadyEvent, put_events_response, put_response};
use super::stream::{End, Stream};
use super::watchers::fragment_events;
use crate::engine::Pin;
use crate::rpc::grpc::BODY_CHUNK_BYTES;

impl Stream {
    /// Brings the key-values of events into memory. `pin` holds those of history, the ring its
    /// own; None when the pin was revoked and one is gone.
    pub(super) async fn ready_events(
        &self,
        events: &[Event],
        pin: Option<&Pin>,
    ) -> Result<Option<Vec<ReadyEvent>>, End> {
        let values = self.handle.values();
        let mut ready = Vec::with_capacity(events.len());
        for event in events {
            let key_value = match pin {
                None => values.encoded(&event.key_value).await,
                Some(pin) => match values.encoded_held(&event.key_value, pin).await {
                    Ok(encoded) => encoded,
                    Err(_) => return Ok(None),
                },
            };
            let previous = match &event.previous {
                Some(previous) => self.predecessor(event, previous).await,
                None => None,
            };
            ready.push(ReadyEvent {
                deletion: event.meta.tombstone,
                key_value,
                previous,
            });
        }
        Ok(Some(ready))
    }

    /// The version that an event replaced. Events in the ring hold no pin: when
    /// compaction has passed the event, its predecessor may be gone, and the
    /// event goes out without, as etcd's do.
    async fn predecessor(&self, event: &Event, previous: &KeyValueRef) -> Option<EncodedKeyValue> {
        let values = self.handle.values();
        let found = values.encoded_unless_purged(previous).await;
        let purged = event.meta.revision.main <= self.handle.view().compacted_revision();
        if found.is_none() && !purged {
            // Lost: this ends the process and says which.
            return Some(values.encoded(previous).await);
        }
        found
    }

    /// Writes events of one watcher, in fragments if it asked for them.
    pub(super) async fn send_events<'a>(
        &mut self,
        id: i64,
        header: ResponseHeader,
        events: impl Iterator<Item = &'a ReadyEvent> + Clone,
    ) -> Result<(), End> {
        let watcher = self
            .watchers
            .get_mut(id)
            .expect("only a present watcher is served");
        watcher.spoke = true;
        let (prev_kv, fragment) = (watcher.prev_kv, watcher.fragment);
        self.outbox_events += events.clone().count();
        let head = Head {
            header,
            watch_id: id,
            fragment: false,
        };
        let fragment_bytes = self.options.fragment_bytes;
        let bytes = || -> usize {
            let lengths = events.clone().map(|event| event.encoded_len(prev_kv));
            lengths.sum()
        };
        if fragment && head.encoded_len() + bytes() >= fragment_bytes {
            let events: Vec<&ReadyEvent> = events.collect();
            return self.send_fragments(head, prev_kv, &events).await;
        }
        put_events_response(head, prev_kv, events, &mut self.outbox)?;
        self.send_full_chunk().await
    }

    async fn send_fragments(
        &mut self,
        head: Head,
        prev_kv: bool,
        events: &[&ReadyEvent],
    ) -> Result<(), End> {
        let fragment_bytes = self.options.fragment_bytes;
        let part_head = Head {
            fragment: true,
            ..head
        };
        let mut rest = events;
        while !rest.is_empty() {
            let sizes = rest.iter().map(|event| event.encoded_len(prev_kv));
            let count = fragment_events(part_head.encoded_len(), sizes, fragment_bytes);
            let (part, later) = rest.split_at(count);
            let head = Head {
                fragment: !later.is_empty(),
                ..head
            };
            put_events_response(head, prev_kv, part.iter().copied(), &mut self.outbox)?;
            self.send_full_chunk().await?;
            rest = later;
        }
        Ok(())
    }

    /// Writes one response without events.
    pub(super) async fn send(&mut self, response: &WatchResponse) -> Result<(), End> {
        put_response(response, &mut self.outbox)?;
        self.send_full_chunk().await
    }

    /// Hands the outbox to the client once it holds a chunk.
    async fn send_full_chunk(&mut self) -> Result<(), End> {
        if self.outbox.len() < BODY_CHUNK_BYTES {
            return Ok(());
        }
        self.send_outbox().await
    }

    /// Hands what was written to the client; waits while it takes none.
    pub(super) async fn send_outbox(&mut self) -> Result<(), End> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.outbox).freeze();
        self.gauges.sending(std::mem::take(&mut self.outbox_events));
        self.body.send(chunk).await?;
        self.gauges.sent();
        Ok(())
    }
}
