//! Etcd and Sternpost in turn, A B A B, on the same disk with the same client.
//!
//! Invariants: only one store runs at a time; each stage of each round starts on an empty
//! directory; both get the same flags, keys and values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::flush_probe::{self, Flush};
use crate::lines::{self, Line, Session, Settings, Stage};
use crate::machine::Machine;
use crate::measurement::Measurement;
use crate::process::Launch;
use crate::progress::Progress;
use crate::report::{Report, Store};

/// Fewer rounds tell nothing of the spread.
pub const ROUNDS_MIN: usize = 3;
/// How long the raw flush is probed before each store's round.
const PROBE_LENGTH: Duration = Duration::from_secs(3);

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub etcd: PathBuf,
    pub sternpost: PathBuf,
    pub flags: Vec<String>,
    /// Variables of every Sternpost.
    pub environment: Vec<(String, String)>,
    /// The variable that forbids io_uring to Sternpost.
    pub forbid_io_uring: (String, String),
    pub directory: PathBuf,
    pub rounds: usize,
    pub settings: Settings,
    pub lines: Vec<Line>,
}

/// Runs all rounds. `keep` is given the report after each of them, for a run that is broken off.
///
/// # Errors
/// When a store's binary is missing, it would not flush, or the directory is no disk; a line or a
/// server that fails is in the report.
pub async fn run(
    comparison: &Comparison,
    keep: impl Fn(&Report) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    if comparison.rounds < ROUNDS_MIN {
        let few = format!("at least {ROUNDS_MIN} rounds are needed");
        return Err(Failure::Refused(few));
    }
    for binary in [&comparison.etcd, &comparison.sternpost] {
        if !binary.is_file() {
            let missing = format!("there is no program {}", binary.display());
            return Err(Failure::Refused(missing));
        }
    }
    let mut progress = Progress::new(steps(comparison));
    let mut report = Report {
        machine: Machine::read(&comparison.directory)?,
        rounds: comparison.rounds,
        scale_down: comparison.settings.scale_down,
        etcd: store(&comparison.etcd),
        sternpost: store(&comparison.sternpost),
        flushes: Vec::new(),
    };
    for round in 1..=comparison.rounds {
        for is_etcd in [true, false] {
            let flush = probe(&comparison.directory)?;
            report.flushes.extend(flush);
            let store = if is_etcd {
                &mut report.etcd
            } else {
                &mut report.sternpost
            };
            let known = store.measurements.len();
            one_store(comparison, store, is_etcd, round, &mut progress).await?;
            for measurement in store.measurements.iter_mut().skip(known) {
                measurement.raw_flush = flush;
            }
        }
        keep(&report)?;
    }
    progress.finish();
    Ok(report)
}

fn takes_part(line: &Line, is_etcd: bool, round: usize) -> bool {
    let left_out = is_etcd && line.stage.is_sternpost_alone();
    let told = round > 1 && line.stage.is_once();
    !left_out && !told
}

fn steps(comparison: &Comparison) -> usize {
    let rounds = (1..=comparison.rounds).flat_map(|round| [(round, true), (round, false)]);
    let lines = &comparison.lines;
    rounds
        .map(|(round, is_etcd)| {
            let taking_part = lines.iter().filter(|line| takes_part(line, is_etcd, round));
            taking_part.count()
        })
        .sum()
}

fn probe(directory: &Path) -> Result<Option<Flush>, Failure> {
    let flushes = flush_probe::probe(directory, PROBE_LENGTH)?;
    let quantile = |per_mille| Some(flushes.quantile(per_mille)?.as_secs_f64() * 1e3);
    let flush = || {
        Some(Flush {
            p50_ms: quantile(500)?,
            p99_ms: quantile(990)?,
            max_ms: flushes.max()?.as_secs_f64() * 1e3,
        })
    };
    Ok(flush())
}

/// One store through all its stages.
async fn one_store(
    comparison: &Comparison,
    store: &mut Store,
    is_etcd: bool,
    round: usize,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let binary = PathBuf::from(&store.binary);
    let label = format!(
        "round {round}, {}",
        if is_etcd { "etcd" } else { "sternpost" }
    );
    let lines: Vec<Line> = comparison
        .lines
        .iter()
        .filter(|line| takes_part(line, is_etcd, round))
        .copied()
        .collect();
    for stage in lines.chunk_by(|one, next| one.stage == next.stage) {
        let mut environment = Vec::new();
        if !is_etcd {
            environment.clone_from(&comparison.environment);
            if stage
                .first()
                .is_some_and(|l| l.stage == Stage::WithoutIoUring)
            {
                environment.push(comparison.forbid_io_uring.clone());
            }
        }
        let launch = Launch::new(
            &binary,
            &comparison.flags,
            &environment,
            &comparison.directory,
        )?;
        match one_stage(launch, &comparison.settings, stage, progress, &label).await {
            Ok((version, measurements)) => {
                store.version = version;
                store.measurements.extend(measurements);
            }
            Err(failure) => {
                let failed = stage.iter().map(|l| Measurement::failed(l.name, &failure));
                store.measurements.extend(failed);
            }
        }
    }
    Ok(())
}

fn store(binary: &Path) -> Store {
    Store {
        binary: binary.display().to_string(),
        version: String::new(),
        measurements: Vec::new(),
    }
}

/// The lines of one stage, from an empty directory to the removal of the directory.
///
/// # Errors
/// When the server cannot be started or does not tell its version.
pub async fn one_stage(
    launch: Launch,
    settings: &Settings,
    lines: &[Line],
    progress: &mut Progress,
    label: &str,
) -> Result<(String, Vec<Measurement>), Failure> {
    let stage = lines.first().map_or(Stage::Usual, |line| line.stage);
    let mut session = Session::launch(launch, settings, stage).await?;
    let version = session.version().await?;
    let mut measurements = Vec::new();
    for line in lines {
        progress.step(&format!("{label}: {}", line.name));
        measurements.push(lines::run(&mut session, *line).await);
    }
    session.end()?;
    Ok((version, measurements))
}
