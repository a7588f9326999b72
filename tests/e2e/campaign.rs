//! One member over many lives: started, held against all that it ever told, loaded, ended.
//!
//! A [`Campaign`] owns the member, the clients of its present life and what is known of
//! it. Clients are joined before anything is judged, so nobody writes meanwhile; only
//! leases end. Limits: [`CALL_WITHIN`] bounds every wait.

use std::time::{Duration, Instant};

use kvproto::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeResponse,
};
use kvproto::mvccpb::Event;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::client::{CALL_WITHIN, Client, all_keys};
use crate::content::Random;
use crate::history::Outcome;
use crate::load::{self, Shared};
use crate::process::Member;

/// One member over many lives, and what is known of it.
pub struct Campaign {
    /// The process.
    pub member: Member,
    /// What its clients were told.
    pub shared: Shared,
    /// Chooses operations and pauses.
    pub random: Random,
    watch: JoinSet<()>,
    clients: JoinSet<()>,
    compacted: i64,
    /// HashKV as an earlier process told it: revision, compacted revision, hash.
    hash: Option<(i64, i64, u32)>,
    _directory: TempDir,
}

impl Campaign {
    /// A new member that does not run yet. The seed is printed.
    pub fn new() -> Campaign {
        let seed = from_environment("STERNPOST_E2E_SEED", u64::from(std::process::id()));
        eprintln!("STERNPOST_E2E_SEED={seed}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        Campaign {
            member: Member::new(directory.path()),
            shared: Shared::new(),
            random: Random::new(seed),
            watch: JoinSet::new(),
            clients: JoinSet::new(),
            compacted: 0,
            hash: None,
            _directory: directory,
        }
    }

    /// Starts the member, resumes the watch and judges what the member kept.
    pub async fn start(&mut self) {
        self.shared.announce_end(false);
        self.member.start();
        let port = self.member.client_port();
        load::follow(port, &self.shared, &mut self.watch).await;
        self.judge().await;
    }

    /// Puts the member under load.
    pub async fn load(&mut self) {
        let port = self.member.client_port();
        load::start(port, &self.shared, &mut self.random, &mut self.clients).await;
    }

    /// Kills the member, which must be alive until then.
    pub async fn kill(&mut self) {
        self.member.assert_running();
        self.shared.announce_end(true);
        self.member.kill();
        self.join().await;
    }

    /// Waits until all clients of the process that has ended have noticed.
    pub async fn join(&mut self) {
        for tasks in [&mut self.clients, &mut self.watch] {
            while let Some(ended) = tasks.join_next().await {
                ended.expect("a client failed");
            }
        }
    }

    /// Waits until the short leases have ended; all else stays as it is.
    pub async fn outlive_short_leases(&mut self) {
        let waiting = async {
            while self.shared.history().short_leases_alive() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let ended = tokio::time::timeout(CALL_WITHIN, waiting).await;
        ended.expect("leases expire");
        self.judge().await;
    }

    /// Compacts at a revision that the watcher has passed.
    pub async fn compact(&mut self) {
        let judged = self.shared.history().judged();
        let revision = self.compacted + (judged - self.compacted) * 3 / 4;
        if revision <= self.compacted {
            return;
        }
        let physical = self.random.below(2) == 0;
        let request = CompactionRequest { revision, physical };
        let mut client = Client::connect(self.member.client_port()).await;
        client.kv.compact(request).await.expect("a compaction");
        self.compacted = revision;
        self.shared.history().forget(revision);
    }

    /// Holds all that was told against what the running process shows.
    async fn judge(&mut self) {
        let mut client = Client::connect(self.member.client_port()).await;
        let shown = client.range_all(0).await;
        let head = revision(&shown);
        let from = self.compacted + 1;
        let replayed = replay(&mut client, from, head).await;
        self.wait_for_watch(head).await;
        self.shared.history().judge(&shown, from, &replayed);
        self.check_leases(&mut client).await;
        self.check_compacted(&mut client).await;
        self.check_hash(&mut client, head).await;
    }

    async fn wait_for_watch(&self, head: i64) {
        let waiting = async {
            while self.shared.history().seen() < head {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let arrived = tokio::time::timeout(CALL_WITHIN, waiting).await;
        let seen = self.shared.history().seen();
        assert!(
            arrived.is_ok(),
            "the resumed watch stopped at {seen}, the head is {head}"
        );
    }

    /// Every lease that was granted and not revoked is there with its key, no revoked one.
    async fn check_leases(&self, client: &mut Client) {
        let listed = client.lease.lease_leases(LeaseLeasesRequest {}).await;
        let listed = listed.expect("the leases").into_inner().leases;
        let listed: Vec<i64> = listed.iter().map(|lease| lease.id).collect();
        let leases = self.shared.history().leases.clone();
        for lease in leases.values() {
            let present = listed.contains(&lease.id);
            if lease.revoke == Outcome::Acknowledged {
                assert!(!present, "revoked and still there: {lease:?}");
            }
            let lives = lease.lives_until > Instant::now();
            let granted = lease.grant == Outcome::Acknowledged;
            if !granted || lease.revoke != Outcome::NotAsked || !lives {
                continue;
            }
            assert!(present, "granted and gone: {lease:?}");
            let request = LeaseTimeToLiveRequest {
                id: lease.id,
                keys: true,
            };
            let told = client.lease.lease_time_to_live(request).await;
            let told = told.expect("a lease").into_inner();
            assert_eq!(told.granted_ttl, lease.ttl_seconds, "{lease:?}");
            assert!(told.ttl <= lease.ttl_seconds, "{told:?}");
            let attached = self.shared.history().mod_revision(&lease.key()) != 0;
            let wanted = attached.then(|| lease.key().into_bytes());
            let keys: Vec<Vec<u8>> = told.keys.iter().map(|key| key.to_vec()).collect();
            assert_eq!(keys, wanted.into_iter().collect::<Vec<_>>(), "{lease:?}");
        }
    }

    /// An acknowledged compaction stays: what lies below answers so.
    async fn check_compacted(&self, client: &mut Client) {
        if self.compacted > 1 {
            let mut request = all_keys();
            request.revision = self.compacted - 1;
            let status = client.kv.range(request).await.expect_err("it is compacted");
            assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
            assert!(status.message().contains("has been compacted"), "{status}");
        }
    }

    /// The hash of an old revision is what the process before said.
    async fn check_hash(&mut self, client: &mut Client, head: i64) {
        if let Some((revision, compacted, hash)) = self.hash.take() {
            let now = hash_kv(client, revision).await;
            if now.1 == compacted {
                assert_eq!(now, (revision, compacted, hash), "HashKV over a restart");
            }
        }
        self.hash = Some(hash_kv(client, head).await);
    }
}

/// Every event of the revisions from `from` to `head`, by a watch of its own.
async fn replay(client: &mut Client, from: i64, head: i64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let (_requests, mut responses) = load::watch_all(client, from).await;
    let last = |events: &[Event]| events.last()?.kv.as_ref().map(|kv| kv.mod_revision);
    while head >= from.max(2) && last(&events).is_none_or(|revision| revision < head) {
        let next = tokio::time::timeout(CALL_WITHIN, responses.message()).await;
        let next = next
            .expect("the history is sent")
            .expect("the history is sent");
        events.extend(next.expect("the stream goes on").events);
    }
    events.retain(|event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision <= head));
    events
}

async fn hash_kv(client: &mut Client, revision: i64) -> (i64, i64, u32) {
    let request = HashKvRequest { revision };
    let told = client.maintenance.hash_kv(request).await.expect("a hash");
    let told = told.into_inner();
    (told.hash_revision, told.compact_revision, told.hash)
}

fn revision(shown: &RangeResponse) -> i64 {
    shown.header.as_ref().expect("a header").revision
}

/// A number that a campaign sets in the environment.
pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
