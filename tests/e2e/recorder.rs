//! The recorder: every call of every client and every response of every watch goes through
//! here and is written down with the time it was sent and the time it came back. It judges
//! nothing. A request is sent once and never repeated.
//!
//! Invariant: no lock is held across an await. Times are those since the recorder was made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kvproto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, WatchResponse,
};
use storage::apply::command::Command;
use tonic::Status;
use tonic::codegen::tokio_stream;

use crate::answer::Answer;
use crate::client::Client;
use crate::history::record::{Answered, Call, History, Received, Request, Watch};
use crate::wire;

/// What the clients of a test share.
#[derive(Clone, Debug)]
pub struct Recorder {
    records: Arc<Mutex<Records>>,
    /// Mod revisions that clients were shown, for the guards of the next ones.
    known: Arc<Mutex<BTreeMap<Vec<u8>, i64>>>,
    /// Set before the process is asked to end; reset before the next one starts.
    ending: Arc<AtomicBool>,
    /// Calls may be given up by a member that goes on; their clients go on as well.
    tolerant: Arc<AtomicBool>,
    begin: Instant,
}

/// What was written down since the last stretch.
#[derive(Debug, Default)]
struct Records {
    history: History,
    /// Where the watch of a number stands in it.
    places: BTreeMap<u64, usize>,
    watches_opened: u64,
}

impl Records {
    fn watch_mut(&mut self, number: u64) -> Option<&mut Watch> {
        let place = *self.places.get(&number)?;
        self.history.watches.get_mut(place)
    }
}

/// Why a client stops: the process ends, or it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The outcome is open.
    Open,
    /// Nothing happened.
    Refused(&'static str),
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder {
            records: Arc::default(),
            known: Arc::default(),
            ending: Arc::default(),
            tolerant: Arc::default(),
            begin: Instant::now(),
        }
    }

    /// The time of this history.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("nobody failed with it in hand")
    }

    /// From here on errors are expected, or no more.
    pub fn announce_end(&self, ending: bool) {
        self.ending.store(ending, Ordering::SeqCst);
    }

    /// From here on calls without an outcome are expected, or no more.
    pub fn tolerate(&self, tolerant: bool) {
        self.tolerant.store(tolerant, Ordering::SeqCst);
    }

    /// Whether a client goes on after a call without an outcome.
    pub fn tolerates(&self) -> bool {
        self.tolerant.load(Ordering::SeqCst)
    }

    /// Fails the test unless the process was about to end.
    pub fn expected(&self, status: &Status) {
        let ending = self.ending.load(Ordering::SeqCst) || self.tolerates();
        assert!(ending, "an error of a member that should be well: {status}");
    }

    /// The mod revision of a key as somebody was shown it last, 0 for unknown.
    pub fn known(&self, key: &[u8]) -> i64 {
        let known = self.known.lock().expect("nobody failed with it in hand");
        known.get(key).copied().unwrap_or(0)
    }

    /// Sends a request and writes down what becomes of it.
    pub async fn call(
        &self,
        number: u64,
        client: &mut Client,
        request: Request,
    ) -> Result<Answer, Failed> {
        let place = {
            let calls = &mut self.records().history.calls;
            calls.push(Call {
                client: number,
                invoked: self.now(),
                request: request.clone(),
                answered: None,
            });
            calls.len() - 1
        };
        let outcome = send(client, &request).await;
        let (answer, revision) = match outcome {
            Ok(answered) => answered,
            Err(status) => match wire::refusal(&status) {
                Some(refusal) => (Answer::Refused(refusal), 0),
                None => {
                    self.expected(&status);
                    return Err(Failed::Open);
                }
            },
        };
        self.learn(&request, &answer, revision);
        self.records().history.calls[place].answered = Some(Answered {
            at: self.now(),
            answer: answer.clone(),
            revision,
        });
        match answer {
            Answer::Refused(refusal) => Err(Failed::Refused(refusal)),
            answer => Ok(answer),
        }
    }

    fn learn(&self, request: &Request, answer: &Answer, revision: i64) {
        let mut known = self.known.lock().expect("nobody failed with it in hand");
        if let (Request::Write(Command::Put(put)), true) = (request, revision > 0) {
            known.insert(put.key.to_vec(), revision);
        }
        let mut learn = |answer: &Answer| {
            if let Answer::Range { key_values, .. } = answer {
                for kv in key_values {
                    known.insert(kv.key.clone(), kv.modified);
                }
            }
        };
        learn(answer);
        if let Answer::Txn { answers, .. } = answer {
            answers.iter().for_each(learn);
        }
    }

    /// Opens the record of a watch and gives it a number.
    pub fn watch(&self, watch: Watch) -> u64 {
        let mut records = self.records();
        let number = records.watches_opened;
        records.watches_opened += 1;
        let place = records.history.watches.len();
        records.history.watches.push(watch);
        records.places.insert(number, place);
        number
    }

    /// Writes down one response.
    pub fn received(&self, number: u64, response: &WatchResponse) {
        assert!(!response.canceled, "a watch was cancelled: {response:?}");
        let header = response.header.as_ref().expect("a header");
        let received = Received {
            at: self.now(),
            revision: header.revision,
            fragment: response.fragment,
            events: response.events.iter().map(wire::event).collect(),
        };
        let mut records = self.records();
        // A watch that ended with its process may still be heard, not written down.
        if let Some(watch) = records.watch_mut(number) {
            watch.received.push(received);
        }
    }

    /// The last revision up to which a watch has told everything, or its start - 1.
    pub fn reached(&self, number: u64) -> i64 {
        let place = self.records_place(number);
        reached(&self.records().history.watches[place])
    }

    /// A watch that goes on where this one has come to.
    pub fn resumed(&self, number: u64) -> Watch {
        let place = self.records_place(number);
        resumed(&self.records().history.watches[place])
    }

    /// Says that everything up to here must have arrived.
    pub fn must_reach(&self, number: u64, revision: i64) {
        let mut records = self.records();
        let watch = records.watch_mut(number).expect("it is recorded");
        watch.must_reach = revision;
    }

    /// Ends a stretch: all that was written down since the last one. These watches go on.
    pub fn take(&self, alive: &[u64]) -> History {
        let mut records = self.records();
        let mut next = History::default();
        let mut places = BTreeMap::new();
        for number in alive {
            let watch = records.watch_mut(*number).expect("it is recorded");
            places.insert(*number, next.watches.len());
            next.watches.push(resumed(watch));
        }
        records.places = places;
        std::mem::replace(&mut records.history, next)
    }

    fn records_place(&self, number: u64) -> usize {
        *self.records().places.get(&number).expect("it is recorded")
    }
}

fn reached(watch: &Watch) -> i64 {
    let told = watch.received.iter().filter(|received| !received.fragment);
    let told = told.map(|received| match received.events.last() {
        Some((revision, _)) => *revision,
        None => received.revision,
    });
    told.max().unwrap_or(0).max(watch.start - 1)
}

fn resumed(watch: &Watch) -> Watch {
    Watch {
        start: reached(watch) + 1,
        received: Vec::new(),
        must_reach: 0,
        ..watch.clone()
    }
}

async fn send(client: &mut Client, request: &Request) -> Result<(Answer, i64), Status> {
    let command = match request {
        Request::Write(command) => command,
        Request::Read(range) => {
            let response = client.kv.range(wire::range(range)).await?.into_inner();
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            return Ok((wire::range_answer(&response), revision));
        }
        Request::KeepAlive(lease) => return keep_alive(client, *lease).await,
    };
    let (answer, header) = match command {
        Command::Put(put) => {
            let response = client.kv.put(wire::put(put)).await?.into_inner();
            (wire::put_answer(&response), response.header)
        }
        Command::DeleteRange(delete) => {
            let response = client
                .kv
                .delete_range(wire::delete(delete))
                .await?
                .into_inner();
            (wire::delete_answer(&response), response.header)
        }
        Command::Txn(txn) => {
            let response = client.kv.txn(wire::txn(txn)).await?.into_inner();
            (wire::txn_answer(&response), response.header)
        }
        Command::Compact { revision } => {
            let physical = revision % 2 == 0;
            let request = CompactionRequest {
                revision: *revision,
                physical,
            };
            let response = client.kv.compact(request).await?.into_inner();
            (Answer::Compact, response.header)
        }
        Command::LeaseGrant { lease, ttl_seconds } => {
            let request = LeaseGrantRequest {
                ttl: *ttl_seconds,
                id: lease.0,
            };
            let response = client.lease.lease_grant(request).await?.into_inner();
            let answer = Answer::Grant {
                lease: response.id,
                ttl: response.ttl,
            };
            (answer, response.header)
        }
        Command::LeaseRevoke { lease } => {
            let request = LeaseRevokeRequest { id: lease.0 };
            let response = client.lease.lease_revoke(request).await?.into_inner();
            (Answer::Revoke, response.header)
        }
        Command::Alarm { .. } => panic!("the load raises no alarms"),
    };
    Ok((answer, header.map_or(0, |header| header.revision)))
}

async fn keep_alive(client: &mut Client, lease: i64) -> Result<(Answer, i64), Status> {
    let request = LeaseKeepAliveRequest { id: lease };
    let requests = tokio_stream::once(request);
    let mut responses = client.lease.lease_keep_alive(requests).await?.into_inner();
    let response = responses.message().await?;
    let response = response.ok_or_else(|| Status::aborted("the stream ended"))?;
    let answer = Answer::Grant {
        lease: response.id,
        ttl: response.ttl,
    };
    Ok((answer, response.header.map_or(0, |header| header.revision)))
}
