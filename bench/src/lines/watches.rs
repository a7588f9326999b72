//! Watches: fan-out to many watchers, and the time from a put to its event.
//!
//! Invariant: every event that is due is waited for; one that is missing is an error.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    PutRequest, PutResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::session::Session;
use super::table::Stage;
use crate::connection::{Connection, Duplex, Method};
use crate::failure::Failure;
use crate::frames::{FieldCounter, frame};
use crate::measurement::{Measurement, Meter, Tally};
use crate::objects::{self, Random};

const WATCHERS: u64 = 1_000;
/// Puts whose events may be under way at once: enough to keep the server busy, few enough that
/// its watchers stay with the newest revision.
const PUTS_AHEAD: u64 = 8;
/// Time between two puts of the latency line.
const CALM_INTERVAL: Duration = Duration::from_millis(5);
/// How long the events of the last put may take.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(30);
/// Field `events` of a WatchResponse.
const EVENTS_FIELD: u64 = 11;
const FAN_OUT_KIND: &str = "events";
const LATENCY_KIND: &str = "nodes";

/// A stream with a watch of each of these prefixes, all of them confirmed.
pub async fn watch_all(connection: &Connection, prefixes: &[String]) -> Result<Duplex, Failure> {
    let mut stream = connection.duplex(Method::Watch).await?;
    for prefix in prefixes {
        let create = WatchCreateRequest {
            key: Bytes::from(prefix.clone()),
            range_end: objects::prefix_end(prefix),
            ..WatchCreateRequest::default()
        };
        stream.send(frame(&WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        }))?;
    }
    for _ in prefixes {
        let response: WatchResponse = stream.next().await?;
        if !response.created || response.canceled {
            return Err(Failure::Wrong(format!(
                "no watch: {}",
                response.cancel_reason
            )));
        }
    }
    Ok(stream)
}

async fn put(connection: &Connection, key: Bytes, value: Bytes) -> Result<(), Failure> {
    let request = PutRequest {
        key,
        value,
        ..PutRequest::default()
    };
    connection
        .unary::<PutResponse>(Method::Put, &request)
        .await
        .map(|_| ())
}

/// What the streams of the fan-out share.
#[derive(Default)]
struct Received {
    events: AtomicU64,
    changed: Notify,
}

async fn count_events(mut stream: Duplex, received: Arc<Received>) -> Failure {
    let mut counter = FieldCounter::new(EVENTS_FIELD, None);
    let mut chunk = Ok(stream.take_rest());
    loop {
        match chunk.and_then(|chunk: Bytes| counter.push(&chunk)) {
            Ok(()) => {}
            Err(failure) => return failure,
        }
        received
            .events
            .fetch_add(std::mem::take(&mut counter.fields), Ordering::Relaxed);
        received.changed.notify_one();
        chunk = stream.chunk().await;
    }
}

async fn wait_for(received: &Received, events: u64) -> Result<(), Failure> {
    let all = async {
        while received.events.load(Ordering::Relaxed) < events {
            received.changed.notified().await;
        }
    };
    timeout(LAST_EVENTS_TIMEOUT, all).await.map_err(|_| {
        let found = received.events.load(Ordering::Relaxed);
        Failure::Wrong(format!("{found} events where {events} are due"))
    })
}

/// Puts as fast as 1,000 watchers on so many streams get their events.
pub async fn fan_out(
    session: &mut Session,
    line: &'static str,
    streams: u64,
) -> Result<Measurement, Failure> {
    let share = usize::try_from(WATCHERS / streams).expect("few watchers");
    let prefixes = vec![objects::prefix(FAN_OUT_KIND); share];
    let received = Arc::new(Received::default());
    let mut watchers = tokio::task::JoinSet::new();
    for number in 0..streams {
        let place = usize::try_from(number).unwrap_or(0);
        let stream = watch_all(&session.connection(place), &prefixes).await?;
        watchers.spawn(count_events(stream, Arc::clone(&received)));
    }
    let connection = session.connection(0);
    let mut random = Random::new(11);
    let meter = Meter::start(&session.observed)?;
    let end = Instant::now() + session.settings.length;
    let mut puts = 0;
    let mut tally = Tally::default();
    while Instant::now() < end {
        let value = session.values.pick(&mut random);
        put(&connection, objects::key(FAN_OUT_KIND, puts % 1_000), value).await?;
        puts += 1;
        wait_for(&received, puts.saturating_sub(PUTS_AHEAD) * WATCHERS).await?;
    }
    wait_for(&received, puts * WATCHERS).await?;
    tally.operations = received.events.load(Ordering::Relaxed);
    let measurement = meter.finish(line, &tally);
    if let Some(ended) = watchers.try_join_next() {
        return Err(ended.expect("a watcher does not panic"));
    }
    watchers.abort_all();
    if tally.operations != puts * WATCHERS {
        return Err(Failure::Wrong(format!(
            "{} events for {puts} puts",
            tally.operations
        )));
    }
    Ok(measurement)
}

type Sent = Arc<Mutex<HashMap<Bytes, Instant>>>;

/// Takes events until all are there, and records how long after its put each came.
async fn take_events(mut stream: Duplex, sent: Sent, expected: u64) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    while tally.operations < expected {
        let response: WatchResponse = stream.next().await?;
        let now = Instant::now();
        for event in response.events {
            let key = event.kv.unwrap_or_default().key;
            let sent = sent.lock().expect("no holder panics").remove(&key);
            let unasked = || Failure::Wrong("an event that no put made".to_owned());
            tally.latencies.record(now - sent.ok_or_else(unasked)?);
            tally.operations += 1;
        }
    }
    Ok(tally)
}

/// From sending a put to its event at one watcher on another connection, at a calm rate.
pub async fn latency(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    if matches!(session.stage, Stage::Grown(_)) {
        session.need_objects().await?;
    }
    let stream = watch_all(&session.connection(1), &[objects::prefix(LATENCY_KIND)]).await?;
    let connection = session.connection(0);
    let puts = (session.settings.length.as_millis() / CALM_INTERVAL.as_millis()).max(1);
    let puts = u64::try_from(puts).unwrap_or(u64::MAX);
    let sent = Sent::default();
    let mut random = Random::new(12);
    let mut ticks = interval(CALM_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let meter = Meter::start(&session.observed)?;
    let events = tokio::spawn(take_events(stream, Arc::clone(&sent), puts));
    for number in 0..puts {
        ticks.tick().await;
        let key = objects::key(LATENCY_KIND, number);
        let value = session.values.pick(&mut random);
        sent.lock()
            .expect("no holder panics")
            .insert(key.clone(), Instant::now());
        put(&connection, key, value).await?;
    }
    let late = |_| Failure::Wrong("events of the last puts did not come".to_owned());
    let tally = timeout(LAST_EVENTS_TIMEOUT, events).await.map_err(late)?;
    let tally = tally.expect("a watcher does not panic")?;
    Ok(meter.finish(line, &tally))
}
