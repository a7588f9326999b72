//! The report of a side-by-side run: medians over the rounds, spread, ratio, targets; as text and
//! as JSON.
//!
//! Invariant: a figure of a run with errors is shown with its errors and judges no target.

use std::fmt::Write;

use serde::Serialize;

use crate::lines::Line;
use crate::measurement::{Measurement, Quantity};
use crate::targets;

/// Above this load average, something else ran before the bench began.
const QUIET_LOAD_MAX: f64 = 0.5;

/// All that a run gave.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub etcd: Store,
    pub sternpost: Store,
    /// Medians of the raw flush probes, one before each store's round, in milliseconds.
    pub flush_p50_ms: Vec<f64>,
}

/// Where the run took place.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub kernel: String,
    pub file_system: String,
    pub load_average_before: String,
}

/// One store's runs of all lines.
#[derive(Debug, Serialize)]
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
        summarise(
            self.of(line)
                .filter_map(|one| one.quantity(quantity))
                .collect(),
        )
    }

    fn errors<'a>(&'a self, line: &'a str) -> (u64, Option<&'a str>) {
        let errors = self.of(line).map(|one| one.errors).sum();
        (
            errors,
            self.of(line).find_map(|one| one.first_error.as_deref()),
        )
    }
}

/// How many targets came out which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub met: usize,
    pub missed: usize,
    pub open: usize,
}

impl Report {
    /// The report as text, and how the targets came out.
    pub fn text(&self, lines: &[Line]) -> (String, Verdict) {
        let mut text = String::new();
        let mut verdict = Verdict::default();
        let flush = summarise(self.flush_p50_ms.clone());
        self.write_head(&mut text, flush);
        for line in lines {
            self.write_line(&mut text, line, flush, &mut verdict);
        }
        let Verdict { met, missed, open } = verdict;
        append(
            &mut text,
            &format!("Targets: {met} met, {missed} missed, {open} not judged"),
        );
        (text, verdict)
    }

    fn write_head(&self, text: &mut String, flush: Option<Summary>) {
        let Machine {
            cores,
            kernel,
            file_system,
            load_average_before,
        } = &self.machine;
        append(
            text,
            &format!(
                "{cores} cores, Linux {kernel}, {file_system}, load before {load_average_before}, \
             {} rounds",
                self.rounds
            ),
        );
        if load_average_before
            .parse::<f64>()
            .is_ok_and(|load| load > QUIET_LOAD_MAX)
        {
            append(
                text,
                "the machine was NOT QUIET: these figures only show that the bench works",
            );
        }
        append(
            text,
            &format!("A: etcd {} ({})", self.etcd.version, self.etcd.binary),
        );
        append(
            text,
            &format!(
                "B: sternpost, as {} ({})",
                self.sternpost.version, self.sternpost.binary
            ),
        );
        if let Some(flush) = flush {
            append(
                text,
                &format!(
                    "raw flush of this disk (4 KiB, fdatasync): p50 {} ms, spread {:.0} %",
                    figure(flush.median),
                    flush.spread * 100.0
                ),
            );
        }
    }

    fn write_line(
        &self,
        text: &mut String,
        line: &Line,
        flush: Option<Summary>,
        verdict: &mut Verdict,
    ) {
        append(text, &format!("\n{} ({})", line.name, line.operation));
        append(
            text,
            &format!(
                "  {:<18}{:>12}{:>8}{:>12}{:>8}{:>9}  target",
                "", "etcd", "spread", "sternpost", "spread", "ratio"
            ),
        );
        let flush_ms = flush.map(|flush| flush.median);
        let with_errors = self.write_errors(text, line);
        for quantity in Quantity::ALL {
            let etcd = self.etcd.summary(line.name, quantity);
            let sternpost = self.sternpost.summary(line.name, quantity);
            let (etcd_median, own_median) = (etcd.map(|s| s.median), sternpost.map(|s| s.median));
            let calm = self
                .sternpost
                .summary("put-calm", quantity)
                .map(|s| s.median);
            let mut judged = Vec::new();
            for target in targets::of(line.name)
                .iter()
                .filter(|t| t.quantity == quantity)
            {
                let met = target.is_met(etcd_median, own_median, flush_ms, calm);
                let word = match met.filter(|_| !with_errors) {
                    Some(true) => "met",
                    Some(false) => "MISSED",
                    None => "not judged",
                };
                match word {
                    "met" => verdict.met += 1,
                    "MISSED" => verdict.missed += 1,
                    _ => verdict.open += 1,
                }
                judged.push(format!("{} {word}", target.label()));
            }
            if etcd.is_none() && sternpost.is_none() && judged.is_empty() {
                continue;
            }
            let ratio = etcd_median.zip(own_median).map(|(etcd, own)| own / etcd);
            append(
                text,
                &format!(
                    "  {:<18}{:>12}{:>8}{:>12}{:>8}{:>9}  {}",
                    quantity.label(),
                    shown(etcd_median),
                    spread(etcd),
                    shown(own_median),
                    spread(sternpost),
                    shown(ratio.filter(|ratio| ratio.is_finite())),
                    judged.join(", ")
                ),
            );
        }
        self.write_bottleneck(text, line);
    }

    fn write_errors(&self, text: &mut String, line: &Line) -> bool {
        let mut any = false;
        for (name, store) in [("etcd", &self.etcd), ("sternpost", &self.sternpost)] {
            let (errors, first) = store.errors(line.name);
            if errors > 0 {
                any = true;
                let first = first.unwrap_or_default();
                append(
                    text,
                    &format!("  {errors} ERRORS of {name}, the first: {first}"),
                );
            }
        }
        any
    }

    fn write_bottleneck(&self, text: &mut String, line: &Line) {
        for (name, store) in [("etcd", &self.etcd), ("sternpost", &self.sternpost)] {
            if store.of(line.name).any(Measurement::is_client_bound) {
                append(
                    text,
                    &format!(
                        "  the client was the bottleneck beside {name}: its rate is a lower bound"
                    ),
                );
            }
        }
    }
}

/// One store's measurements as text, without comparison.
pub fn single(measurements: &[Measurement]) -> String {
    let mut text = format!("{:<22}", "");
    for quantity in Quantity::ALL {
        text.push_str(&format!("{:>10}", quantity.short_label()));
    }
    text.push('\n');
    for one in measurements {
        let mut row = format!("{:<22}", one.line);
        for quantity in Quantity::ALL {
            row.push_str(&format!("{:>10}", shown(one.quantity(quantity))));
        }
        append(&mut text, &row);
        if one.errors > 0 {
            let first = one.first_error.as_deref().unwrap_or_default();
            append(
                &mut text,
                &format!("  {} ERRORS, the first: {first}", one.errors),
            );
        }
        if one.is_client_bound() {
            append(
                &mut text,
                "  the client was the bottleneck: the rate is a lower bound",
            );
        }
    }
    text
}

fn append(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a string takes all text");
}

fn spread(summary: Option<Summary>) -> String {
    summary.map_or(String::new(), |summary| {
        format!("±{:.0} %", summary.spread * 100.0)
    })
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), figure)
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::LINES;
    use crate::measurement::Tally;
    use std::time::Duration;

    fn store(rates: &[u64], errors: u64) -> Store {
        let measure = |operations: &u64| {
            let tally = Tally {
                operations: *operations,
                errors,
                ..Tally::default()
            };
            let second = Duration::from_secs(1);
            let mut one = Measurement::assemble("put-256", &tally, second, second / 10);
            one.server_cpu_us = Some(1e6);
            one.device_written_bytes = Some(1 << 20);
            one
        };
        let measurements = rates.iter().map(measure).collect();
        Store {
            binary: String::new(),
            version: String::new(),
            measurements,
        }
    }

    fn report(etcd: Store, sternpost: Store) -> (String, Verdict) {
        let machine = Machine {
            cores: 2,
            kernel: String::new(),
            file_system: String::new(),
            load_average_before: String::new(),
        };
        let report = Report {
            machine,
            rounds: 3,
            etcd,
            sternpost,
            flush_p50_ms: vec![0.1, 0.3, 0.2],
        };
        let line = LINES.iter().find(|line| line.name == "put-256").unwrap();
        report.text(&[*line])
    }

    #[test]
    fn medians_are_compared_and_judged() {
        let (text, verdict) = report(store(&[90, 100, 300], 0), store(&[450, 400, 10], 0));
        assert_eq!(
            verdict,
            Verdict {
                met: 3,
                missed: 0,
                open: 0
            },
            "{text}"
        );
        assert!(text.contains("4.00  >= 3 x met"), "{text}");
        let (text, verdict) = report(store(&[100], 0), store(&[200], 0));
        assert_eq!(
            verdict,
            Verdict {
                met: 1,
                missed: 2,
                open: 0
            },
            "{text}"
        );
    }

    #[test]
    fn a_line_with_errors_judges_nothing() {
        let (text, verdict) = report(store(&[100], 0), store(&[400], 2));
        assert_eq!(
            verdict,
            Verdict {
                met: 0,
                missed: 0,
                open: 3
            },
            "{text}"
        );
        assert!(text.contains("2 ERRORS of sternpost"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let summary = summarise(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                median: 2.5,
                spread: 0.6
            }
        );
        assert_eq!(summarise(Vec::new()), None);
    }
}
