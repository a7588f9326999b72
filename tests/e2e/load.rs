//! Clients at work while a member is killed: writers on keys of their own, one that grants
//! and revokes leases, a reader, and a watcher over all keys. Each notes what it was told
//! in the shared [`History`] and ends at its first error, which is a failure of the test
//! unless the end of the process was announced before.
//!
//! Invariant: no lock is held across an await.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kvproto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvproto::etcdserverpb::request_op::Request;
use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{Client, OPEN_END};
use crate::content::{self, Random};
use crate::history::{Change, History, Lease, Outcome};

/// Writers that run side by side.
const WRITERS: u64 = 8;
/// Keys of one writer; few, so that most writes supersede one.
const KEYS_PER_WRITER: u64 = 16;
/// A lease that outlives the test.
const LONG_TTL_SECONDS: i64 = 3600;
/// A lease that expires within the test.
const SHORT_TTL_SECONDS: i64 = 5;
/// The pause between two progress requests.
const PROGRESS_EVERY: Duration = Duration::from_millis(20);

/// What the clients of a test share.
#[derive(Clone, Debug)]
pub struct Shared {
    history: Arc<Mutex<History>>,
    /// Set before the process is asked to end; reset before the next one starts.
    ending: Arc<AtomicBool>,
}

impl Shared {
    /// The history of a new member.
    pub fn new() -> Shared {
        Shared {
            history: Arc::new(Mutex::new(History::new())),
            ending: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The history, for a moment.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history
            .lock()
            .expect("nobody failed with the history in hand")
    }

    /// From here on errors are expected, or no more.
    pub fn announce_end(&self, ending: bool) {
        self.ending.store(ending, Ordering::SeqCst);
    }

    /// Fails the test unless the process was about to end.
    fn expected(&self, status: &Status) {
        let ending = self.ending.load(Ordering::SeqCst);
        assert!(ending, "an error of a member that should be well: {status}");
    }
}

/// Starts all clients on fresh connections. They end when the process does.
pub async fn start(port: u16, shared: &Shared, random: &mut Random, tasks: &mut JoinSet<()>) {
    for writer in 0..WRITERS {
        let client = Client::connect(port).await;
        let random = Random::new(random.next());
        tasks.spawn(write(writer, client, shared.clone(), random));
    }
    let client = Client::connect(port).await;
    tasks.spawn(keep_leases(
        client,
        shared.clone(),
        Random::new(random.next()),
    ));
    let client = Client::connect(port).await;
    tasks.spawn(read(client, shared.clone(), Random::new(random.next())));
}

/// Follows all keys from the first revision that was not seen yet. Returns once the watch
/// is established; the events are then gathered by the task.
pub async fn follow(port: u16, shared: &Shared, tasks: &mut JoinSet<()>) {
    let mut client = Client::connect(port).await;
    let from = shared.history().seen() + 1;
    let (requests, mut responses) = watch_all(&mut client, from).await;
    let shared = shared.clone();
    tasks.spawn(async move {
        let asking = async {
            while requests.send(progress_request()).await.is_ok() {
                tokio::time::sleep(PROGRESS_EVERY).await;
            }
        };
        let gathering = async {
            loop {
                match responses.message().await {
                    Ok(Some(response)) => gather(&shared, &response),
                    Ok(None) => return shared.expected(&Status::aborted("the watch ended")),
                    Err(status) => return shared.expected(&status),
                }
            }
        };
        tokio::select! { () = asking => {}, () = gathering => {} }
    });
}

fn gather(shared: &Shared, response: &WatchResponse) {
    assert!(!response.canceled, "the watch was cancelled: {response:?}");
    let mut history = shared.history();
    if response.events.is_empty() {
        history.promise(response.header.as_ref().expect("a header").revision);
    } else {
        history.append(&response.events);
    }
}

/// Opens a watch over all keys from a revision on and waits for its confirmation.
pub async fn watch_all(
    client: &mut Client,
    start_revision: i64,
) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    let (requests, queue) = mpsc::channel(1);
    let create = WatchCreateRequest {
        key: OPEN_END.into(),
        range_end: OPEN_END.into(),
        start_revision,
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

/// Writes to keys of its own, one request at a time.
async fn write(writer: u64, mut client: Client, shared: Shared, mut random: Random) {
    // The mod revision of each key, 0 where it does not exist.
    let mut known: Vec<(String, i64)> = {
        let history = shared.history();
        let name = |key| format!("writer/{writer}/{key}");
        let revision = |key: &String| history.mod_revision(key);
        let keys = (0..KEYS_PER_WRITER).map(name);
        keys.map(|key| {
            let at = revision(&key);
            (key, at)
        })
        .collect()
    };
    loop {
        let chosen = usize::try_from(random.below(KEYS_PER_WRITER)).expect("small");
        let other = (chosen + 1) % known.len();
        let guard = known[chosen].1;
        let (places, changes) = match random.below(10) {
            0 if guard != 0 => (vec![chosen], vec![deletion(&known[chosen].0)]),
            1..4 => {
                let first = creation(&known[chosen].0, &mut random);
                let second = creation(&known[other].0, &mut random);
                (vec![chosen, other], vec![first, second])
            }
            _ => (vec![chosen], vec![creation(&known[chosen].0, &mut random)]),
        };
        match send(&mut client, &changes, guard, random.below(2) == 0).await {
            Ok(revision) => {
                for (place, change) in places.iter().zip(&changes) {
                    known[*place].1 = change.content.map_or(0, |_| revision);
                }
                shared.history().acknowledge(revision, changes);
            }
            Err(status) => {
                shared.history().give_up(changes);
                return shared.expected(&status);
            }
        }
    }
}

fn creation(key: &str, random: &mut Random) -> Change {
    let content = match random.below(50) {
        0 => content::EMPTY,
        _ => random.next().max(1),
    };
    Change {
        key: key.to_owned(),
        content: Some(content),
        lease: 0,
    }
}

fn deletion(key: &str) -> Change {
    Change {
        key: key.to_owned(),
        content: None,
        lease: 0,
    }
}

/// Sends the changes as one request: alone if there is one and `plain` allows it, else as
/// kube-apiserver does, guarded by the revision that the first key had. Returns theirs.
async fn send(
    client: &mut Client,
    changes: &[Change],
    guard: i64,
    plain: bool,
) -> Result<i64, Status> {
    let header = match changes {
        [change] if plain => match put_or_delete(change) {
            Request::RequestPut(put) => client.kv.put(put).await?.into_inner().header,
            Request::RequestDeleteRange(delete) => {
                let response = client.kv.delete_range(delete).await?.into_inner();
                assert_eq!(response.deleted, 1, "the key was there");
                response.header
            }
            other => panic!("no write: {other:?}"),
        },
        _ => {
            let first = changes.first().expect("at least one");
            let operation = |change| RequestOp {
                request: Some(put_or_delete(change)),
            };
            let txn = TxnRequest {
                compare: vec![mod_revision_is(&first.key, guard)],
                success: changes.iter().map(operation).collect(),
                failure: Vec::new(),
            };
            let response = client.kv.txn(txn).await?.into_inner();
            assert!(
                response.succeeded,
                "{} has another revision than {guard}",
                first.key
            );
            response.header
        }
    };
    Ok(header.expect("a header").revision)
}

fn put_or_delete(change: &Change) -> Request {
    let key = change.key.clone().into();
    match change.content {
        Some(number) => Request::RequestPut(PutRequest {
            key,
            value: content::value(number).into(),
            lease: change.lease,
            ..PutRequest::default()
        }),
        None => Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        }),
    }
}

fn mod_revision_is(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

/// Grants leases, attaches a key to each, and revokes some of them.
async fn keep_leases(mut client: Client, shared: Shared, mut random: Random) {
    loop {
        let result = match random.below(3) {
            0 => revoke_one(&mut client, &shared, &mut random).await,
            _ => grant_one(&mut client, &shared, &mut random).await,
        };
        if let Err(status) = result {
            return shared.expected(&status);
        }
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
}

async fn grant_one(
    client: &mut Client,
    shared: &Shared,
    random: &mut Random,
) -> Result<(), Status> {
    let ttl_seconds = match random.below(3) {
        0 => SHORT_TTL_SECONDS,
        _ => LONG_TTL_SECONDS,
    };
    let id = i64::try_from(random.next() >> 1)
        .expect("one bit less")
        .max(1);
    let mut lease = Lease::new(id, ttl_seconds);
    lease.grant = Outcome::Unknown;
    let change = Change {
        lease: id,
        ..creation(&lease.key(), random)
    };
    shared.history().leases.insert(id, lease);
    let request = LeaseGrantRequest {
        ttl: ttl_seconds,
        id,
    };
    let response = client.lease.lease_grant(request).await?.into_inner();
    assert_eq!(
        (response.id, response.ttl),
        (id, ttl_seconds),
        "{}",
        response.error
    );
    shared.set_lease(id, |lease| lease.grant = Outcome::Acknowledged);
    let changes = vec![change];
    match send(client, &changes, 0, true).await {
        Ok(revision) => shared.history().acknowledge(revision, changes),
        Err(status) => {
            shared.history().give_up(changes);
            return Err(status);
        }
    }
    Ok(())
}

async fn revoke_one(
    client: &mut Client,
    shared: &Shared,
    random: &mut Random,
) -> Result<(), Status> {
    let granted: Vec<i64> = {
        let history = shared.history();
        let long = |lease: &&Lease| {
            lease.ttl_seconds == LONG_TTL_SECONDS
                && lease.grant == Outcome::Acknowledged
                && lease.revoke == Outcome::NotAsked
        };
        history
            .leases
            .values()
            .filter(long)
            .map(|lease| lease.id)
            .collect()
    };
    if granted.is_empty() {
        return Ok(());
    }
    let chosen = random.below(granted.len() as u64);
    let id = granted[usize::try_from(chosen).expect("small")];
    shared.set_lease(id, |lease| lease.revoke = Outcome::Unknown);
    let response = client.lease.lease_revoke(LeaseRevokeRequest { id }).await?;
    shared.set_lease(id, |lease| lease.revoke = Outcome::Acknowledged);
    let header = response.into_inner().header;
    shared.history().observe(header.expect("a header").revision);
    Ok(())
}

impl Shared {
    fn set_lease(&self, id: i64, set: impl FnOnce(&mut Lease)) {
        set(self.history().leases.get_mut(&id).expect("it was noted"));
    }
}

/// Reads single keys; no answer may be older than what anybody was told before the call.
async fn read(mut client: Client, shared: Shared, mut random: Random) {
    loop {
        let floor = shared.history().highest();
        let writer = random.below(WRITERS);
        let key = format!("writer/{writer}/{}", random.below(KEYS_PER_WRITER));
        let request = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        let response = match client.kv.range(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return shared.expected(&status),
        };
        let revision = response.header.expect("a header").revision;
        assert!(
            revision >= floor,
            "read at {revision}, after {floor} was told"
        );
        for kv in &response.kvs {
            content::number(&kv.value);
        }
        shared.history().observe(revision);
    }
}
