//! One Watch call: a task that owns its watchers and writes their responses in
//! order (contract 1.9).
//!
//! Events and progress leave through one ordered body, so progress never
//! overtakes an event. While the client does not read, the task stands still in
//! `send`; later it goes on from its position, by the ring or by history.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use storage::error::Refusal;
use storage::types::RevisionEvents;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::Status;

use super::cursor::Cursor;
use super::gauges::Gauges;
use super::hub::{Hub, Signal};
use super::range_index::KeyInterval;
use super::watchers::{Watcher, Watchers};
use crate::rpc::grpc::{BodySender, Closed, DRAIN_TIMEOUT, MessageStream};
use crate::rpc::status;
use crate::runtime::{Handle, Rejected};

/// Revisions taken from the ring under one lock.
const RING_BATCH_REVISIONS: usize = 64;

/// The shortest interval of progress notifications (contract 8).
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What a stream must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Interval of progress notifications.
    pub progress_interval: Duration,
    /// Bytes above which a watcher that asked for it gets fragments.
    pub fragment_bytes: usize,
}

/// Why a stream ends.
pub(super) enum End {
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
    let stopping = handle.clone();
    let hub = Arc::clone(handle.hub());
    let mut stream = Stream {
        watchers: Watchers::default(),
        signal: Arc::new(Signal::default()),
        cursor: Cursor::new(handle.view().revision()),
        hub,
        gauges: Gauges::new(Arc::clone(handle.metrics())),
        handle,
        body: body.clone(),
        outbox: BytesMut::new(),
        outbox_events: 0,
        options,
    };
    let end = tokio::select! {
        // Also when the client does not read and the stream stands still.
        () = stopping.stopped() => End::Failed(Rejected::Stopped.into()),
        end = stream.run(&mut requests) => end,
    };
    drop(stream);
    if let End::Failed(status) = end {
        body.end(status).await;
        // A client that goes on sending is not waited for.
        tokio::time::timeout(DRAIN_TIMEOUT, requests.drain())
            .await
            .unwrap_or(());
    }
}

/// The stream's task; `catch_up` and `deliver` hold its other parts.
pub(super) struct Stream {
    pub(super) watchers: Watchers,
    pub(super) signal: Arc<Signal>,
    pub(super) cursor: Cursor,
    pub(super) hub: Arc<Hub>,
    pub(super) gauges: Gauges,
    pub(super) handle: Handle,
    pub(super) body: BodySender,
    /// Responses that wait for the end of a step, or for a whole chunk.
    pub(super) outbox: BytesMut,
    /// Events among them.
    pub(super) outbox_events: usize,
    pub(super) options: StreamOptions,
}

/// However the stream ends, the hub does not ring it any more.
impl Drop for Stream {
    fn drop(&mut self) {
        for (_, watcher) in self.watchers.iter() {
            self.hub.unregister(&watcher.interval, &self.signal);
        }
    }
}

impl Stream {
    async fn run(&mut self, requests: &mut MessageStream<WatchRequest>) -> End {
        let mut progress = progress_timer(self.options.progress_interval);
        let mut half_closed = false;
        let signal = Arc::clone(&self.signal);
        let gone = self.body.clone();
        loop {
            self.gauges.update(&self.watchers);
            // Many small requests in one buffer must not hold the runtime.
            tokio::task::coop::consume_budget().await;
            // Whichever is ready, by chance: neither a flood of requests nor one
            // of events keeps the other waiting.
            let step = tokio::select! {
                () = gone.closed() => Err(End::ClientGone),
                request = requests.next(), if !half_closed => match request {
                    // A client that closes its side goes on receiving (contract 1.9).
                    Ok(None) => {
                        half_closed = true;
                        Ok(())
                    }
                    Ok(Some(request)) => self.request(request).await,
                    Err(status) => Err(End::Failed(status)),
                },
                () = signal.rung() => self.deliver_news().await,
                _ = progress.tick() => self.notify_progress().await,
                () = std::future::ready(()), if self.watchers.any_behind() => {
                    self.catch_up().await
                }
            };
            // What was written before an end goes out before it.
            let sent = self.send_outbox().await;
            if let Err(end) = step.and(sent) {
                return end;
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
        // One that needs no history joins the synced ones at once, so that a
        // progress request right behind the create is answered. They share one
        // position: it is brought to where the new one starts.
        self.deliver_through(published).await?;
        if next > self.cursor.position() {
            self.watchers.mark_synced(id);
        }
        Ok(())
    }

    /// Watchers that need no history any more join the synced ones.
    pub(super) async fn sync_up_to_date(&mut self, published: i64) -> Result<(), End> {
        self.deliver_through(published).await?;
        self.watchers.sync_arrived(self.cursor.position());
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

    async fn answer_progress_request(&mut self) -> Result<(), End> {
        self.deliver_news().await?;
        if !self.watchers.all_reached(self.cursor.position()) {
            return Ok(());
        }
        self.send_progress(-1).await
    }

    async fn notify_progress(&mut self) -> Result<(), End> {
        self.deliver_news().await?;
        for id in self.watchers.quiet(self.cursor.position()) {
            self.send_progress(id).await?;
        }
        Ok(())
    }

    async fn send_progress(&mut self, watch_id: i64) -> Result<(), End> {
        let progress = WatchResponse {
            header: Some(self.header(self.cursor.position())),
            watch_id,
            ..Default::default()
        };
        self.send(&progress).await
    }

    async fn deliver_news(&mut self) -> Result<(), End> {
        let published = self.handle.view().revision().max(self.cursor.position());
        self.deliver_through(published).await
    }

    /// Gives the synced watchers everything that is published by now; at least
    /// everything up to `wanted`.
    async fn deliver_through(&mut self, wanted: i64) -> Result<(), End> {
        while let Some(batch) = self.cursor.take(
            &self.hub,
            &self.signal,
            &mut self.watchers,
            RING_BATCH_REVISIONS,
        ) {
            self.deliver_live(&batch).await?;
        }
        assert!(
            self.cursor.position() >= wanted,
            "a revision was visible before it was published"
        );
        Ok(())
    }

    async fn deliver_live(&mut self, batch: &[Arc<RevisionEvents>]) -> Result<(), End> {
        // Who gets which event, as (id, place of the event).
        let mut matches: Vec<(i64, usize)> = Vec::new();
        for revision in batch {
            self.watchers.takers(revision, &mut matches);
            if !matches.is_empty() {
                let ready = self.ready_events(&revision.events, None).await?;
                let ready = ready.expect("only a pin is revoked");
                let header = self.header(revision.revision);
                for of_one in matches.chunk_by(|one, next| one.0 == next.0) {
                    let (id, _) = *of_one.first().expect("a chunk is not empty");
                    let events = of_one.iter().filter_map(|(_, place)| ready.get(*place));
                    self.send_events(id, header, events).await?;
                }
            }
            self.cursor.gave(revision.revision);
        }
        Ok(())
    }

    pub(super) fn header(&self, revision: i64) -> ResponseHeader {
        self.handle.view().header(revision)
    }
}

/// A timer whose interval is lengthened by up to a tenth, so that streams opened
/// together do not speak together (contract 1.9, 8).
fn progress_timer(interval: Duration) -> Interval {
    let interval = interval.max(PROGRESS_INTERVAL_MIN);
    // Every RandomState has keys of its own, seeded by the operating system.
    let random = RandomState::new().build_hasher().finish();
    let part = u32::try_from(random >> 32).expect("32 bits are left");
    let period = interval + (interval / 10).mul_f64(f64::from(part) / f64::from(u32::MAX));
    let mut timer = interval_at(Instant::now() + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

impl From<Rejected> for End {
    fn from(rejected: Rejected) -> End {
        End::Failed(Status::from(rejected))
    }
}
