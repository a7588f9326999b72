//! Watchers that are behind read history until they reach the stream's position
//! (contract 1.9).
//!
//! Part of the stream's task. Invariant: a watcher below the compacted revision is
//! cancelled with it, never given a gap. Limits: [`HISTORY_BATCH_REVISIONS`],
//! [`CATCH_UP_RESPONSE_BYTES`].

use kvproto::etcdserverpb::WatchResponse;
use storage::types::{Event, RevisionEvents};
use tonic::Status;

use super::cursor::Behind;
use super::encode::ReadyEvent;
use super::stream::{End, Stream};
use crate::engine::Pin;

/// Revisions of history read for one catch-up step; etcd's batch (contract 1.9).
const HISTORY_BATCH_REVISIONS: usize = 1000;

/// Bytes of events that one catch-up response is closed at (whole revisions).
const CATCH_UP_RESPONSE_BYTES: usize = 1 << 20;

impl Stream {
    /// One step for the watchers that are behind: a batch of history for those
    /// furthest back; who has reached the stream's position is synced.
    pub(super) async fn catch_up(&mut self) -> Result<(), End> {
        let from = match self.cursor.behind(&self.watchers) {
            Behind::Nobody => return Ok(()),
            Behind::Arrived => return self.sync_up_to_date(self.cursor.position()).await,
            Behind::Needs(from) => from,
        };
        let history = match self.handle.history(from, HISTORY_BATCH_REVISIONS).await {
            Ok(history) => history,
            Err(rejected) => return Err(End::Failed(Status::from(rejected))),
        };
        self.cancel_compacted(history.compacted_revision).await?;
        let through = self.cursor.used_through(history.through);
        let revisions: Vec<&RevisionEvents> = history
            .revisions
            .iter()
            .filter(|events| events.revision <= through)
            .collect();
        for id in self.watchers.behind_up_to(through) {
            self.catch_up_one(id, &revisions, through, &history.pin)
                .await?;
        }
        self.watchers.sync_arrived(self.cursor.position());
        Ok(())
    }

    async fn catch_up_one(
        &mut self,
        id: i64,
        revisions: &[&RevisionEvents],
        through: i64,
        pin: &Pin,
    ) -> Result<(), End> {
        let header = self.header(self.handle.view().revision());
        let mut waiting: Vec<ReadyEvent> = Vec::new();
        let mut waiting_bytes = 0;
        let mut next_revision = through + 1;
        for revision in revisions {
            let watcher = self.watchers.get_mut(id).expect("chosen by the caller");
            if revision.revision < watcher.next_revision {
                continue;
            }
            let prev_kv = watcher.prev_kv;
            let wanted: Vec<Event> = revision
                .events
                .iter()
                .filter(|event| watcher.wants(event))
                .cloned()
                .collect();
            let Some(ready) = self.ready_events(&wanted, Some(pin)).await? else {
                // It stood still until compaction had passed it: the next step cancels it.
                next_revision = revision.revision;
                break;
            };
            waiting_bytes += ready
                .iter()
                .map(|event| event.encoded_len(prev_kv))
                .sum::<usize>();
            waiting.extend(ready);
            if waiting_bytes >= CATCH_UP_RESPONSE_BYTES {
                self.send_events(id, header, waiting.iter()).await?;
                waiting.clear();
                waiting_bytes = 0;
            }
        }
        if !waiting.is_empty() {
            self.send_events(id, header, waiting.iter()).await?;
        }
        let watcher = self.watchers.get_mut(id).expect("chosen by the caller");
        watcher.next_revision = next_revision;
        Ok(())
    }

    async fn cancel_compacted(&mut self, compacted_revision: i64) -> Result<(), End> {
        for id in self.watchers.lost(compacted_revision) {
            let watcher = self.watchers.remove(id).expect("it was just listed");
            self.hub.unregister(&watcher.interval, &self.signal);
            // Header revision 0 and an empty reason: the compact revision says all.
            let canceled = WatchResponse {
                header: Some(self.header(0)),
                watch_id: id,
                canceled: true,
                compact_revision: compacted_revision,
                ..Default::default()
            };
            self.send(&canceled).await?;
        }
        Ok(())
    }
}
