//! What clients were told, and whether a member that was killed still stands by it.
//!
//! A [`History`] owns the events that a watcher was shown (resumed after each restart from
//! the last revision + 1), the writes that were acknowledged or whose outcome is unknown,
//! and the leases. [`History::judge`] is called while nobody writes and nothing of the
//! killed process can still arrive.
//!
//! Invariant: `events` has no gap, no event twice, and no revision in two responses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kvproto::etcdserverpb::RangeResponse;
use kvproto::mvccpb::event::EventType;
use kvproto::mvccpb::{Event, KeyValue};

use crate::content;

/// The revision of an empty store.
const FIRST_REVISION: i64 = 1;

/// Leases below this are meant to end within the test.
const SHORT_SECONDS_MAX: i64 = 60;

/// One event: a key's new content, or None where it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The number of its value (`content::value`).
    pub content: Option<u64>,
    /// The lease that it is attached to, 0 for none.
    pub lease: i64,
}

/// A key as a read must show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    content: u64,
    lease: i64,
}

/// What is known of the outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not sent.
    NotAsked,
    /// It was sent and never answered.
    Unknown,
    /// It was answered with success.
    Acknowledged,
}

/// A lease with the one key that is attached to it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// Its time to live, seconds.
    pub ttl_seconds: i64,
    /// Whether it was granted.
    pub grant: Outcome,
    /// Whether it was revoked.
    pub revoke: Outcome,
    /// Before this instant it cannot have expired: its grant was sent a time to live ago.
    pub lives_until: Instant,
}

impl Lease {
    /// A lease that is about to be granted.
    pub fn new(id: i64, ttl_seconds: i64) -> Lease {
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).expect("it is positive"));
        Lease {
            id,
            ttl_seconds,
            grant: Outcome::NotAsked,
            revoke: Outcome::NotAsked,
            lives_until: Instant::now() + ttl,
        }
    }

    /// The key that is attached to it.
    pub fn key(&self) -> String {
        lease_key(self.id)
    }
}

/// The key that is attached to a lease.
pub fn lease_key(id: i64) -> String {
    format!("lease/{id:x}")
}

/// All that clients were told, over all lives of the process.
#[derive(Debug, Default)]
pub struct History {
    events: BTreeMap<i64, Vec<Change>>,
    arrivals: BTreeMap<i64, Instant>,
    acknowledged: BTreeMap<i64, Vec<Change>>,
    unknown: Vec<Vec<Change>>,
    /// By id.
    pub leases: BTreeMap<i64, Lease>,
    /// Every key as of `judged`.
    state: BTreeMap<String, Row>,
    /// The highest revision that anybody was shown.
    highest: i64,
    judged: i64,
    bookmark: i64,
    /// Writes that were acknowledged, over all lives.
    pub acknowledged_total: u64,
    /// Writes with an unknown outcome that turned out to have happened.
    unknown_happened: u64,
}

impl History {
    /// The history of a new member.
    pub fn new() -> History {
        History {
            highest: FIRST_REVISION,
            judged: FIRST_REVISION,
            ..History::default()
        }
    }

    /// The last revision whose events have arrived.
    pub fn seen(&self) -> i64 {
        let last = self.events.last_key_value();
        last.map_or(self.judged, |(revision, _)| *revision)
    }

    /// A write was acknowledged at a revision.
    pub fn acknowledge(&mut self, revision: i64, changes: Vec<Change>) {
        self.acknowledged_total += 1;
        let before = self.acknowledged.insert(revision, changes);
        assert!(before.is_none(), "two writes were told revision {revision}");
        self.observe(revision);
    }

    /// A write was never answered.
    pub fn give_up(&mut self, changes: Vec<Change>) {
        self.unknown.push(changes);
    }

    /// Somebody was shown a revision.
    pub fn observe(&mut self, revision: i64) {
        self.highest = self.highest.max(revision);
    }

    /// The last revision that was judged.
    pub fn judged(&self) -> i64 {
        self.judged
    }

    /// Amounts for the reader of a log.
    pub fn summary(&self) -> String {
        format!(
            "{} acknowledged writes, {} unknown that happened, {} leases, last revision {}",
            self.acknowledged_total,
            self.unknown_happened,
            self.leases.len(),
            self.highest
        )
    }

    /// The highest revision that anybody was shown.
    pub fn highest(&self) -> i64 {
        self.highest
    }

    /// The mod revision of a key as of the last judgement, 0 where it does not exist.
    pub fn mod_revision(&self, key: &str) -> i64 {
        self.state.get(key).map_or(0, |row| row.mod_revision)
    }

    /// The events of one watch response, in its order.
    pub fn append(&mut self, events: &[Event]) {
        let before = self.seen();
        for event in events {
            let (revision, change) = change(event);
            assert!(
                revision > before,
                "an event of {revision} comes after {before}"
            );
            assert!(
                revision >= self.seen(),
                "events of {revision} are out of order"
            );
            assert!(
                revision <= self.seen() + 1,
                "a gap before revision {revision}"
            );
            assert!(
                revision > self.bookmark,
                "an event of {revision} comes after the promise that {} was all",
                self.bookmark
            );
            self.events.entry(revision).or_default().push(change);
        }
        self.arrivals.insert(self.seen(), Instant::now());
        self.observe(self.seen());
    }

    /// A progress response: every event up to `revision` was sent.
    pub fn promise(&mut self, revision: i64) {
        self.bookmark = self.bookmark.max(revision);
        let seen = self.seen();
        assert!(
            revision <= seen,
            "progress {revision} was told after {seen} only"
        );
    }

    /// Judges what a process shows: `shown` is all its keys, read when nobody wrote;
    /// `replayed` what a watch from `replayed_from` on shows up to the same revision. What
    /// the end of leases has changed since is left for the next time.
    pub fn judge(&mut self, shown: &RangeResponse, replayed_from: i64, replayed: &[Event]) {
        let head = shown.header.as_ref().expect("a header").revision;
        assert!(
            head >= self.highest,
            "revision fell from {} to {head}",
            self.highest
        );
        assert!(
            self.seen() >= head,
            "the resumed watch ends before the head"
        );
        for revision in self.judged + 1..=head {
            let changes = self.events.get(&revision).expect("no gap").clone();
            self.explain(revision, &changes);
            self.replay(revision, changes);
        }
        let lost = self.acknowledged.first_key_value();
        assert!(lost.is_none(), "an acknowledged write is lost: {lost:?}");
        self.unknown.clear();
        self.judged = head;
        self.compare_rows(shown);
        self.compare_replay(replayed_from, replayed);
        for lease in self.leases.values() {
            let gone = !self.state.contains_key(&lease.key());
            assert!(
                gone || lease.revoke != Outcome::Acknowledged,
                "revoked: {lease:?}"
            );
        }
    }

    /// Whether a key is there whose lease is due to end within the test.
    pub fn short_leases_alive(&self) -> bool {
        let due = |lease: &&Lease| lease.ttl_seconds < SHORT_SECONDS_MAX;
        let mut due = self.leases.values().filter(due);
        due.any(|lease| self.state.contains_key(&lease.key()) && !self.was_deleted(lease))
    }

    /// Whether an event that is not judged yet deletes the key of a lease.
    fn was_deleted(&self, lease: &Lease) -> bool {
        let mut new = self
            .events
            .range(self.judged + 1..)
            .flat_map(|(_, changes)| changes);
        new.any(|change| change.content.is_none() && change.key == lease.key())
    }

    /// Forgets events up to a revision that is compacted.
    pub fn forget(&mut self, compacted: i64) {
        assert!(
            compacted <= self.judged,
            "only what is judged may be forgotten"
        );
        self.events = self.events.split_off(&(compacted + 1));
        self.arrivals = self.arrivals.split_off(&(compacted + 1));
    }

    /// A revision is there because a write of it was acknowledged, or given up, or a lease
    /// ended.
    fn explain(&mut self, revision: i64, changes: &[Change]) {
        if let Some(asked) = self.acknowledged.remove(&revision) {
            assert_eq!(
                asked, changes,
                "revision {revision} was acknowledged as something else"
            );
            return;
        }
        if let Some(place) = self.unknown.iter().position(|asked| asked == changes) {
            self.unknown.swap_remove(place);
            self.unknown_happened += 1;
            return;
        }
        let [
            Change {
                key, content: None, ..
            },
        ] = changes
        else {
            panic!("nobody asked for revision {revision}: {changes:?}");
        };
        let ended = self.leases.values().find(|lease| lease.key() == *key);
        let Some(lease) = ended else {
            panic!("nobody deleted {key} at revision {revision}");
        };
        let arrived = self.arrivals.range(revision..).next().map(|(_, at)| *at);
        let expired = arrived.is_some_and(|at| at >= lease.lives_until);
        assert!(
            lease.revoke != Outcome::NotAsked || expired,
            "revision {revision} ends a lease early: {lease:?}"
        );
    }

    fn replay(&mut self, revision: i64, changes: Vec<Change>) {
        for change in changes {
            let Some(content) = change.content else {
                let gone = self.state.remove(&change.key);
                assert!(
                    gone.is_some(),
                    "a delete of nothing at {revision}: {}",
                    change.key
                );
                continue;
            };
            let row = self.state.entry(change.key).or_insert(Row {
                create_revision: revision,
                mod_revision: 0,
                version: 0,
                content,
                lease: 0,
            });
            row.mod_revision = revision;
            row.version += 1;
            row.content = content;
            row.lease = change.lease;
        }
    }

    fn compare_rows(&self, shown: &RangeResponse) {
        let found: BTreeMap<String, Row> = shown.kvs.iter().map(row).collect();
        for (key, wanted) in &self.state {
            assert_eq!(found.get(key), Some(wanted), "key {key}");
        }
        assert_eq!(found.len(), self.state.len(), "keys that nobody wrote");
        assert_eq!(
            shown.count,
            i64::try_from(found.len()).expect("few"),
            "the count"
        );
    }

    fn compare_replay(&self, from: i64, replayed: &[Event]) {
        let mut history: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for event in replayed {
            let (revision, change) = change(event);
            history.entry(revision).or_default().push(change);
        }
        for (revision, wanted) in self.events.range(from..=from.max(self.judged)) {
            assert_eq!(history.get(revision), Some(wanted), "history of {revision}");
        }
        let wanted = self.events.range(from..=from.max(self.judged)).count();
        assert_eq!(
            history.len(),
            wanted,
            "revisions in the history from {from}"
        );
    }
}

fn change(event: &Event) -> (i64, Change) {
    let kv = event.kv.as_ref().expect("an event has a key");
    let content = match event.r#type() {
        EventType::Put => Some(content::number(&kv.value)),
        EventType::Delete => None,
    };
    let change = Change {
        key: String::from_utf8(kv.key.to_vec()).expect("the tests' keys are text"),
        content,
        lease: kv.lease,
    };
    (kv.mod_revision, change)
}

fn row(kv: &KeyValue) -> (String, Row) {
    let key = String::from_utf8(kv.key.to_vec()).expect("the tests' keys are text");
    let row = Row {
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        content: content::number(&kv.value),
        lease: kv.lease,
    };
    (key, row)
}
