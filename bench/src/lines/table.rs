//! The table of lines: what can be measured, in the order in which it runs.
//!
//! Lines of one stage share a store; each stage begins with an empty one. A group is what a run
//! chooses by: only the standard one runs unless others are named.

use crate::failure::Failure;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A new member, from the start of its process to the first answered read.
    StartEmpty,
    /// Puts over existing keys.
    Put { clients: usize },
    /// What kube-apiserver does to update: compare the mod revision, put, else range.
    Transaction { clients: usize },
    /// Gets of one existing key.
    Get { clients: usize, serializable: bool },
    /// Gets among all objects.
    GetObjects,
    /// Keep-alives of 256 leases on as many streams.
    KeepAlive,
    /// 1,000 watchers of one prefix on so many streams.
    FanOut { streams: u64 },
    /// From sending a put to its event, at 200 puts a second.
    WatchLatency,
    /// Puts by one client with much history behind them, while it is compacted or not.
    PutOverHistory { compacting: bool },
    /// Puts by 256 clients for long, with a compaction every so often.
    PutSustained,
    /// Puts by one client while another reads lists of all objects.
    PutListing,
    /// Puts by one client while connections with TLS are opened.
    PutHandshakes,
    /// Puts of all objects of the lists.
    Load,
    /// Overwrites of few keys, without a compaction.
    Overwrites,
    /// All objects of a kind.
    List(List),
    /// A page of 500 at a random place among all objects.
    Page,
    /// Readers of lists that stop half-way.
    StoppedReaders,
    /// All objects of one namespace of many.
    Namespace { clients: usize },
    /// The count of all objects of a kind.
    Count,
    /// From kill -9 over the first start to the first answered read.
    Restart,
    /// Pods and node leases through a kube-apiserver.
    Kube,
    /// Nothing; the memory after it.
    Idle,
    /// Puts while so many watchers look at other prefixes.
    PutCrowded { watchers: u64 },
    /// From sending a put to its event while so many watchers look at other prefixes.
    WatchCrowded { watchers: u64 },
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Unary,
    Stream,
    Pages,
    KeysOnly,
}

/// Lines that share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The usual lines.
    Usual,
    /// The put lines again, with io_uring forbidden; Sternpost alone.
    WithoutIoUring,
    /// Full put load for long.
    Sustained,
    /// A million objects.
    Million,
    /// Millions of overwrites; Sternpost alone, in one round.
    Overwrites,
    /// The work that must not grow with the keys: so many objects.
    Grown(u64),
    /// The work that must not grow with watchers elsewhere.
    Crowded,
    /// A kube-apiserver on the store.
    Kube,
}

/// What a run chooses by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Standard,
    Heavy,
    Growth,
    Kube,
}

impl Group {
    /// All, with their names.
    pub const NAMED: [(&'static str, Group); 4] = [
        ("standard", Group::Standard),
        ("heavy", Group::Heavy),
        ("growth", Group::Growth),
        ("kube", Group::Kube),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let mut all = Group::NAMED.iter();
        all.find(|(_, group)| *group == self)
            .map_or("", |(name, _)| name)
    }
}

impl Stage {
    /// The group it runs in.
    pub fn group(self) -> Group {
        match self {
            Stage::Usual | Stage::WithoutIoUring => Group::Standard,
            Stage::Sustained | Stage::Million | Stage::Overwrites => Group::Heavy,
            Stage::Grown(_) | Stage::Crowded => Group::Growth,
            Stage::Kube => Group::Kube,
        }
    }

    /// Whether its targets need no etcd beside them, and etcd is left out.
    pub fn is_sternpost_alone(self) -> bool {
        matches!(self, Stage::WithoutIoUring | Stage::Overwrites)
    }

    /// Whether one round tells all.
    pub fn is_once(self) -> bool {
        self == Stage::Overwrites
    }
}

/// A line of the report.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub name: &'static str,
    /// What one operation is.
    pub operation: &'static str,
    pub work: Work,
    pub stage: Stage,
}

const fn line(name: &'static str, operation: &'static str, stage: Stage, work: Work) -> Line {
    Line {
        name,
        operation,
        work,
        stage,
    }
}

const fn usual(name: &'static str, operation: &'static str, work: Work) -> Line {
    line(name, operation, Stage::Usual, work)
}

const TEN_THOUSAND: Stage = Stage::Grown(10_000);
const HUNDRED_THOUSAND: Stage = Stage::Grown(100_000);
const MILLION: Stage = Stage::Grown(1_000_000);
/// Clients of the lines about growth.
pub const GROWTH_CLIENTS: usize = 16;

const fn get(clients: usize, serializable: bool) -> Work {
    Work::Get {
        clients,
        serializable,
    }
}

/// All lines, in the order in which they run.
#[rustfmt::skip]
pub const LINES: &[Line] = &[
    usual("start-empty", "start of an empty member", Work::StartEmpty),
    usual("put-1", "put, 1 client", Work::Put { clients: 1 }),
    usual("put-64", "put, 64 clients", Work::Put { clients: 64 }),
    usual("put-256", "put, 256 clients", Work::Put { clients: 256 }),
    usual("txn-256", "transaction as of kube-apiserver, 256 clients",
        Work::Transaction { clients: 256 }),
    usual("get-1", "get, linearizable, 1 client", get(1, false)),
    usual("get-256", "get, linearizable, 256 clients", get(256, false)),
    usual("get-serializable-1", "get, serializable, 1 client", get(1, true)),
    usual("get-serializable-256", "get, serializable, 256 clients", get(256, true)),
    usual("lease-keep-alive", "lease keep-alive, 256 streams", Work::KeepAlive),
    usual("watch-fan-out", "event, 1,000 watchers on 20 streams", Work::FanOut { streams: 20 }),
    usual("watch-one-stream", "event, 1,000 watchers on one stream", Work::FanOut { streams: 1 }),
    usual("watch-latency", "put to event, 200 puts/s", Work::WatchLatency),
    usual("put-calm", "put, 1 client, 240,000 superseded revisions",
        Work::PutOverHistory { compacting: false }),
    usual("put-compacting", "put, 1 client, while these are compacted",
        Work::PutOverHistory { compacting: true }),
    usual("put-handshakes", "put, 1 client, beside 500 TLS handshakes/s", Work::PutHandshakes),
    usual("load", "put of a new key, 256 clients", Work::Load),
    usual("list-unary", "key of a unary list", Work::List(List::Unary)),
    usual("list-stream", "key of a RangeStream", Work::List(List::Stream)),
    usual("list-pages", "key of a list in pages of 500", Work::List(List::Pages)),
    usual("list-keys-only", "key of a list of keys only", Work::List(List::KeysOnly)),
    usual("put-listing", "put, 1 client, beside lists of all objects", Work::PutListing),
    usual("readers-stopped", "list reader that stops half-way, 16 of them", Work::StoppedReaders),
    usual("namespace-1", "list of one namespace (400 keys), 1 client",
        Work::Namespace { clients: 1 }),
    usual("namespace-16", "list of one namespace (400 keys), 16 clients",
        Work::Namespace { clients: 16 }),
    usual("count", "count of all keys of a kind", Work::Count),
    usual("restart", "restart after kill -9, all keys loaded", Work::Restart),

    line("put-1-no-io-uring", "put, 1 client, io_uring forbidden",
        Stage::WithoutIoUring, Work::Put { clients: 1 }),
    line("put-256-no-io-uring", "put, 256 clients, io_uring forbidden",
        Stage::WithoutIoUring, Work::Put { clients: 256 }),
    line("txn-256-no-io-uring", "transaction, 256 clients, io_uring forbidden",
        Stage::WithoutIoUring, Work::Transaction { clients: 256 }),

    line("put-sustained", "put, 256 clients, with checkpoints, cleaning and compactions",
        Stage::Sustained, Work::PutSustained),

    line("million-load", "put of a new key, 256 clients, 1 million of them",
        Stage::Million, Work::Load),
    line("million-list", "key of a unary list of 1 million", Stage::Million,
        Work::List(List::Unary)),
    line("million-restart", "restart after kill -9 with 1 million keys",
        Stage::Million, Work::Restart),
    line("million-idle", "rest after load, list and restart of 1 million keys",
        Stage::Million, Work::Idle),

    line("overwrites", "put over one of 10,000 keys, 10 million times, never compacted",
        Stage::Overwrites, Work::Overwrites),

    line("put-10k", "put among 10 thousand keys", TEN_THOUSAND,
        Work::Put { clients: GROWTH_CLIENTS }),
    line("get-10k", "get among 10 thousand keys", TEN_THOUSAND, Work::GetObjects),
    line("count-10k", "count of 10 thousand keys", TEN_THOUSAND, Work::Count),
    line("page-10k", "page of 500 among 10 thousand keys", TEN_THOUSAND, Work::Page),
    line("watch-10k", "put to event among 10 thousand keys", TEN_THOUSAND, Work::WatchLatency),
    line("put-100k", "put among 100 thousand keys", HUNDRED_THOUSAND,
        Work::Put { clients: GROWTH_CLIENTS }),
    line("get-100k", "get among 100 thousand keys", HUNDRED_THOUSAND, Work::GetObjects),
    line("count-100k", "count of 100 thousand keys", HUNDRED_THOUSAND, Work::Count),
    line("page-100k", "page of 500 among 100 thousand keys", HUNDRED_THOUSAND, Work::Page),
    line("watch-100k", "put to event among 100 thousand keys", HUNDRED_THOUSAND,
        Work::WatchLatency),
    line("put-1m", "put among 1 million keys", MILLION, Work::Put { clients: GROWTH_CLIENTS }),
    line("get-1m", "get among 1 million keys", MILLION, Work::GetObjects),
    line("count-1m", "count of 1 million keys", MILLION, Work::Count),
    line("page-1m", "page of 500 among 1 million keys", MILLION, Work::Page),
    line("watch-1m", "put to event among 1 million keys", MILLION, Work::WatchLatency),

    line("put-beside-1k", "put beside 1 thousand other watchers", Stage::Crowded,
        Work::PutCrowded { watchers: 1_000 }),
    line("watch-beside-1k", "put to event beside 1 thousand other watchers", Stage::Crowded,
        Work::WatchCrowded { watchers: 1_000 }),
    line("put-beside-10k", "put beside 10 thousand other watchers", Stage::Crowded,
        Work::PutCrowded { watchers: 10_000 }),
    line("watch-beside-10k", "put to event beside 10 thousand other watchers", Stage::Crowded,
        Work::WatchCrowded { watchers: 10_000 }),
    line("put-beside-100k", "put beside 100 thousand other watchers", Stage::Crowded,
        Work::PutCrowded { watchers: 100_000 }),
    line("watch-beside-100k", "put to event beside 100 thousand other watchers", Stage::Crowded,
        Work::WatchCrowded { watchers: 100_000 }),

    line("kube-apiserver", "request to a kube-apiserver: pods and node leases, 32 clients",
        Stage::Kube, Work::Kube),
];

/// The line of this name.
pub fn named(name: &str) -> Option<&'static Line> {
    LINES.iter().find(|line| line.name == name)
}

/// The lines with these names and those of these groups, in the order of [`LINES`]; the standard
/// group when neither is given.
///
/// # Errors
/// When a name is not that of a line or group.
pub fn select(names: &[String], groups: &[String]) -> Result<Vec<Line>, Failure> {
    for name in names {
        if named(name).is_none() {
            return Err(Failure::Refused(format!(
                "no line is called {name}; `bench lines` lists them"
            )));
        }
    }
    let mut chosen = Vec::new();
    for name in groups {
        match Group::NAMED.iter().find(|(known, _)| known == name) {
            Some((_, group)) => chosen.push(*group),
            // What needs a further program is asked for by name.
            None if name == "all" => {
                chosen.extend([Group::Standard, Group::Heavy, Group::Growth]);
            }
            None => {
                return Err(Failure::Refused(format!(
                    "no group is called {name}: standard, heavy, growth, kube or all"
                )));
            }
        }
    }
    if names.is_empty() && chosen.is_empty() {
        chosen.push(Group::Standard);
    }
    let wanted = |line: &&Line| {
        chosen.contains(&line.stage.group()) || names.iter().any(|name| name == line.name)
    };
    Ok(LINES.iter().filter(wanted).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_stages_lie_together() {
        let names: std::collections::BTreeSet<_> = LINES.iter().map(|line| line.name).collect();
        assert_eq!(names.len(), LINES.len());
        let mut stages: Vec<Stage> = LINES.iter().map(|line| line.stage).collect();
        stages.dedup();
        let again = stages
            .iter()
            .filter(|stage| stages.iter().filter(|other| other == stage).count() > 1);
        assert_eq!(again.count(), 0, "a stage that is left does not come again");
    }

    #[test]
    fn groups_and_names_add_up() {
        let count = |names: &[&str], groups: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let (names, groups): (Vec<String>, Vec<String>) = (own(names), own(groups));
            select(&names, &groups).map(|lines| lines.len()).ok()
        };
        let standard = count(&[], &["standard"]).unwrap();
        assert_eq!(count(&[], &[]), Some(standard));
        assert_eq!(count(&["overwrites"], &["standard"]), Some(standard + 1));
        assert_eq!(count(&[], &["all", "kube"]), Some(LINES.len()));
        assert_eq!(count(&["fly"], &[]), None);
        assert_eq!(count(&[], &["fly"]), None);
    }
}
