//! Puts, transactions as kube-apiserver makes them, and the filling of a store.
//!
//! Invariant: a key belongs to one client, so a transaction's compare never loses to another
//! client; one that fails all the same is an error.

use std::time::Instant;

use bytes::Bytes;
use kvproto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvproto::etcdserverpb::request_op::Request;
use kvproto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, PutRequest, PutResponse, RangeRequest,
    RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};

use super::closed_loop::{self, Client};
use super::session::Session;
use super::table::Stage;
use crate::connection::{Connection, Method};
use crate::failure::Failure;
use crate::measurement::{Measurement, Meter, Tally};
use crate::objects::{self, Random, Values};

/// Keys that puts and gets work on.
pub const KEY_KIND: &str = "leases";
/// Objects that lists work on.
pub const OBJECT_KIND: &str = "pods";
/// Keys that transactions work on.
const TRANSACTION_KIND: &str = "configmaps";
/// Keys that each client of the transaction line updates in turn.
const KEYS_PER_CLIENT: u64 = 16;
/// How many times the length of other lines the puts beside a compaction run.
const CALM_LENGTHS: u32 = 2;
/// The fewest puts beside a compaction: enough for the tail of the latencies.
const CALM_PUTS_MIN: u64 = 20_000;
/// Clients that fill a store.
const FILL_CLIENTS: usize = 256;

/// The revision in an answer's header, which every answer must have.
pub fn revision(header: Option<ResponseHeader>) -> Result<i64, Failure> {
    let revision = header.map_or(0, |header| header.revision);
    if revision <= 0 {
        return Err(Failure::Wrong(
            "the answer's header has no revision".to_owned(),
        ));
    }
    Ok(revision)
}

async fn put_one(connection: &Connection, key: Bytes, value: Bytes) -> Result<i64, Failure> {
    let request = PutRequest {
        key,
        value,
        ..PutRequest::default()
    };
    revision(
        connection
            .unary::<PutResponse>(Method::Put, &request)
            .await?
            .header,
    )
}

/// Puts random keys of its share.
pub struct PutClient {
    connection: Connection,
    random: Random,
    values: Values,
    kind: &'static str,
    first: u64,
    keys: u64,
    last_revision: i64,
}

impl Client for PutClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        let key = objects::key(self.kind, self.first + self.random.below(self.keys));
        let value = self.values.pick(&mut self.random);
        let revision = put_one(&self.connection, key, value).await?;
        if revision <= self.last_revision {
            return Err(Failure::Wrong(
                "a later put has no later revision".to_owned(),
            ));
        }
        self.last_revision = revision;
        Ok(1)
    }
}

/// Puts over existing keys, each client on its own share of them.
pub async fn put(
    session: &mut Session,
    line: &'static str,
    clients: usize,
) -> Result<Measurement, Failure> {
    // Where keys shall not matter, the puts go among all objects.
    if matches!(session.stage, Stage::Grown(_)) {
        session.need_objects().await?;
    } else {
        session.need_keys().await?;
    }
    let clients = put_clients(session, clients);
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(clients, session.settings.length).await;
    Ok(meter.finish(line, &tally))
}

/// Puts over existing keys for the length of a line, beside no meter.
pub async fn puts(session: &Session, clients: usize) -> Tally {
    closed_loop::run(put_clients(session, clients), session.settings.length).await
}

/// Clients that put, each with its share of the keys.
pub fn put_clients(session: &Session, clients: usize) -> Vec<PutClient> {
    let (kind, keys) = match session.stage {
        Stage::Grown(_) => (OBJECT_KIND, session.settings.objects),
        _ => (KEY_KIND, session.settings.keys),
    };
    let share = (keys / clients as u64).max(1);
    let client = |number| PutClient {
        connection: session.connection(number),
        random: Random::new(number as u64),
        values: session.values.clone(),
        kind,
        first: number as u64 * share,
        keys: share,
        last_revision: 0,
    };
    (0..clients).map(client).collect()
}

/// One client that puts over all of the keys.
pub fn one_client(session: &Session) -> PutClient {
    PutClient {
        connection: session.connection(0),
        random: Random::new(0xca11),
        values: session.values.clone(),
        kind: KEY_KIND,
        first: 0,
        keys: session.settings.keys,
        last_revision: 0,
    }
}

struct TransactionClient {
    connection: Connection,
    random: Random,
    values: Values,
    /// Each key with its mod revision.
    keys: Vec<(Bytes, i64)>,
    next: usize,
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

impl Client for TransactionClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        self.next = (self.next + 1) % self.keys.len();
        let value = self.values.pick(&mut self.random);
        let (key, known) = self.keys.get_mut(self.next).expect("below the length");
        let put = PutRequest {
            key: key.clone(),
            value,
            ..PutRequest::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key: key.clone(),
                target_union: Some(TargetUnion::ModRevision(*known)),
                ..Compare::default()
            }],
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestRange(get))],
        };
        let response: TxnResponse = self.connection.unary(Method::Transaction, &request).await?;
        if !response.succeeded {
            return Err(Failure::Wrong("a guarded update lost to nobody".to_owned()));
        }
        *known = revision(response.header)?;
        Ok(1)
    }
}

/// Guarded updates.
pub async fn transaction(
    session: &mut Session,
    line: &'static str,
    clients: usize,
) -> Result<Measurement, Failure> {
    let mut prepared = Vec::new();
    for number in 0..clients {
        let connection = session.connection(number);
        let values = session.values.clone();
        prepared.push(tokio::spawn(transaction_client(
            number as u64,
            connection,
            values,
        )));
    }
    let mut ready = Vec::new();
    for client in prepared {
        ready.push(client.await.expect("a client does not panic")?);
    }
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(ready, session.settings.length).await;
    Ok(meter.finish(line, &tally))
}

async fn transaction_client(
    number: u64,
    connection: Connection,
    values: Values,
) -> Result<TransactionClient, Failure> {
    let mut random = Random::new(number);
    let mut keys = Vec::new();
    for place in 0..KEYS_PER_CLIENT {
        let key = objects::key(TRANSACTION_KIND, number * KEYS_PER_CLIENT + place);
        let value = values.pick(&mut random);
        let known = put_one(&connection, key.clone(), value).await?;
        keys.push((key, known));
    }
    Ok(TransactionClient {
        connection,
        random,
        values,
        keys,
        next: 0,
    })
}

/// Puts of the first `count` keys of a kind, each so many times, in an order that spreads over all
/// of them.
///
/// # Errors
/// When any of them failed: what stands on them would measure something else.
pub async fn fill(
    session: &Session,
    kind: &'static str,
    count: u64,
    times: u64,
) -> Result<Tally, Failure> {
    let tasks: Vec<_> = (0..FILL_CLIENTS)
        .map(|number| {
            let share = Share {
                connection: session.connection(number),
                values: session.values.clone(),
                kind,
                count,
            };
            tokio::spawn(share.fill(number as u64, times))
        })
        .collect();
    let mut tally = Tally::default();
    for task in tasks {
        tally.merge(task.await.expect("a client does not panic")?);
    }
    Ok(tally)
}

struct Share {
    connection: Connection,
    values: Values,
    kind: &'static str,
    count: u64,
}

impl Share {
    async fn fill(self, first: u64, times: u64) -> Result<Tally, Failure> {
        let mut random = Random::new(first ^ 0xf111);
        let mut tally = Tally::default();
        let mut number = first;
        while number < self.count * times {
            let begin = std::time::Instant::now();
            let key = objects::key(self.kind, number % self.count);
            put_one(&self.connection, key, self.values.pick(&mut random)).await?;
            tally.latencies.record(begin.elapsed());
            tally.operations += 1;
            number += FILL_CLIENTS as u64;
        }
        Ok(tally)
    }
}

/// Puts by one client over existing keys, with history behind them; when `compacting`, all of it
/// is compacted meanwhile, and the compaction must have succeeded when the line ends.
pub async fn put_over_history(
    session: &mut Session,
    line: &'static str,
    compacting: bool,
) -> Result<Measurement, Failure> {
    session.need_history().await?;
    let client = AtLeast {
        client: one_client(session),
        end: Instant::now() + session.settings.length * CALM_LENGTHS,
        left: CALM_PUTS_MIN,
    };
    let key = objects::key(KEY_KIND, 0);
    let newest = put_one(&session.connection(1), key, Bytes::from_static(b"newest")).await?;
    let meter = Meter::start(&session.observed)?;
    let compaction = compacting.then(|| {
        session.lose_history();
        tokio::spawn(compact(session.connection(1), newest, true))
    });
    let tally = closed_loop::run_until_done(vec![client]).await;
    let measurement = meter.finish(line, &tally);
    if let Some(compaction) = compaction {
        compaction.await.expect("the compaction does not panic")?;
    }
    Ok(measurement)
}

/// A client that goes on until the time is over and it has done so much.
struct AtLeast {
    client: PutClient,
    end: Instant,
    left: u64,
}

impl Client for AtLeast {
    async fn step(&mut self) -> Result<u64, Failure> {
        self.left = self.left.saturating_sub(1);
        self.client.step().await
    }

    fn is_done(&self) -> bool {
        self.left == 0 && Instant::now() >= self.end
    }
}

/// Puts by 256 clients for long, while what is older than one interval is compacted at the end of
/// each, as kube-apiserver does.
pub async fn put_sustained(
    session: &mut Session,
    line: &'static str,
) -> Result<Measurement, Failure> {
    session.need_keys().await?;
    let clients = put_clients(session, FILL_CLIENTS);
    let connection = session.connection(1);
    let mut ticks = tokio::time::interval(session.settings.compaction);
    let meter = Meter::start(&session.observed)?;
    let compactions = tokio::spawn(async move {
        let mut due = 0;
        loop {
            ticks.tick().await;
            if due > 0 {
                compact(connection.clone(), due, false).await?;
            }
            let key = objects::key(KEY_KIND, 0);
            due = put_one(&connection, key, Bytes::from_static(b"newest")).await?;
        }
    });
    let tally = closed_loop::run(clients, session.settings.sustained).await;
    let measurement = meter.finish(line, &tally);
    if compactions.is_finished() {
        let ended: Result<Result<std::convert::Infallible, Failure>, _> = compactions.await;
        return match ended.expect("the compactions do not panic") {
            Ok(never) => match never {},
            Err(failure) => Err(failure),
        };
    }
    compactions.abort();
    Ok(measurement)
}

async fn compact(connection: Connection, revision: i64, physical: bool) -> Result<(), Failure> {
    let request = CompactionRequest { revision, physical };
    connection
        .unary::<CompactionResponse>(Method::Compact, &request)
        .await
        .map(|_| ())
}

/// The filling of the store with all objects, measured.
pub async fn load(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    let meter = Meter::start(&session.observed)?;
    let loaded = session.need_objects().await?;
    let again = || Failure::Refused("the objects were loaded before".to_owned());
    Ok(meter.finish(line, &loaded.ok_or_else(again)?))
}
