//! Every planted bug is found within [`SEEDS_MAX`] seeds:
//! `cargo test -p tests --features planted-bugs --test sim planted`.

use storage::planted::{Bug, plant};

use crate::run_seed;

const SEEDS_MAX: u64 = 1_000;

const BUGS: [Bug; 10] = [
    Bug::AnswerBeforeFlush,
    Bug::RetireBeforeManifest,
    Bug::LeaseEarly,
    Bug::WatcherSkipsRevision,
    Bug::ManifestBeforeRun,
    Bug::SkipDirectorySync,
    Bug::ApplyTwice,
    Bug::DropTombstone,
    Bug::BelieveThePageCache,
    Bug::SkipFlush,
];

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in BUGS {
        plant(Some(bug));
        let found = (0..SEEDS_MAX).find_map(|seed| Some((seed, run_seed(seed).err()?)));
        plant(None);
        match found {
            Some((seed, problem)) => {
                let line = problem.lines().find(|line| line.starts_with("seed "));
                let line: String = line.unwrap_or_default().chars().take(200).collect();
                eprintln!("{bug:?}: found by seed {seed}: {line}");
            }
            None => missed.push(bug),
        }
    }
    assert!(
        missed.is_empty(),
        "not found within {SEEDS_MAX} seeds: {missed:?}"
    );
}
