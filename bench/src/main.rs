//! The bench: a lean load generator for etcd's protocol, alone or side by side with etcd.
//!
//! The client is one thread with one single-threaded runtime; its own CPU is part of every
//! measurement, and the report says where it was the bottleneck. docs/performance.md tells how to
//! repeat a run.

mod anatomy;
mod arguments;
mod connection;
mod failure;
mod flush_probe;
mod frames;
mod latency;
mod lines;
mod machine;
mod measurement;
mod objects;
mod process;
mod procfs;
mod progress;
mod report;
mod side_by_side;
mod targets;
mod tls;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use arguments::{Action, Outputs, Target};
use failure::Failure;
use lines::{Line, Session, Settings};
use measurement::Measurement;
use process::Launch;
use progress::Progress;
use report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long `bench flush-probe` runs.
const PROBE_LENGTH: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match perform() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            drop(writeln!(std::io::stderr().lock(), "bench: {failure}"));
            ExitCode::from(2)
        }
    }
}

/// Whether every call of the run succeeded.
fn perform() -> Result<bool, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments::parse(&words)? {
        Action::Help => write_out(arguments::HELP).map(|()| true),
        Action::Lines => {
            let text = lines::LINES.iter().map(|line| {
                let group = line.stage.group().name();
                format!("{:<22}{group:<10}{}\n", line.name, line.operation)
            });
            write_out(&text.collect::<String>()).map(|()| true)
        }
        Action::FlushProbe { directory } => {
            std::fs::create_dir_all(&directory)?;
            let flushes = flush_probe::probe(&directory, PROBE_LENGTH)?;
            let quantile = |per_mille| flushes.quantile(per_mille).unwrap_or_default();
            write_out(&format!(
                "4 KiB and fdatasync on {}: p50 {:?}, p99 {:?}, max {:?}\n",
                procfs::file_system(&directory)?,
                quantile(500),
                quantile(990),
                quantile(1_000),
            ))
            .map(|()| true)
        }
        Action::Anatomy {
            binary,
            flags,
            environment,
            directory,
            settings,
        } => {
            let launch = Launch::new(&binary, &flags, &environment, &directory)?;
            let text = runtime.block_on(anatomy::run(launch, &directory, &settings))?;
            write_out(&text).map(|()| true)
        }
        Action::Run {
            target,
            lines,
            settings,
            json,
        } => {
            let measurements = runtime.block_on(run_once(target, &lines, settings))?;
            write_out(&report::single(&measurements))?;
            write_json(json.as_deref(), &measurements)?;
            Ok(measurements.iter().all(|one| one.errors == 0))
        }
        Action::SideBySide {
            comparison,
            outputs,
        } => {
            let keep = |report: &Report| write_json(outputs.json.as_deref(), report);
            let report = runtime.block_on(side_by_side::run(&comparison, keep))?;
            write_report(&report, &outputs)?;
            Ok(report.is_without_errors())
        }
        Action::Plot { reports, outputs } => {
            write_report(&read_reports(&reports)?, &outputs).map(|()| true)
        }
    }
}

/// The reports of these files as one.
fn read_reports(files: &[PathBuf]) -> Result<Report, Failure> {
    let mut joined: Option<Report> = None;
    for file in files {
        let wrong = |error| Failure::Refused(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let report: Report =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match &mut joined {
            Some(first) => first.join(report)?,
            None => joined = Some(report),
        }
    }
    joined.ok_or_else(|| Failure::Refused("no report is named".to_owned()))
}

fn write_report(report: &Report, outputs: &Outputs) -> Result<(), Failure> {
    write_out(&report.text())?;
    write_json(outputs.json.as_deref(), report)?;
    if let Some(file) = &outputs.markdown {
        std::fs::write(file, report.markdown())?;
    }
    if let Some(file) = &outputs.png {
        std::fs::write(file, report::png(report)?)?;
    }
    Ok(())
}

async fn run_once(
    target: Target,
    lines: &[Line],
    settings: Settings,
) -> Result<Vec<Measurement>, Failure> {
    let mut progress = Progress::new(lines.len());
    let measurements = match target {
        Target::Binary {
            binary,
            flags,
            environment,
            directory,
        } => {
            let mut measurements = Vec::new();
            for stage in lines.chunk_by(|one, next| one.stage == next.stage) {
                let launch = Launch::new(&binary, &flags, &environment, &directory)?;
                let gave = side_by_side::one_stage(launch, &settings, stage, &mut progress, "run");
                measurements.extend(gave.await?.1);
            }
            measurements
        }
        Target::Endpoint(endpoint) => {
            let mut session = Session::attach(&endpoint, settings).await?;
            if session.observed.pid.is_none() {
                let note = "bench: the server's process cannot be seen from here: whether it \
                            flushes is not known, and its CPU and memory are not measured";
                drop(writeln!(std::io::stderr().lock(), "{note}"));
            }
            let mut measurements = Vec::new();
            for line in lines {
                progress.step(line.name);
                measurements.push(lines::run(&mut session, *line).await);
            }
            session.end()?;
            measurements
        }
    };
    progress.finish();
    Ok(measurements)
}

fn write_out(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn write_json(file: Option<&Path>, report: &impl Serialize) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| Failure::Wrong(format!("the report is no JSON: {error}")))?;
    Ok(std::fs::write(file, text)?)
}
