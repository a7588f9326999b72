//! Etcd and Sternpost in turn, A B A B, on the same disk with the same client.
//!
//! Invariants: only one store runs at a time; each round starts on an empty directory; both get
//! the same flags, keys and values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::flush_probe;
use crate::lines::{self, Line, Session, Settings};
use crate::measurement::Measurement;
use crate::process::Launch;
use crate::procfs;
use crate::progress::Progress;
use crate::report::{Machine, Report, Store};

/// Fewer rounds tell nothing of the spread.
pub const ROUNDS_MIN: usize = 3;
/// How long the raw flush is probed before each store's round.
const PROBE_LENGTH: Duration = Duration::from_secs(2);

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub etcd: PathBuf,
    pub sternpost: PathBuf,
    pub flags: Vec<String>,
    pub directory: PathBuf,
    pub rounds: usize,
    pub settings: Settings,
    pub lines: Vec<Line>,
}

/// Runs all rounds.
///
/// # Errors
/// When a store cannot be started or the directory is no disk; a line that fails is in the report.
pub async fn run(comparison: &Comparison) -> Result<Report, Failure> {
    if comparison.rounds < ROUNDS_MIN {
        return Err(Failure::Refused(format!(
            "at least {ROUNDS_MIN} rounds are needed"
        )));
    }
    let mut progress = Progress::new(comparison.rounds * 2 * comparison.lines.len());
    let machine = machine(&comparison.directory)?;
    let mut etcd = store(&comparison.etcd);
    let mut sternpost = store(&comparison.sternpost);
    let mut flush_p50_ms = Vec::new();
    for round in 1..=comparison.rounds {
        for (name, store) in [("etcd", &mut etcd), ("sternpost", &mut sternpost)] {
            let flushes = flush_probe::probe(&comparison.directory, PROBE_LENGTH)?;
            flush_p50_ms.extend(flushes.quantile(500).map(|took| took.as_secs_f64() * 1e3));
            let binary = PathBuf::from(&store.binary);
            let launch = Launch::new(&binary, &comparison.flags, &comparison.directory)?;
            let label = format!("round {round}, {name}");
            let settings = comparison.settings.clone();
            let gave =
                one_round(launch, settings, &comparison.lines, &mut progress, &label).await?;
            store.version = gave.0;
            store.measurements.extend(gave.1);
        }
    }
    progress.finish();
    Ok(Report {
        machine,
        rounds: comparison.rounds,
        etcd,
        sternpost,
        flush_p50_ms,
    })
}

fn store(binary: &Path) -> Store {
    let binary = binary.display().to_string();
    Store {
        binary,
        version: String::new(),
        measurements: Vec::new(),
    }
}

/// One store, from an empty directory through all lines to the removal of the directory.
pub async fn one_round(
    launch: Launch,
    settings: Settings,
    lines: &[Line],
    progress: &mut Progress,
    label: &str,
) -> Result<(String, Vec<Measurement>), Failure> {
    let mut session = Session::launch(launch, settings).await?;
    let version = session.version().await?;
    let mut measurements = Vec::new();
    for line in lines {
        progress.step(&format!("{label}: {}", line.name));
        measurements.push(lines::run(&mut session, *line).await);
    }
    session.end()?;
    Ok((version, measurements))
}

fn machine(directory: &Path) -> Result<Machine, Failure> {
    std::fs::create_dir_all(directory)?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        kernel: kernel.trim().to_owned(),
        file_system: procfs::file_system(directory)?,
        load_average_before: load
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}
