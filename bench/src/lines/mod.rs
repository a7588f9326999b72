//! The lines of the bench: each one kind of work, run against one store.
//!
//! Invariants: a line prepares what it needs before its meter starts; a line that outlives its
//! limit is an error, never a hang.

mod closed_loop;
mod leases;
mod reads;
mod session;
mod watches;
mod writes;

pub use session::{Session, Settings};

use std::time::Duration;

use crate::failure::Failure;
use crate::measurement::Measurement;

/// A line may take its measured time and this much more to prepare and to finish.
const GRACE: Duration = Duration::from_secs(300);

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
    /// Keep-alives of 256 leases on as many streams.
    KeepAlive,
    /// 1,000 watchers of one prefix on 20 streams.
    FanOut,
    /// From sending a put to its event, at 200 puts a second.
    WatchLatency,
    /// Puts by one client with much history behind them, while it is compacted or not.
    PutOverHistory { compacting: bool },
    /// Puts of all objects of the lists.
    Load,
    /// All objects of a kind.
    List(List),
    /// All objects of one namespace of many.
    Namespace { clients: usize },
    /// The count of all objects of a kind.
    Count,
    /// From kill -9 over the first start to the first answered read.
    Restart,
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Unary,
    Stream,
    Pages,
    KeysOnly,
}

/// A line of the report.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub name: &'static str,
    /// What one operation is.
    pub operation: &'static str,
    pub work: Work,
}

const fn line(name: &'static str, operation: &'static str, work: Work) -> Line {
    Line {
        name,
        operation,
        work,
    }
}

/// All lines, in the order in which they run.
pub const LINES: [Line; 23] = [
    line("start-empty", "start of an empty member", Work::StartEmpty),
    line("put-1", "put, 1 client", Work::Put { clients: 1 }),
    line("put-64", "put, 64 clients", Work::Put { clients: 64 }),
    line("put-256", "put, 256 clients", Work::Put { clients: 256 }),
    line(
        "txn-256",
        "transaction as of kube-apiserver, 256 clients",
        Work::Transaction { clients: 256 },
    ),
    line(
        "get-1",
        "get, linearizable, 1 client",
        Work::Get {
            clients: 1,
            serializable: false,
        },
    ),
    line(
        "get-256",
        "get, linearizable, 256 clients",
        Work::Get {
            clients: 256,
            serializable: false,
        },
    ),
    line(
        "get-serializable-1",
        "get, serializable, 1 client",
        Work::Get {
            clients: 1,
            serializable: true,
        },
    ),
    line(
        "get-serializable-256",
        "get, serializable, 256 clients",
        Work::Get {
            clients: 256,
            serializable: true,
        },
    ),
    line(
        "lease-keep-alive",
        "lease keep-alive, 256 streams",
        Work::KeepAlive,
    ),
    line(
        "watch-fan-out",
        "event, 1,000 watchers on 20 streams",
        Work::FanOut,
    ),
    line(
        "watch-latency",
        "put to event, 200 puts/s",
        Work::WatchLatency,
    ),
    line(
        "put-calm",
        "put, 1 client, 240,000 superseded revisions",
        Work::PutOverHistory { compacting: false },
    ),
    line(
        "put-compacting",
        "put, 1 client, while these are compacted",
        Work::PutOverHistory { compacting: true },
    ),
    line("load", "put of a new key, 256 clients", Work::Load),
    line("list-unary", "key of a unary list", Work::List(List::Unary)),
    line(
        "list-stream",
        "key of a RangeStream",
        Work::List(List::Stream),
    ),
    line(
        "list-pages",
        "key of a list in pages of 500",
        Work::List(List::Pages),
    ),
    line(
        "list-keys-only",
        "key of a list of keys only",
        Work::List(List::KeysOnly),
    ),
    line(
        "namespace-1",
        "list of one namespace (400 keys), 1 client",
        Work::Namespace { clients: 1 },
    ),
    line(
        "namespace-16",
        "list of one namespace (400 keys), 16 clients",
        Work::Namespace { clients: 16 },
    ),
    line("count", "count of all keys of a kind", Work::Count),
    line(
        "restart",
        "restart after kill -9, all keys loaded",
        Work::Restart,
    ),
];

/// The lines with these names, in the order of [`LINES`]; all when no name is given.
///
/// # Errors
/// When a name is not that of a line.
pub fn select(names: &[String]) -> Result<Vec<Line>, Failure> {
    for name in names {
        if LINES.iter().all(|line| line.name != name) {
            return Err(Failure::Refused(format!(
                "no line is called {name}; `bench lines` lists them"
            )));
        }
    }
    let wanted = |line: &&Line| names.is_empty() || names.iter().any(|name| name == line.name);
    Ok(LINES.iter().filter(wanted).copied().collect())
}

/// Runs one line. What goes wrong becomes part of the measurement.
pub async fn run(session: &mut Session, line: Line) -> Measurement {
    let limit = GRACE + session.settings.length;
    let result = match tokio::time::timeout(limit, measure(session, line)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Wrong(format!(
            "not done after {} s",
            limit.as_secs()
        ))),
    };
    result.unwrap_or_else(|failure| Measurement::failed(line.name, &failure))
}

async fn measure(session: &mut Session, line: Line) -> Result<Measurement, Failure> {
    match line.work {
        Work::StartEmpty => session.start_empty(line.name).await,
        Work::Restart => session.restart(line.name).await,
        Work::Put { clients } => writes::put(session, line.name, clients).await,
        Work::Transaction { clients } => writes::transaction(session, line.name, clients).await,
        Work::PutOverHistory { compacting } => {
            writes::put_over_history(session, line.name, compacting).await
        }
        Work::Load => writes::load(session, line.name).await,
        Work::Get {
            clients,
            serializable,
        } => reads::get(session, line.name, clients, serializable).await,
        Work::List(list) => reads::list(session, line.name, list).await,
        Work::Namespace { clients } => reads::namespace(session, line.name, clients).await,
        Work::Count => reads::count(session, line.name).await,
        Work::KeepAlive => leases::keep_alive(session, line.name).await,
        Work::FanOut => watches::fan_out(session, line.name).await,
        Work::WatchLatency => watches::latency(session, line.name).await,
    }
}
