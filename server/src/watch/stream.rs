//! One Watch call: a task that owns its watchers and writes their responses in
//! order (contract 1.9).
//!
//! Events and progress leave through one ordered body, so progress never
//! overtakes an event. While the client does not read, the task stands still in
//! `send`; later it goes on from its position, by the ring or by history.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use storage::error::Refusal;
use storage::types::{Event, RevisionEvents};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::Status;

use super::encode::{ReadyEvent, events_response};
use super::gauges::Gauges;
use super::hub::{Hub, Signal};
use super::range_index::KeyInterval;
use super::watchers::{Watcher, Watchers};
use crate::rpc::grpc::{BodySender, Closed, MessageStream, frame_message};
use crate::rpc::status;
use crate::runtime::{Handle, Rejected};

/// Revisions taken from the ring under one lock.
const RING_BATCH_REVISIONS: usize = 64;

/// Revisions of history read for one catch-up step; etcd's batch (contract 1.9).
const HISTORY_BATCH_REVISIONS: usize = 1000;

/// Bytes of events that one catch-up response is closed at (whole revisions).
const CATCH_UP_RESPONSE_BYTES: usize = 1 << 20;

/// What a stream must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Interval of progress notifications.
    pub progress_interval: Duration,
    /// Bytes above which a watcher that asked for it gets fragments.
    pub fragment_bytes: usize,
}

/// Why a stream ends.
enum End {
    ClientGone,
    Failed(Status),
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> End {
        End::ClientGone
    }
}

impl From<Status> for End {
    fn from(status: Status) -> End {
        End::Failed(status)
    }
}

/// Serves one Watch call until the client goes or the member stops.
pub async fn serve(
    mut requests: MessageStream<WatchRequest>,
    body: BodySender,
    handle: Handle,
    options: StreamOptions,
) {
    let hub = Arc::clone(handle.hub());
    let mut stream = Stream {
        watchers: Watchers::default(),
        signal: Arc::new(Signal::default()),
        position: handle.view().revision(),
        hub,
        gauges: Gauges::new(Arc::clone(handle.metrics())),
        handle,
        body,
        options,
    };
    let end = stream.run(&mut requests).await;
    for (_, watcher) in stream.watchers.iter() {
        stream.hub.unregister(&watcher.interval, &stream.signal);
    }
    if let Err(End::Failed(status)) = end {
        stream.body.end(status).await;
    }
}

struct Stream {
    watchers: Watchers,
    signal: Arc<Signal>,
    /// Every event up to here was given to the synced watchers.
    position: i64,
    hub: Arc<Hub>,
    gauges: Gauges,
    handle: Handle,
    body: BodySender,
    options: StreamOptions,
}

impl Stream {
    async fn run(&mut self, requests: &mut MessageStream<WatchRequest>) -> Result<(), End> {
        let mut progress = progress_timer(self.options.progress_interval);
        let mut half_closed = false;
        let signal = Arc::clone(&self.signal);
        loop {
            self.gauges.update(&self.watchers);
            let gone = self.body.clone();
            tokio::select! {
                biased;
                () = gone.closed() => return Err(End::ClientGone),
                () = self.handle.stopped() => {
                    return Err(End::Failed(Rejected::Stopped.into()));
                }
                request = requests.next(), if !half_closed => match request? {
                    // A client that closes its side goes on receiving (contract 1.9).
                    None => half_closed = true,
                    Some(request) => self.request(request).await?,
                },
                () = signal.rung() => self.deliver_news().await?,
                _ = progress.tick() => self.notify_progress().await?,
                () = std::future::ready(()), if self.watchers.any_behind() => {
                    self.catch_up().await?;
                }
            }
        }
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), End> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel).await,
            Some(RequestUnion::ProgressRequest(_)) => self.answer_progress_request().await,
            None => Ok(()),
        }
    }

    async fn create(&mut self, mut request: WatchCreateRequest) -> Result<(), End> {
        if request.key.is_empty() {
            request.key = Bytes::from_static(b"\0");
        }
        let interval = KeyInterval {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
        };
        let compacted = status::refused(&Refusal::Compacted);
        let refusal = if request.start_revision < 0 {
            Some(compacted.message())
        } else if interval.is_empty() {
            Some("mvcc: watcher range is empty")
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.refuse_create(reason).await;
        }
        let Some(id) = self.watchers.choose_id(request.watch_id) else {
            return self
                .refuse_create("mvcc: duplicate watch ID provided on the WatchStream")
                .await;
        };
        let published = self.hub.register(&interval, &self.signal);
        let next = if request.start_revision == 0 {
            published + 1
        } else {
            request.start_revision
        };
        self.watchers
            .insert(id, Watcher::new(&request, interval, next));
        self.gauges.update(&self.watchers);
        let created = WatchResponse {
            header: Some(self.header(published)),
            watch_id: id,
            created: true,
            ..Default::default()
        };
        self.send(&created).await?;
        self.sync_up_to_date(published).await
    }

    /// Watchers that need no history join the synced ones at once, so that a
    /// progress request right behind the create is answered.
    async fn sync_up_to_date(&mut self, published: i64) -> Result<(), End> {
        // The synced watchers share one position: bring it to where the new ones start.
        self.deliver_through(published).await?;
        let ready: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !watcher.synced && watcher.next_revision > self.position)
            .map(|(id, _)| id)
            .collect();
        for id in ready {
            self.watchers.mark_synced(id);
        }
        Ok(())
    }

    async fn refuse_create(&mut self, reason: &str) -> Result<(), End> {
        let refused = WatchResponse {
            header: Some(self.header(self.handle.view().revision())),
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        self.send(&refused).await
    }

    async fn cancel(&mut self, request: WatchCancelRequest) -> Result<(), End> {
        let Some(watcher) = self.watchers.remove(request.watch_id) else {
            return Ok(());
        };
        self.gauges.update(&self.watchers);
        self.hub.unregister(&watcher.interval, &self.signal);
        let canceled = WatchResponse {
            header: Some(self.header(self.handle.view().revision())),
            watch_id: request.watch_id,
            canceled: true,
            ..Default::default()
        };
        self.send(&canceled).await
    }

    /// Contract 1.9: answered only when every watcher is synced and has reached
    /// its start; everything up to the revision named was sent before.
    async fn answer_progress_request(&mut self) -> Result<(), End> {
        self.deliver_news().await?;
        let reached =
            |watcher: &Watcher| watcher.synced && watcher.next_revision <= self.position + 1;
        if self.watchers.is_empty() || !self.watchers.iter().all(|(_, watcher)| reached(watcher)) {
            return Ok(());
        }
        self.send_progress(-1).await
    }

    async fn notify_progress(&mut self) -> Result<(), End> {
        self.deliver_news().await?;
        let position = self.position;
        let mut quiet = Vec::new();
        for (id, watcher) in self.watchers.iter_mut() {
            let reached = watcher.synced && watcher.next_revision <= position + 1;
            if watcher.progress_notify && reached && !watcher.spoke {
                quiet.push(id);
            }
            watcher.spoke = false;
        }
        for id in quiet {
            self.send_progress(id).await?;
        }
        Ok(())
    }

    async fn send_progress(&mut self, watch_id: i64) -> Result<(), End> {
        let progress = WatchResponse {
            header: Some(self.header(self.position)),
            watch_id,
            ..Default::default()
        };
        self.send(&progress).await
    }

    async fn deliver_news(&mut self) -> Result<(), End> {
        let published = self.handle.view().revision().max(self.position);
        self.deliver_through(published).await
    }

    /// Gives the synced watchers everything that is published by now; at least
    /// everything up to `wanted`.
    async fn deliver_through(&mut self, wanted: i64) -> Result<(), End> {
        loop {
            let news = self.hub.look(&self.signal);
            assert!(
                news.published >= wanted,
                "a revision was visible before it was published"
            );
            let Some(first) = news.first_of_interest else {
                self.position = self.position.max(news.published);
                return Ok(());
            };
            self.position = self.position.max(first - 1);
            while self.position < news.published {
                match self.hub.read(self.position + 1, RING_BATCH_REVISIONS) {
                    Some(batch) => self.deliver_live(&batch).await?,
                    None => {
                        self.watchers.fall_behind(self.position + 1);
                        self.position = news.published;
                    }
                }
            }
        }
    }

    async fn deliver_live(&mut self, batch: &[Arc<RevisionEvents>]) -> Result<(), End> {
        for revision in batch {
            let mut deliveries: std::collections::BTreeMap<i64, Vec<usize>> = Default::default();
            for (number, event) in revision.events.iter().enumerate() {
                self.watchers.synced_matching(&event.meta.key, |id| {
                    deliveries.entry(id).or_default().push(number);
                });
            }
            if !deliveries.is_empty() {
                let ready = self.ready_events(&revision.events).await?;
                for (id, numbers) in deliveries {
                    let watcher = self.watchers.get_mut(id).expect("it was just matched");
                    if revision.revision < watcher.next_revision {
                        continue;
                    }
                    let wanted: Vec<&ReadyEvent> = numbers
                        .into_iter()
                        .filter_map(|number| {
                            let event = revision.events.get(number)?;
                            watcher.passes(event).then_some(ready.get(number)?)
                        })
                        .collect();
                    self.send_events(id, revision.revision, &wanted).await?;
                }
            }
            self.position = revision.revision;
        }
        Ok(())
    }

    /// One step for the watchers that are behind: a batch of history for those
    /// furthest back; who has reached the stream's position is synced.
    async fn catch_up(&mut self) -> Result<(), End> {
        let from = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !watcher.synced)
            .map(|(_, watcher)| watcher.next_revision)
            .min()
            .expect("called while some watcher is behind");
        if from > self.position {
            return self.sync_up_to_date(self.position).await;
        }
        let history = match self.handle.history(from, HISTORY_BATCH_REVISIONS).await {
            Ok(history) => history,
            Err(rejected) => return Err(End::Failed(Status::from(rejected))),
        };
        self.cancel_compacted(history.compacted_revision).await?;
        // Never beyond the position: from there on the ring serves.
        let through = history.through.min(self.position);
        let ids: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !watcher.synced && watcher.next_revision <= through)
            .map(|(id, _)| id)
            .collect();
        let revisions: Vec<&RevisionEvents> = history
            .revisions
            .iter()
            .filter(|events| events.revision <= through)
            .collect();
        for id in ids {
            self.catch_up_one(id, &revisions, through).await?;
        }
        let position = self.position;
        let caught_up: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !watcher.synced && watcher.next_revision > position)
            .map(|(id, _)| id)
            .collect();
        for id in caught_up {
            self.watchers.mark_synced(id);
        }
        Ok(())
    }

    async fn catch_up_one(
        &mut self,
        id: i64,
        revisions: &[&RevisionEvents],
        through: i64,
    ) -> Result<(), End> {
        let header_revision = self.handle.view().revision();
        let mut waiting: Vec<ReadyEvent> = Vec::new();
        let mut waiting_bytes = 0;
        for revision in revisions {
            let watcher = self.watchers.get_mut(id).expect("chosen by the caller");
            if revision.revision < watcher.next_revision {
                continue;
            }
            let prev_kv = watcher.prev_kv;
            let wanted: Vec<Event> = revision
                .events
                .iter()
                .filter(|event| watcher.interval.contains(&event.meta.key) && watcher.passes(event))
                .cloned()
                .collect();
            let ready = self.ready_events(&wanted).await?;
            waiting_bytes += ready
                .iter()
                .map(|event| event.encoded_len(prev_kv))
                .sum::<usize>();
            waiting.extend(ready);
            if waiting_bytes >= CATCH_UP_RESPONSE_BYTES {
                let refs: Vec<&ReadyEvent> = waiting.iter().collect();
                self.send_events(id, header_revision, &refs).await?;
                waiting.clear();
                waiting_bytes = 0;
            }
        }
        let refs: Vec<&ReadyEvent> = waiting.iter().collect();
        self.send_events(id, header_revision, &refs).await?;
        let watcher = self.watchers.get_mut(id).expect("chosen by the caller");
        watcher.next_revision = through + 1;
        Ok(())
    }

    async fn cancel_compacted(&mut self, compacted_revision: i64) -> Result<(), End> {
        let lost: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !watcher.synced && watcher.next_revision < compacted_revision)
            .map(|(id, _)| id)
            .collect();
        for id in lost {
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

    /// Brings the key-values of events into memory.
    async fn ready_events(&self, events: &[Event]) -> Result<Vec<ReadyEvent>, End> {
        let mut ready = Vec::with_capacity(events.len());
        for event in events {
            let previous = match &event.previous {
                Some(previous) => Some(self.handle.values().encoded(previous).await),
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

    /// Sends events of one watcher, in fragments if it asked for them.
    async fn send_events(
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
        if !fragment || bytes < fragment_bytes {
            let response = events_response(header, id, false, prev_kv, events)?;
            self.body.send(response).await?;
            self.gauges.sent();
            return Ok(());
        }
        let mut rest = events;
        while !rest.is_empty() {
            let mut size = 0;
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

    async fn send(&mut self, response: &WatchResponse) -> Result<(), End> {
        Ok(self.body.send(frame_message(response)?).await?)
    }

    fn header(&self, revision: i64) -> ResponseHeader {
        self.handle.view().header(revision)
    }
}

/// A timer whose interval is lengthened by up to a tenth, so that streams opened
/// together do not speak together. The spread comes from the stream's own start.
fn progress_timer(interval: Duration) -> Interval {
    let start = Instant::now();
    let spread = interval / 10;
    let offset = u32::from(
        start
            .elapsed()
            .as_nanos()
            .to_le_bytes()
            .first()
            .copied()
            .unwrap_or(0),
    );
    let period = interval + spread * offset / 255;
    let mut timer = interval_at(start + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

impl From<Rejected> for End {
    fn from(rejected: Rejected) -> End {
        End::Failed(Status::from(rejected))
    }
}
