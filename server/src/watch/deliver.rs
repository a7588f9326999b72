//! Events of one watcher on their way out: values brought into memory, framed, in
//! fragments where the watcher asked for them.
//!
//! Part of the stream's task; waits in the body while the client does not read.

use kvproto::etcdserverpb::WatchResponse;
use prost::Message;
use storage::types::{EncodedKeyValue, Event, KeyValueRef};

use super::encode::{ReadyEvent, events_response};
use super::stream::{End, Stream};

impl Stream {
    /// Brings the key-values of events into memory.
    pub(super) async fn ready_events(&self, events: &[Event]) -> Result<Vec<ReadyEvent>, End> {
        let mut ready = Vec::with_capacity(events.len());
        for event in events {
            let previous = match &event.previous {
                Some(previous) => self.predecessor(event, previous).await,
                None => None,
            };
            ready.push(ReadyEvent {
                deletion: event.meta.tombstone,
                key_value: self.handle.values().encoded(&event.key_value).await,
                previous,
            });
        }
        Ok(ready)
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

    /// Sends events of one watcher, in fragments if it asked for them.
    pub(super) async fn send_events(
        &mut self,
        id: i64,
        header_revision: i64,
        events: &[&ReadyEvent],
    ) -> Result<(), End> {
        if events.is_empty() {
            return Ok(());
        }
        self.gauges.sending(events.len());
        let header = self.header(header_revision);
        let fragment_bytes = self.options.fragment_bytes;
        let watcher = self
            .watchers
            .get_mut(id)
            .expect("only a present watcher is served");
        watcher.spoke = true;
        let (prev_kv, fragment) = (watcher.prev_kv, watcher.fragment);
        let bytes: usize = events.iter().map(|event| event.encoded_len(prev_kv)).sum();
        let head = WatchResponse {
            header: Some(header),
            watch_id: id,
            ..Default::default()
        };
        if !fragment || head.encoded_len() + bytes < fragment_bytes {
            let response = events_response(header, id, false, prev_kv, events)?;
            self.body.send(response).await?;
            self.gauges.sent();
            return Ok(());
        }
        let part_head = WatchResponse {
            fragment: true,
            ..head
        };
        let mut rest = events;
        while !rest.is_empty() {
            let mut size = part_head.encoded_len();
            let fitting = rest.iter().take_while(|event| {
                size += event.encoded_len(prev_kv);
                size < fragment_bytes
            });
            // One event always goes, however large.
            let (part, later) = rest.split_at(fitting.count().max(1));
            let response = events_response(header, id, !later.is_empty(), prev_kv, part)?;
            self.body.send(response).await?;
            rest = later;
        }
        self.gauges.sent();
        Ok(())
    }
}
