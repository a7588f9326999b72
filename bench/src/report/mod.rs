//! The report of a side-by-side run: medians over the rounds, spread, ratio, targets; as text,
//! Markdown, JSON and a picture.
//!
//! Invariant: a figure of a run with errors is shown with its errors and judges no target.

mod canvas;
mod markdown;
mod plot;
mod text;

pub use plot::png;
pub use text::single;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::flush_probe::Flush;
use crate::lines::{LINES, Line};
use crate::machine::Machine;
use crate::measurement::{Measurement, Quantity};
use crate::targets::{self, Figures, Target};

/// All that a run gave.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    /// By how much heavy and growth lines were made smaller; 1 in a run that counts.
    pub scale_down: u64,
    pub etcd: Store,
    pub sternpost: Store,
    /// The raw flush of the disk, probed before each store's round.
    pub flushes: Vec<Flush>,
}

/// One store's runs of all lines.
#[derive(Debug, Serialize, Deserialize)]
pub struct Store {
    pub binary: String,
    pub version: String,
    pub measurements: Vec<Measurement>,
}

/// One quantity of one line over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    /// Half the distance between lowest and highest, as a share of the median.
    pub spread: f64,
}

/// Median and spread; None without figures.
pub fn summarise(mut figures: Vec<f64>) -> Option<Summary> {
    figures.sort_by(f64::total_cmp);
    let (lowest, highest) = (*figures.first()?, *figures.last()?);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    let median = (lower + upper) / 2.0;
    let spread = if median > 0.0 {
        (highest - lowest) / 2.0 / median
    } else {
        0.0
    };
    Some(Summary { median, spread })
}

impl Store {
    fn of<'a>(&'a self, line: &'a str) -> impl Iterator<Item = &'a Measurement> {
        self.measurements
            .iter()
            .filter(move |measurement| measurement.line == line)
    }

    fn summary(&self, line: &str, quantity: Quantity) -> Option<Summary> {
        let figures = self.of(line).filter_map(|one| one.quantity(quantity));
        summarise(figures.collect())
    }

    /// How many calls failed, and the first failure.
    fn errors<'a>(&'a self, line: &'a str) -> (u64, Option<&'a str>) {
        let errors = self.of(line).map(|one| one.errors).sum();
        let first = self.of(line).find_map(|one| one.first_error.as_deref());
        (errors, first)
    }
}

/// How a target came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Met,
    Missed,
    /// A figure is missing, or there were errors.
    Open,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Met => "met",
            Outcome::Missed => "MISSED",
            Outcome::Open => "not judged",
        }
    }
}

/// A target with what was measured.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub target: Target,
    pub measured: Option<f64>,
    pub outcome: Outcome,
}

/// One quantity of one line, both stores beside each other.
#[derive(Clone, Debug)]
pub struct Row {
    pub line: &'static Line,
    pub quantity: Quantity,
    pub etcd: Option<Summary>,
    pub sternpost: Option<Summary>,
    pub ratio: Option<f64>,
    pub judged: Vec<Judged>,
}

/// How many targets came out which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub met: usize,
    pub missed: usize,
    pub open: usize,
}

impl Report {
    /// Puts the lines of another run of the same stores behind its own. Of a line that both hold,
    /// the other's measurements replace its own.
    ///
    /// # Errors
    /// When the other run was made smaller and this one not, or the other way round.
    pub fn join(&mut self, other: Report) -> Result<(), Failure> {
        if self.scale_down != other.scale_down {
            let why = "reports of runs with another --scale-down do not belong together";
            return Err(Failure::Refused(why.to_owned()));
        }
        for (own, more) in [
            (&mut self.etcd, other.etcd),
            (&mut self.sternpost, other.sternpost),
        ] {
            let replaced = |one: &Measurement| more.measurements.iter().any(|m| m.line == one.line);
            own.measurements.retain(|one| !replaced(one));
            own.measurements.extend(more.measurements);
        }
        self.flushes.extend(other.flushes);
        Ok(())
    }

    /// The lines that were run, in the order of the table.
    pub fn lines(&self) -> impl Iterator<Item = &'static Line> {
        LINES.iter().filter(|line| {
            let mut all = self.sternpost.of(line.name).chain(self.etcd.of(line.name));
            all.next().is_some()
        })
    }

    /// Whether no call failed.
    pub fn is_without_errors(&self) -> bool {
        let mut all = self
            .etcd
            .measurements
            .iter()
            .chain(&self.sternpost.measurements);
        all.all(|one| one.errors == 0)
    }

    /// The raw flushes of the runs that a line was part of.
    fn flushes_beside(&self, line: &str) -> Vec<Flush> {
        let all = self.etcd.of(line).chain(self.sternpost.of(line));
        all.filter_map(|one| one.raw_flush).collect()
    }

    /// The median of the raw flush over all probes.
    fn flush(&self) -> Option<Summary> {
        summarise(self.flushes.iter().map(|flush| flush.p50_ms).collect())
    }

    /// All quantities of a line that were measured or are judged.
    pub fn rows(&self, line: &'static Line) -> Vec<Row> {
        let targets = targets::of(line.name);
        let with_errors =
            self.etcd.errors(line.name).0 > 0 || self.sternpost.errors(line.name).0 > 0;
        let row = |quantity: Quantity| {
            let etcd = self.etcd.summary(line.name, quantity);
            let sternpost = self.sternpost.summary(line.name, quantity);
            let ratio = etcd.zip(sternpost).map(|(a, b)| b.median / a.median);
            let own = targets.iter().filter(|target| target.quantity == quantity);
            let judged = own.map(|target| self.judge(line, *target, etcd, sternpost, with_errors));
            Row {
                line,
                quantity,
                etcd,
                sternpost,
                ratio: ratio.filter(|ratio| ratio.is_finite()),
                judged: judged.collect(),
            }
        };
        let rows = Quantity::ALL.into_iter().map(row);
        rows.filter(|row| row.etcd.is_some() || row.sternpost.is_some() || !row.judged.is_empty())
            .collect()
    }

    fn judge(
        &self,
        line: &Line,
        target: Target,
        etcd: Option<Summary>,
        sternpost: Option<Summary>,
        with_errors: bool,
    ) -> Judged {
        let median = |summary: Option<Summary>| summary.map(|summary| summary.median);
        let other = target.bound.other_line();
        let other_errors = other.is_some_and(|line| self.sternpost.errors(line).0 > 0);
        let flushes = self.flushes_beside(line.name);
        let flush = summarise(flushes.iter().map(|flush| flush.p50_ms).collect());
        let figures = Figures {
            etcd: median(etcd),
            sternpost: median(sternpost),
            other_line: median(other.and_then(|o| self.sternpost.summary(o, target.quantity))),
            flush_median_ms: median(flush),
            flush_longest_ms: flushes.iter().map(|flush| flush.max_ms).reduce(f64::max),
        };
        let judges = !with_errors && !other_errors && self.scale_down == 1;
        let outcome = match target.is_met(figures).filter(|_| judges) {
            Some(true) => Outcome::Met,
            Some(false) => Outcome::Missed,
            None => Outcome::Open,
        };
        Judged {
            target,
            measured: target.measured(figures),
            outcome,
        }
    }

    /// How the targets of all lines came out.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for judged in self
            .lines()
            .flat_map(|line| self.rows(line))
            .flat_map(|row| row.judged)
        {
            match judged.outcome {
                Outcome::Met => verdict.met += 1,
                Outcome::Missed => verdict.missed += 1,
                Outcome::Open => verdict.open += 1,
            }
        }
        verdict
    }
}

/// Three digits that count.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), figure)
}

#[cfg(test)]
mod tests;
