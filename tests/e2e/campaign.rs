//! One member over many lives: started, held against all that it ever told, loaded, ended.
//!
//! A [`Campaign`] owns the member, the clients of its present life, the recorder and the judge
//! (`tests/history`). Clients are joined before anything is judged, so nobody writes
//! meanwhile; only leases end. Limits: [`CALL_WITHIN`] bounds every wait.

use std::time::Duration;

use kvproto::etcdserverpb::{HashKvRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest};
use storage::apply::command::Command;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::client::{CALL_WITHIN, Client, all_keys};
use crate::content::Random;
use crate::history::durable::everything;
use crate::history::judge::Judge;
use crate::history::record::{Request, Watch};
use crate::load::{self, lease_key};
use crate::process::Member;
use crate::recorder::Recorder;

/// The number under which the campaign itself calls.
const CAMPAIGN: u64 = 1_000;
/// Leases below this are meant to end within the test.
const SHORT_SECONDS_MAX: i64 = 60;

/// One member over many lives, and what is known of it.
pub struct Campaign {
    /// The process.
    pub member: Member,
    /// What its clients were told.
    pub recorder: Recorder,
    /// Chooses operations and pauses.
    pub random: Random,
    /// Holds it against the promises.
    pub judge: Judge,
    watches: Vec<u64>,
    watch: JoinSet<()>,
    clients: JoinSet<()>,
    compacted: i64,
    /// HashKV as an earlier process told it: revision, compacted revision, hash.
    hash: Option<(i64, i64, u32)>,
    /// Where the member's log lies, and its data unless said otherwise.
    _directory: TempDir,
}

impl Campaign {
    /// A new member that does not run yet. The seed is printed.
    pub fn new() -> Campaign {
        Campaign::numbered(0)
    }

    /// The so many-th new member of one test.
    pub fn numbered(number: u64) -> Campaign {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let member = Member::new(directory.path());
        Campaign::of(member, directory, number)
    }

    /// The same for a member that lies elsewhere, the so many-th of one test: each draws
    /// from a seed of its own.
    pub fn of(member: Member, directory: TempDir, number: u64) -> Campaign {
        let seed = from_environment("STERNPOST_E2E_SEED", u64::from(std::process::id()));
        if number == 0 {
            eprintln!("STERNPOST_E2E_SEED={seed}");
        }
        let seed = seed.wrapping_add(number << 32);
        Campaign {
            member,
            recorder: Recorder::new(),
            random: Random::new(seed),
            judge: Judge::new(),
            watches: Vec::new(),
            watch: JoinSet::new(),
            clients: JoinSet::new(),
            compacted: 0,
            hash: None,
            _directory: directory,
        }
    }

    /// Starts the member, resumes the watches and judges what the member kept.
    pub async fn start(&mut self) {
        self.recorder.announce_end(false);
        self.member.start();
        self.follow().await;
        self.judge().await;
    }

    /// Resumes each watch from the last revision that it has reached + 1.
    async fn follow(&mut self) {
        let port = self.member.client_port();
        let mut next: Vec<Watch> = vec![load::of_all(2), load::filtered(2, &mut self.random)];
        for (watch, number) in next.iter_mut().zip(&self.watches) {
            *watch = self.recorder.resumed(*number);
        }
        self.watches.clear();
        for watch in next {
            let number = load::follow(port, &self.recorder, watch, &mut self.watch).await;
            self.watches.push(number);
        }
    }

    /// Puts the member under load.
    pub async fn load(&mut self) {
        let port = self.member.client_port();
        load::start(port, &self.recorder, &mut self.random, &mut self.clients).await;
    }

    /// Kills the member, which must be alive until then.
    pub async fn kill(&mut self) {
        self.member.assert_running();
        self.recorder.announce_end(true);
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

    /// A directory that was left behind is clean.
    pub fn check(&self) {
        if !crate::process::is_etcd() {
            let (status, text) = self.member.check();
            assert!(status.success(), "{status}: {text}");
        }
    }

    /// Waits until the short leases have ended; all else stays as it is.
    pub async fn outlive_short_leases(&mut self) {
        let waiting = async {
            while self.short_leases_alive() {
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.judge().await;
            }
        };
        let ended = tokio::time::timeout(CALL_WITHIN, waiting).await;
        ended.expect("leases expire");
    }

    fn short_leases_alive(&self) -> bool {
        let rows = self.judge.rows();
        let mut short = self
            .judge
            .leases
            .0
            .iter()
            .filter(|(_, l)| l.ttl_seconds < SHORT_SECONDS_MAX);
        short.any(|(lease, _)| rows.iter().any(|kv| kv.lease == *lease))
    }

    /// Compacts at a revision that the watches have passed.
    pub async fn compact(&mut self) {
        let judged = self.judge.model.state().0;
        let reached = self
            .watches
            .iter()
            .map(|number| self.recorder.reached(*number));
        let below = reached.min().unwrap_or(0).min(judged);
        let revision = self.compacted + (below - self.compacted) * 3 / 4;
        if revision <= self.compacted {
            return;
        }
        let request = Request::Write(Command::Compact { revision });
        let mut client = Client::connect(self.member.client_port()).await;
        let answer = self.recorder.call(CAMPAIGN, &mut client, request).await;
        assert_eq!(answer, Ok(Answer::Compact));
        self.compacted = revision;
        self.judge.forget(revision);
    }

    /// Holds all that was told against what the running process shows.
    pub async fn judge(&mut self) {
        let mut client = Client::connect(self.member.client_port()).await;
        let read = Request::Read(everything(0));
        let shown = self.recorder.call(CAMPAIGN, &mut client, read).await;
        let Ok(Answer::Range { revision: head, .. }) = shown else {
            panic!("all keys can be read: {shown:?}");
        };
        self.wait_for_watch(head).await;
        self.recorder.must_reach(self.watches[0], head);
        let history = self.recorder.take(&self.watches);
        let findings = self.judge.judge(&history);
        assert!(findings.is_empty(), "{}", told(&findings));
        self.check_leases(&mut client).await;
        self.check_compacted(&mut client).await;
        self.check_hash(&mut client, head).await;
    }

    async fn wait_for_watch(&self, head: i64) {
        let waiting = async {
            while self.recorder.reached(self.watches[0]) < head {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let arrived = tokio::time::timeout(CALL_WITHIN, waiting).await;
        let seen = self.recorder.reached(self.watches[0]);
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
        let rows = self.judge.rows();
        for (id, lease) in &self.judge.leases.0 {
            let present = listed.contains(id);
            if lease.revoke_answered.is_some() {
                assert!(!present, "revoked and still there: {id} {lease:?}");
            }
            let ended = lease.revoke_invoked.is_some() || lease.ended.is_some();
            // Half of its life is left, so it cannot end while it is looked at.
            let due = self.recorder.now() + CALL_WITHIN > lease.not_before;
            if !lease.granted || ended || due {
                continue;
            }
            assert!(present, "granted and gone: {id} {lease:?}");
            if self.judge.amounts.answered % 7 != id.unsigned_abs() % 7 {
                continue;
            }
            let request = LeaseTimeToLiveRequest {
                id: *id,
                keys: true,
            };
            let told = client.lease.lease_time_to_live(request).await;
            let told = told.expect("a lease").into_inner();
            assert_eq!(told.granted_ttl, lease.ttl_seconds, "{lease:?}");
            assert!(told.ttl <= lease.ttl_seconds, "{told:?}");
            let key = lease_key(*id).into_bytes();
            let attached = rows.iter().any(|kv| kv.key == key);
            let keys: Vec<Vec<u8>> = told.keys.iter().map(|key| key.to_vec()).collect();
            let wanted = attached.then_some(key);
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

    /// Amounts, for whoever reads the output.
    pub fn summary(&self) -> String {
        let last = self.judge.model.state().0;
        format!("{}, last revision {last}", self.judge.amounts)
    }
}

/// What the judge found, with room for a few lines of each.
fn told(findings: &[(&'static str, String)]) -> String {
    let lines = findings.iter().map(|(property, problem)| {
        let problem: String = problem.chars().take(2_000).collect();
        format!("{property}: {problem}\n")
    });
    lines.collect()
}

async fn hash_kv(client: &mut Client, revision: i64) -> (i64, i64, u32) {
    let request = HashKvRequest { revision };
    let told = client.maintenance.hash_kv(request).await.expect("a hash");
    let told = told.into_inner();
    (told.hash_revision, told.compact_revision, told.hash)
}

/// A number that a campaign sets in the environment.
pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
