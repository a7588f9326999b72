//! Where the time of one put goes: what the client sees, what the server's own histograms tell of
//! it, and what each thread of the server spends and how often it sleeps.
//!
//! The parts are means, because only sums can be taken apart. Limit: with many clients a put waits
//! for the flush of its own group and for what is left of the one before, so there the rest inside
//! the server is mostly waiting.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::flush_probe;
use crate::lines::{Session, Settings, Stage, puts};
use crate::process::Launch;
use crate::procfs::{self, Thread};

/// How long the raw flush is probed.
const PROBE_LENGTH: Duration = Duration::from_secs(3);
/// Clients of the two tables.
const CLIENTS: [usize; 2] = [1, 256];
const REQUEST: &str = "etcd_server_request_duration_seconds";
const LOG_WRITE: &str = "etcd_disk_wal_write_duration_seconds";
const FLUSH: &str = "etcd_disk_wal_fsync_duration_seconds";
const APPLY: &str = "etcd_server_apply_duration_seconds";

/// Sum and count of each histogram, all labels together.
type Histograms = BTreeMap<String, (f64, f64)>;

/// Starts the server, puts with one and with 256 clients, and tells where the time went.
///
/// # Errors
/// When the server cannot be started, a put fails or its metrics cannot be read.
pub async fn run(launch: Launch, directory: &Path, settings: &Settings) -> Result<String, Failure> {
    let raw = flush_probe::probe(directory, PROBE_LENGTH)?;
    let mut session = Session::launch(launch, settings, Stage::Usual).await?;
    session.need_keys().await?;
    let mut text = String::new();
    let mut append = |line: &str| writeln!(text, "{line}").expect("a string takes all text");
    append(&format!(
        "raw flush of this disk: mean {:.0} us",
        micros(raw.mean())
    ));
    for clients in CLIENTS {
        let part = one_table(&session, clients).await?;
        append(&part);
    }
    session.end()?;
    Ok(text)
}

async fn one_table(session: &Session, clients: usize) -> Result<String, Failure> {
    let server_pid = session.observed.pid.unwrap_or_default();
    let (before, threads_before) = (
        histograms(session.endpoint()).await?,
        procfs::threads(server_pid)?,
    );
    let tally = puts(session, clients).await;
    let (after, threads_after) = (
        histograms(session.endpoint()).await?,
        procfs::threads(server_pid)?,
    );
    if let Some(error) = tally.first_error {
        return Err(Failure::Wrong(error));
    }
    let count = tally.operations.max(1) as f64;
    let seen = micros(tally.latencies.mean());
    let parts = Parts::between(&before, &after, seen, count);
    let mut text = parts.table(clients);
    let mut append = |line: &str| writeln!(text, "{line}").expect("a string takes all text");
    append(&format!(
        "  {:<44}{:>10}{:>10}",
        "thread", "CPU us", "sleeps"
    ));
    for (name, spent) in by_name(&threads_before, &threads_after) {
        let (cpu, sleeps) = (micros(spent.cpu) / count, spent.sleeps as f64 / count);
        append(&format!("    {name:<42}{cpu:>10.1}{sleeps:>10.3}"));
    }
    Ok(text)
}

/// Means in microseconds.
#[derive(Clone, Copy, Debug)]
struct Parts {
    seen: f64,
    request: f64,
    log_write: f64,
    flush: f64,
    apply: f64,
    puts_per_flush: f64,
}

impl Parts {
    fn between(before: &Histograms, after: &Histograms, seen: f64, count: f64) -> Parts {
        let of = |name: &str| {
            let then = before.get(name).copied().unwrap_or_default();
            let now = after.get(name).copied().unwrap_or_default();
            (now.0 - then.0, now.1 - then.1)
        };
        let mean = |name: &str| {
            let (sum, times) = of(name);
            if times > 0.0 { sum / times * 1e6 } else { 0.0 }
        };
        let flushes = of(FLUSH).1.max(1.0);
        Parts {
            seen,
            request: mean(REQUEST),
            log_write: mean(LOG_WRITE),
            flush: mean(FLUSH),
            apply: of(APPLY).0 * 1e6 / count,
            puts_per_flush: count / flushes,
        }
    }

    fn table(self, clients: usize) -> String {
        let rows = [
            ("the client sees", self.seen),
            (
                "  gRPC, sockets, the client itself",
                self.seen - self.request,
            ),
            ("  the server, from request to answer", self.request),
            ("    write to the log", self.log_write),
            ("    flush", self.flush),
            ("    apply", self.apply),
            (
                "    rest: raft, hand-over, waiting for a group",
                self.request - self.log_write - self.flush - self.apply,
            ),
        ];
        let mut text = format!(
            "\nput, {clients} clients, {:.1} puts to a flush{:>26}\n",
            self.puts_per_flush, "mean us"
        );
        for (name, value) in rows {
            text.push_str(&format!("  {name:<44}{value:>10.1}\n"));
        }
        text
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

/// What the threads of each name did between two looks; those that did nothing are left out.
fn by_name(before: &[Thread], after: &[Thread]) -> BTreeMap<String, Thread> {
    let mut names: BTreeMap<String, Thread> = BTreeMap::new();
    for thread in after {
        let then = before.iter().find(|other| other.id == thread.id);
        let cpu = thread
            .cpu
            .saturating_sub(then.map_or(Duration::ZERO, |then| then.cpu));
        let sleeps = thread.sleeps - then.map_or(0, |then| then.sleeps);
        if sleeps == 0 && cpu.is_zero() {
            continue;
        }
        let entry = names.entry(thread.name.clone()).or_default();
        entry.cpu += cpu;
        entry.sleeps += sleeps;
    }
    names
}

/// The histograms of a server's /metrics.
async fn histograms(endpoint: &str) -> Result<Histograms, Failure> {
    let mut stream = TcpStream::connect(endpoint).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(Failure::Wrong("no metrics at /metrics".to_owned()));
    }
    Ok(parse(&answer))
}

fn parse(text: &str) -> Histograms {
    let mut found = Histograms::new();
    for line in text.lines() {
        let Some((series, value)) = line.trim().rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        // Requests and applies of another kind are none of ours.
        if labels.contains("\"Range\"") || labels.contains("\"Txn\"") {
            continue;
        }
        if let Some(name) = name.strip_suffix("_sum") {
            found.entry(name.to_owned()).or_default().0 += value;
        } else if let Some(name) = name.strip_suffix("_count") {
            found.entry(name.to_owned()).or_default().1 += value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_summed_over_their_labels() {
        let text = "# TYPE a histogram\na_bucket{le=\"1\"} 3\na_sum{op=\"Put\"} 1.5\n\
                    a_sum{op=\"Range\"} 9\na_sum{op=\"Delete\"} 0.5\na_count{op=\"Put\"} 4\nb_sum 1e-3\n";
        let found = parse(text);
        assert_eq!(found.get("a"), Some(&(2.0, 4.0)));
        assert_eq!(found.get("b"), Some(&(0.001, 0.0)));
    }

    #[test]
    fn the_parts_add_up() {
        let of = |pairs: &[(&str, f64, f64)]| -> Histograms {
            let pairs = pairs.iter();
            pairs
                .map(|(name, sum, count)| ((*name).to_owned(), (*sum, *count)))
                .collect()
        };
        let before = of(&[(FLUSH, 1.0, 10.0)]);
        let after = of(&[
            (FLUSH, 1.0 + 100.0 * 2e-4, 110.0),
            (REQUEST, 400.0 * 3e-4, 400.0),
            (APPLY, 400.0 * 5e-6, 400.0),
        ]);
        let parts = Parts::between(&before, &after, 350.0, 400.0);
        let close = |one: f64, other: f64| (one - other).abs() < 1e-6;
        assert!(
            close(parts.flush, 200.0) && close(parts.request, 300.0),
            "{parts:?}"
        );
        assert!(
            close(parts.apply, 5.0) && close(parts.puts_per_flush, 4.0),
            "{parts:?}"
        );
        assert!(parts.table(1).contains("95.0"), "{}", parts.table(1));
    }
}
