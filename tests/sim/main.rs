//! A simulation of one member from one seed in one thread: the production engine,
//! node and storage (compiled here from the same source, without all that serves
//! around them) over a disk whose faults are drawn from the seed
//! (docs/durability.md). `SIM_SEEDS` sets how many seeds run, `SIM_SEED` one
//! seed to replay, with the whole trace of a failure when `SIM_TRACE=1`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

#[path = "../model/apply/answer.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod answer;
mod answers;
mod boot;
mod bugs;
mod clients;
mod damage;
#[path = "../model/apply/deferred.rs"]
mod deferred;
#[path = "../../server/src/engine/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the simulation uses a part")]
mod engine;
mod engine_tests;
mod faults;
#[path = "../history/mod.rs"]
#[allow(
    dead_code,
    reason = "what is recorded over the network is judged elsewhere"
)]
mod history;
mod host;
mod member;
#[path = "../model/apply/model.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod model;
#[path = "../../server/src/node/mod.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
mod node;
#[cfg(feature = "planted-bugs")]
#[path = "../bugbank/runner.rs"]
mod planted;
mod probe;
mod readers;
mod run;
mod settings;
mod steps;
mod store;
mod trace;
mod watch;
mod watching;
mod writes;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use faults::{Counts, FaultKind};
use probe::Ended;
use run::{Run, Stats};
use trace::Trace;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 500;

/// What one seed gave.
struct Done {
    counts: Counts,
    stats: Stats,
    digest: (u64, u64),
}

/// Runs one seed; on failure what is wrong, with the last lines of the trace.
fn run_seed(seed: u64) -> Result<Done, String> {
    let trace = Rc::new(RefCell::new(Trace::default()));
    trace.borrow_mut().keep_all = number("SIM_TRACE").is_some();
    let mut run = Run::new(seed, Rc::clone(&trace));
    let outcome = catch_unwind(AssertUnwindSafe(|| run.go()));
    let problem = match outcome {
        Ok(Ok(())) => {
            return Ok(Done {
                counts: run.counts,
                stats: run.stats,
                digest: trace.borrow().digest(),
            });
        }
        Ok(Err(problem)) => problem,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            format!("panicked: {}", text.unwrap_or_default())
        }
    };
    let trace = trace.borrow();
    let lines: Vec<&str> = trace.kept().map(String::as_str).collect();
    Err(format!(
        "{}\nseed {seed} fails: {problem}\nreplay: SIM_SEED={seed} cargo test -p tests --test sim \
         seeds",
        lines.join("\n")
    ))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn seeds() {
    if let Some(seed) = number("SIM_SEED") {
        if let Err(problem) = run_seed(seed) {
            panic!("{problem}");
        }
        return;
    }
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(0);
    let began = Instant::now();
    let mut counts = Counts::default();
    let mut stats = Stats::default();
    let mut failed = Vec::new();
    for seed in first..first + count {
        match run_seed(seed) {
            Ok(done) => {
                counts.add(&done.counts);
                stats.add(&done.stats);
            }
            Err(problem) if number("SIM_KEEP_GOING").is_some() => {
                failed.push(problem);
            }
            Err(problem) => panic!("{problem}"),
        }
    }
    for problem in &failed {
        let lines: Vec<&str> = problem.lines().rev().take(4).collect();
        eprintln!("{lines:?}");
    }
    assert!(failed.is_empty(), "{} of {count} seeds fail", failed.len());
    let real = began.elapsed();
    eprintln!("{count} seeds from {first}: {stats:?}");
    eprintln!(
        "simulated {:?} in {real:?}: {:.0} times faster than real time",
        stats.simulated,
        stats.simulated.as_secs_f64() / real.as_secs_f64()
    );
    for (probe, count) in &counts.probes {
        eprintln!("  {probe:?}: {count}");
    }
    for kind in FaultKind::OF_BYTES {
        let found = counts.probes.get(&(kind, Ended::FoundByScrub));
        assert!(
            found.is_some() || count < 100,
            "the scrub never found a {kind:?} in {count} seeds"
        );
    }
    for kind in FaultKind::OF_A_LIFE.into_iter().chain(FaultKind::OF_A_DISK) {
        let of =
            |map: &std::collections::BTreeMap<FaultKind, u64>| map.get(&kind).copied().unwrap_or(0);
        let (announced, reached) = (of(&counts.announced), of(&counts.reached));
        eprintln!("  {kind:?}: announced {announced}, reached {reached}");
        assert!(
            reached > 0 || count < 100,
            "the fault {kind:?} never fired in {count} seeds"
        );
    }
}

#[test]
fn two_runs_of_one_seed_are_equal() {
    for seed in [1, 2, 3] {
        let digests = [(); 2].map(|()| match run_seed(seed) {
            Ok(done) => done.digest,
            Err(problem) => panic!("{problem}"),
        });
        assert_eq!(digests[0], digests[1], "seed {seed} is not reproducible");
        assert!(digests[0].1 > 100, "the trace says what happened");
    }
}
