//! `sternpost check DIR`: verifies a whole data directory offline, whose member must be stopped.
//!
//! Runs on the main thread. One line per finding on stdout, `FILE: offset N: what is wrong`, then a
//! summary; how far it is on stderr, when that is a terminal. Exit codes: 0 without a finding, 1
//! with findings, 2 when the directory cannot be checked. Writes nothing to the directory that
//! counts (`storage::check`).

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use storage::check::{self, Phase, Progress, Report};
use storage::checkpoint::log_place;
use storage::vfs::real::RealVfs;

/// Findings, or none.
const DAMAGED: u8 = 1;
/// No verdict: not ours, in use, a newer format, an I/O error.
const UNCHECKED: u8 = 2;
/// Characters of the progress bar.
const BAR: usize = 40;

/// Checks `directory` and reports.
pub(crate) fn run(directory: &Path) -> ExitCode {
    let mut bar = Bar::new();
    let result = log_place::check_link(&RealVfs, directory)
        .and_then(|()| check::run(&RealVfs, directory, &mut |progress| bar.show(progress)));
    bar.clear();
    match result {
        Ok(report) => {
            let code = if report.is_clean() { 0 } else { DAMAGED };
            match std::io::stdout().lock().write_all(text(&report).as_bytes()) {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(UNCHECKED),
            }
        }
        Err(fatal) => {
            tell(&format!("cannot check {}: {fatal}\n", directory.display()));
            ExitCode::from(UNCHECKED)
        }
    }
}

fn text(report: &Report) -> String {
    let findings = report.findings.iter().map(|finding| {
        let (path, offset) = (finding.path.display(), finding.offset);
        format!("{path}: offset {offset}: {}\n", finding.detail)
    });
    let mut text: String = findings.collect();
    if report.more_findings {
        text.push_str("... and more\n");
    }
    text.push_str(&format!(
        "{}: {} log segments, {} entries after the checkpoint at index {}, {} records, {} cold \
         values ({} more that no record names)\n",
        if report.is_clean() {
            "clean"
        } else {
            "DAMAGED"
        },
        report.log_segments,
        report.log_entries,
        report.applied_index.0,
        report.records,
        report.cold_values,
        report.cold_surplus,
    ));
    text
}

/// A progress bar on a terminal, nothing elsewhere.
struct Bar {
    terminal: bool,
    shown: Option<(Phase, usize)>,
}

impl Bar {
    fn new() -> Bar {
        Bar {
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    fn show(&mut self, progress: Progress) {
        let total = progress.total.max(1);
        let share = progress.done.min(total) as f64 / total as f64;
        let filled = (0..BAR)
            .filter(|cell| (*cell as f64) < share * BAR as f64)
            .count();
        if !self.terminal || self.shown == Some((progress.phase, filled)) {
            return;
        }
        self.shown = Some((progress.phase, filled));
        let name = match progress.phase {
            Phase::Log => "log",
            Phase::Index => "index",
            Phase::Values => "values",
            Phase::Cold => "cold values",
        };
        tell(&format!("\r{name:>11} [{:<BAR$}]", "=".repeat(filled)));
    }

    fn clear(&self) {
        if self.shown.is_some() {
            tell(&format!("\r{}\r", " ".repeat(BAR + 16)));
        }
    }
}

/// Writes to stderr. When even that fails the exit code tells enough.
fn tell(text: &str) {
    let written = std::io::stderr().lock().write_all(text.as_bytes());
    written.unwrap_or_default();
}
