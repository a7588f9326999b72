//! Clients at work while a member meets its fault, shaped as Kubernetes is: guarded
//! transactions on shared keys, pages that stay at one revision, reads of the past, leases,
//! watches with filters, compaction. Everything goes through the [`Recorder`]. A client ends
//! at its first call without an answer, which is a failure of the test unless the end of the
//! process was announced before.

use std::time::Duration;

use bytes::Bytes;
use kvproto::etcdserverpb::watch_create_request::FilterType;
use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use storage::apply::command::{
    Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp, Txn,
};
use storage::types::LeaseId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::answer::Answer;
use crate::client::{Client, OPEN_END};
use crate::content::{self, Random};
use crate::history::durable::everything;
use crate::history::record::{Request, Watch};
use crate::recorder::{Failed, Recorder};
use crate::wire;

/// Writers that run side by side, on keys that they share.
const WRITERS: u64 = 8;
/// Groups of keys, and keys of one group; few, so that most writes supersede one.
const GROUPS: u64 = 5;
const KEYS_PER_GROUP: u64 = 6;
/// Pairs of keys that are only ever written together.
const PAIRS: u64 = 3;
/// A lease that outlives the test.
pub const LONG_TTL_SECONDS: i64 = 3600;
/// A lease that expires within the test.
pub const SHORT_TTL_SECONDS: i64 = 5;
/// The pause between two progress requests.
const PROGRESS_EVERY: Duration = Duration::from_millis(20);
/// The pause after a refusal for want of space.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// Starts all clients on fresh connections. They end when the process does.
pub async fn start(port: u16, recorder: &Recorder, random: &mut Random, tasks: &mut JoinSet<()>) {
    for number in 0..WRITERS + 2 {
        let client = Worker {
            number,
            client: Client::connect(port).await,
            recorder: recorder.clone(),
            random: Random::new(random.next()),
            leases: Vec::new(),
        };
        tasks.spawn(client.work());
    }
}

struct Worker {
    number: u64,
    client: Client,
    recorder: Recorder,
    random: Random,
    /// Those that were granted here and not revoked.
    leases: Vec<i64>,
}

impl Worker {
    async fn work(mut self) {
        loop {
            let outcome = match self.number {
                0..WRITERS => {
                    let request = self.write();
                    self.call(request).await.map(drop)
                }
                WRITERS => self.keep_leases().await,
                _ => self.read().await,
            };
            match outcome {
                Ok(()) => {}
                Err(Failed::Open) if !self.recorder.tolerates() => return,
                Err(_) => tokio::time::sleep(REFUSED_PAUSE).await,
            }
        }
    }

    async fn call(&mut self, request: Request) -> Result<Answer, Failed> {
        self.recorder
            .call(self.number, &mut self.client, request)
            .await
    }

    fn key(&mut self) -> Bytes {
        let group = self.random.below(GROUPS);
        let key = self.random.below(KEYS_PER_GROUP);
        format!("/registry/kind-{group}/{key}").into()
    }

    fn value(&mut self) -> Bytes {
        wire::numbered(match self.random.below(50) {
            0 => content::EMPTY,
            _ => self.random.next().max(1),
        })
    }

    fn put(&mut self, key: Bytes, lease: i64) -> Put {
        Put {
            key,
            value: self.value(),
            lease: LeaseId(lease),
            prev_kv: self.random.below(4) == 0,
            ..Put::default()
        }
    }

    fn write(&mut self) -> Request {
        let key = self.key();
        Request::Write(match self.random.below(10) {
            0 => Command::DeleteRange(DeleteRange {
                range: single(key),
                prev_kv: self.random.below(2) == 0,
            }),
            1 | 2 => Command::Put(self.put(key, 0)),
            3 | 4 => self.pair(),
            _ => self.guarded(key),
        })
    }

    /// As kube-apiserver writes: only if nobody changed the object since; else what is there.
    fn guarded(&mut self, key: Bytes) -> Command {
        let guard = self.recorder.known(&key);
        let write = match self.random.below(6) {
            0 if guard != 0 => RequestOp::DeleteRange(DeleteRange {
                range: single(key.clone()),
                prev_kv: true,
            }),
            _ => RequestOp::Put(self.put(key.clone(), 0)),
        };
        let there = Range {
            range: single(key.clone()),
            ..Range::default()
        };
        Command::Txn(Txn {
            compare: vec![Compare {
                result: 0,
                target: CompareTarget::Mod(guard),
                range: single(key),
            }],
            success: vec![write],
            failure: vec![RequestOp::Range(there)],
        })
    }

    fn pair(&mut self) -> Command {
        let pair = self.random.below(PAIRS);
        let value = self.value();
        let put = |side: &str| {
            RequestOp::Put(Put {
                key: format!("/pair/{pair}/{side}").into(),
                value: value.clone(),
                ..Put::default()
            })
        };
        Command::Txn(Txn {
            compare: Vec::new(),
            success: vec![put("a"), put("b")],
            failure: Vec::new(),
        })
    }

    async fn read(&mut self) -> Result<(), Failed> {
        let range = match self.random.below(8) {
            0 => everything(0),
            1 => return self.pages().await,
            2 | 3 => Range {
                range: KeyRange {
                    key: Bytes::from_static(b"/registry/"),
                    range_end: Bytes::from_static(b"/registry0"),
                },
                ..Range::default()
            },
            _ => Range {
                range: single(self.key()),
                ..Range::default()
            },
        };
        self.call(Request::Read(range)).await.map(drop)
    }

    /// A list in pages, all at the revision of the first; then all of it again, at once.
    async fn pages(&mut self) -> Result<(), Failed> {
        let mut range = Range {
            limit: 7,
            ..everything(0)
        };
        loop {
            let answer = self.call(Request::Read(range.clone())).await?;
            let Answer::Range {
                revision,
                key_values,
                more,
                ..
            } = answer
            else {
                panic!("a range answers a range: {answer:?}");
            };
            if range.revision == 0 {
                range.revision = revision;
            }
            let Some(last) = key_values.last().filter(|_| more) else {
                break;
            };
            range.range.key = [&last.key[..], b"\0"].concat().into();
        }
        let again = Request::Read(everything(range.revision));
        self.call(again).await.map(drop)
    }

    /// Grants leases, attaches a key to each, renews and revokes some of them.
    async fn keep_leases(&mut self) -> Result<(), Failed> {
        tokio::time::sleep(Duration::from_millis(self.random.below(10))).await;
        let count = self.leases.len() as u64;
        if count == 0 || self.random.below(2) == 0 {
            return self.grant().await;
        }
        let place = usize::try_from(self.random.below(count)).expect("small");
        if self.random.below(3) != 0 {
            let renewal = Request::KeepAlive(self.leases[place]);
            return self.call(renewal).await.map(drop);
        }
        let lease = LeaseId(self.leases.swap_remove(place));
        let revoke = Request::Write(Command::LeaseRevoke { lease });
        self.call(revoke).await.map(drop)
    }

    async fn grant(&mut self) -> Result<(), Failed> {
        let ttl_seconds = match self.random.below(3) {
            0 => SHORT_TTL_SECONDS,
            _ => LONG_TTL_SECONDS,
        };
        let id = i64::try_from(self.random.next() >> 1)
            .expect("one bit less")
            .max(1);
        let grant = Command::LeaseGrant {
            lease: LeaseId(id),
            ttl_seconds,
        };
        self.call(Request::Write(grant)).await?;
        self.leases.push(id);
        let put = self.put(lease_key(id).into(), id);
        self.call(Request::Write(Command::Put(put))).await.map(drop)
    }
}

/// The key that is attached to a lease.
pub fn lease_key(id: i64) -> String {
    format!("/lease/{id:x}/key")
}

fn single(key: Bytes) -> KeyRange {
    KeyRange {
        key,
        range_end: Bytes::new(),
    }
}

/// A watch of all keys with their predecessors, from a revision on.
pub fn of_all(start: i64) -> Watch {
    Watch {
        range: everything(0).range,
        start,
        prev_kv: true,
        ..Watch::default()
    }
}

/// A watch of one kind, or of all, that leaves out puts or deletions.
pub fn filtered(start: i64, random: &mut Random) -> Watch {
    let group = random.below(GROUPS);
    let no_put = random.below(2) == 0;
    Watch {
        range: KeyRange {
            key: format!("/registry/kind-{group}/").into(),
            range_end: format!("/registry/kind-{group}0").into(),
        },
        start,
        no_put,
        no_delete: !no_put && random.below(2) == 0,
        prev_kv: random.below(2) == 0,
        ..Watch::default()
    }
}

/// Opens a watch and records it. Returns once it is established; a task gathers what comes
/// and asks for progress.
pub async fn follow(port: u16, recorder: &Recorder, watch: Watch, tasks: &mut JoinSet<()>) -> u64 {
    let mut client = Client::connect(port).await;
    let (requests, mut responses) = open(&mut client, &watch).await;
    let number = recorder.watch(watch);
    let recorder = recorder.clone();
    tasks.spawn(async move {
        let asking = async {
            while requests.send(progress_request()).await.is_ok() {
                tokio::time::sleep(PROGRESS_EVERY).await;
            }
        };
        let gathering = async {
            loop {
                match responses.message().await {
                    Ok(Some(response)) => recorder.received(number, &response),
                    Ok(None) => return recorder.expected(&Status::aborted("the watch ended")),
                    Err(status) => return recorder.expected(&status),
                }
            }
        };
        tokio::select! { () = asking => {}, () = gathering => {} }
    });
    number
}

/// Opens a watch over all keys from a revision on and waits for its confirmation.
pub async fn watch_all(
    client: &mut Client,
    start: i64,
) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    open(client, &of_all(start)).await
}

async fn open(
    client: &mut Client,
    watch: &Watch,
) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    let (requests, queue) = mpsc::channel(1);
    let mut filters = Vec::new();
    if watch.no_put {
        filters.push(FilterType::Noput.into());
    }
    if watch.no_delete {
        filters.push(FilterType::Nodelete.into());
    }
    let create = WatchCreateRequest {
        key: match &watch.range.key[..] {
            b"\0" => OPEN_END.into(),
            _ => watch.range.key.clone(),
        },
        range_end: watch.range.range_end.clone(),
        start_revision: watch.start,
        prev_kv: watch.prev_kv,
        fragment: !watch.sees_all(),
        filters,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    requests.send(create).await.expect("there is room");
    let responses = client.watch.watch(ReceiverStream::new(queue)).await;
    let mut responses = responses.expect("a watch").into_inner();
    let first = responses.message().await.expect("an answer");
    let first = first.expect("an answer");
    assert!(first.created && !first.canceled, "{first:?}");
    (requests, responses)
}

fn progress_request() -> WatchRequest {
    let request = WatchProgressRequest {};
    WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(request)),
    }
}
