//! `sternpost check DIR`: the offline checker on the command line.
//!
//! Findings go to standard output, one line each (`FILE: offset N: what`), then one
//! line that sums up; how far the check has come goes to standard error, and only
//! when that is a terminal. Exit codes: 0 clean, 1 findings, 2 could not check.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use storage::check::{self, Phase, Progress, Report};
use storage::vfs::real::RealVfs;

/// How a check ended; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No finding.
    Clean = 0,
    /// Findings.
    Damaged = 1,
    /// The check itself did not come to an end.
    NotChecked = 2,
}

/// Between two looks of the progress line.
const REDRAW: Duration = Duration::from_millis(100);

/// Characters of the bar.
const BAR_WIDTH: usize = 30;

/// Checks a data directory, tells what was found, and how it ended.
pub(crate) fn run(directory: &Path) -> Outcome {
    let mut bar = Bar::new(io::stderr().is_terminal());
    let result = check::run(&RealVfs, directory, &mut |progress| bar.show(progress));
    bar.clear();
    let report = match result {
        Ok(report) => report,
        Err(fatal) => {
            tell(&mut io::stderr(), &format!("cannot check: {fatal}\n"));
            return Outcome::NotChecked;
        }
    };
    let text = text(&report, directory);
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match (written, report.is_clean()) {
        // Whoever reads only the exit code must not take this for clean.
        (Err(_), _) => Outcome::NotChecked,
        (Ok(()), true) => Outcome::Clean,
        (Ok(()), false) => Outcome::Damaged,
    }
}

fn text(report: &Report, directory: &Path) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (path, offset) = (finding.path.display(), finding.offset);
        text += &format!("{path}: offset {offset}: {}\n", finding.detail);
    }
    if report.more_findings {
        text += &format!(
            "further findings are left out after {}\n",
            check::FINDINGS_MAX
        );
    }
    let verdict = match report.findings.len() {
        0 => "clean".to_owned(),
        1 => "1 finding".to_owned(),
        number => format!("{number} findings"),
    };
    text += &format!(
        "{}: {verdict} (applied index {}, {} records, {} cold values, {} log segments, {} entries \
         to replay)\n",
        directory.display(),
        report.applied_index.0,
        report.records,
        report.cold_values,
        report.log_segments,
        report.log_entries,
    );
    text
}

/// One line that is drawn over and over.
struct Bar {
    shown: bool,
    terminal: bool,
    last: Option<Instant>,
}

impl Bar {
    fn new(terminal: bool) -> Bar {
        Bar {
            shown: false,
            terminal,
            last: None,
        }
    }

    fn show(&mut self, progress: Progress) {
        let due = self.last.is_none_or(|last| last.elapsed() >= REDRAW);
        if self.terminal && due {
            self.last = Some(Instant::now());
            self.shown = true;
            tell(&mut io::stderr(), &format!("\r{}\x1b[K", line(progress)));
        }
    }

    fn clear(&mut self) {
        if self.shown {
            tell(&mut io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(progress: Progress) -> String {
    let what = match progress.phase {
        Phase::Log => "log",
        Phase::Index => "index records",
        Phase::Values => "values in the log",
        Phase::Cold => "cold values",
    };
    let done = u128::from(progress.done.min(progress.total));
    let total = u128::from(progress.total.max(1));
    let percent = usize::try_from(done * 100 / total).expect("at most a hundred");
    let filled = BAR_WIDTH * percent / 100;
    let bar = "#".repeat(filled) + &".".repeat(BAR_WIDTH - filled);
    format!("[{bar}] {percent:>3} % {what}")
}

/// Writes what is only for the eye; when that fails nobody sees it anyway.
fn tell(out: &mut impl Write, text: &str) {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .unwrap_or(());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        let at = |done, total| {
            line(Progress {
                phase: Phase::Cold,
                done,
                total,
            })
        };
        let full = "#".repeat(BAR_WIDTH);
        assert_eq!(
            at(0, 0),
            format!("[{}]   0 % cold values", ".".repeat(BAR_WIDTH))
        );
        assert_eq!(at(7, 7), format!("[{full}] 100 % cold values"));
        assert_eq!(at(9, 7), format!("[{full}] 100 % cold values"));
        assert!(at(1, 2).contains(" 50 %"));
    }
}
