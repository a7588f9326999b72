//! The bank of planted bugs (README.md): every one is found within [`SEEDS_MAX`] seeds
//! and [`TIME_MAX`]:
//! `cargo test -p tests --features planted-bugs --test sim planted`.

use std::time::{Duration, Instant};

use storage::planted::{Bug, plant};

use crate::run_seed;

const SEEDS_MAX: u64 = 1_000;
const TIME_MAX: Duration = Duration::from_secs(300);

const BUGS: [Bug; 31] = [
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
    Bug::RetryFailedFlush,
    Bug::BelieveOldGroup,
    Bug::HardStateLostAtRoll,
    Bug::PrepareBeforeHeader,
    Bug::IndexWithoutEffects,
    Bug::CollectionSkips,
    Bug::ColdValueOfAnother,
    Bug::EvictInherited,
    Bug::PinIgnored,
    Bug::ReadCompacted,
    Bug::PageCountOfAnotherRevision,
    Bug::SplitTransaction,
    Bug::PredecessorTooOld,
    Bug::RevokeLeavesKey,
    Bug::LeaseKeysNotLoaded,
    Bug::MissedBell,
    Bug::WatcherRepeats,
    Bug::NoPutIgnored,
    Bug::ProgressBeforeEvents,
    Bug::ScrubSkipsChecksums,
    Bug::ScrubBelievesRecycled,
];

#[test]
fn every_planted_bug_is_found() {
    let page = include_str!("README.md");
    let mut missed = Vec::new();
    for bug in BUGS {
        assert!(
            page.contains(&format!("| `{bug:?}` |")),
            "{bug:?} is not in the bank's page"
        );
        plant(Some(bug));
        let began = Instant::now();
        let seeds = (0..SEEDS_MAX).take_while(|_| began.elapsed() < TIME_MAX);
        let found = { seeds }.find_map(|seed| Some((seed, run_seed(seed).err()?)));
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
