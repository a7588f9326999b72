//! The report as text for a terminal.

use std::fmt::Write;

use super::{Outcome, Report, Row, Store, Summary, Verdict, figure, shown, summarise};
use crate::lines::{Line, Work};
use crate::measurement::{Measurement, Quantity};

impl Report {
    /// All lines with all their quantities, and how the targets came out.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.head() {
            append(&mut text, &line);
        }
        for line in self.lines() {
            self.write_line(&mut text, line);
        }
        let Verdict { met, missed, open } = self.verdict();
        let summary = format!("\nTargets: {met} met, {missed} missed, {open} not judged");
        append(&mut text, &summary);
        for (row, judged) in self.missed() {
            let (name, quantity) = (row.line.name, row.quantity.label());
            let (label, measured) = (judged.target.label(), shown(judged.measured));
            let line = format!("  missed: {name}, {quantity}: {measured}, wanted {label}");
            append(&mut text, &line);
        }
        text
    }

    fn missed(&self) -> Vec<(Row, super::Judged)> {
        let rows = self.lines().flat_map(|line| self.rows(line));
        rows.flat_map(|row| {
            let judged = row.judged.clone().into_iter();
            judged.map(move |judged| (row.clone(), judged))
        })
        .filter(|(_, judged)| judged.outcome == Outcome::Missed)
        .collect()
    }

    /// Machine, date, stores and disk, a sentence each.
    pub(super) fn head(&self) -> Vec<String> {
        let machine = &self.machine;
        let mut head = vec![format!("{}, {} rounds", machine.sentence(), self.rounds)];
        if !machine.was_quiet() {
            let warning = "the machine was NOT QUIET: these figures only show that the bench works";
            head.push(warning.to_owned());
        }
        if self.scale_down > 1 {
            head.push(format!(
                "heavy and growth lines were made {} times SMALLER: these figures only show that \
                 the bench works",
                self.scale_down
            ));
        }
        head.push(format!(
            "A: etcd {} ({})",
            self.etcd.version, self.etcd.binary
        ));
        head.push(format!(
            "B: sternpost, as {} ({})",
            self.sternpost.version, self.sternpost.binary
        ));
        if let Some(flush) = self.flush() {
            let longest = self.flushes.iter().map(|flush| flush.max_ms);
            head.push(format!(
                "raw flush of this disk (4 KiB, fdatasync): p50 {} ms, spread {:.0} %, longest {} ms",
                figure(flush.median),
                flush.spread * 100.0,
                figure(longest.fold(0.0, f64::max))
            ));
        }
        head
    }

    fn write_line(&self, text: &mut String, line: &'static Line) {
        append(text, &format!("\n{} ({})", line.name, line.operation));
        let head = format!(
            "  {:<18}{:>12}{:>8}{:>12}{:>8}{:>9}  target",
            "", "etcd", "spread", "sternpost", "spread", "ratio"
        );
        append(text, &head);
        for note in self.notes(line) {
            append(text, &format!("  {note}"));
        }
        for row in self.rows(line) {
            let judged: Vec<String> = row
                .judged
                .iter()
                .map(|judged| format!("{} {}", judged.target.label(), judged.outcome.word()))
                .collect();
            let cells = format!(
                "  {:<18}{:>12}{:>8}{:>12}{:>8}{:>9}  {}",
                row.quantity.label(),
                shown(row.etcd.map(|summary| summary.median)),
                spread(row.etcd),
                shown(row.sternpost.map(|summary| summary.median)),
                spread(row.sternpost),
                shown(row.ratio),
                judged.join(", ")
            );
            append(text, &cells);
        }
    }

    /// Errors of a line, and whether its client was the bottleneck.
    pub(super) fn notes(&self, line: &Line) -> Vec<String> {
        let stores: [(&str, &Store); 2] = [("etcd", &self.etcd), ("sternpost", &self.sternpost)];
        let mut notes = Vec::new();
        for (name, store) in stores {
            let (errors, first) = store.errors(line.name);
            if errors > 0 {
                let first = first.unwrap_or_default();
                notes.push(format!("{errors} ERRORS of {name}, the first: {first}"));
            }
            if store.of(line.name).any(Measurement::is_client_bound) {
                notes.push(format!(
                    "the client was the bottleneck beside {name}: its rate is a lower bound"
                ));
            }
        }
        notes.extend(self.beside_flush(line));
        notes
    }

    /// How far above the raw flush the puts of one client are: the disk's share of them.
    fn beside_flush(&self, line: &Line) -> Option<String> {
        let is_alone = matches!(
            line.work,
            Work::Put { clients: 1 } | Work::PutOverHistory { .. }
        );
        let flushes = self.flushes_beside(line.name).into_iter();
        let flush = summarise(flushes.map(|flush| flush.p50_ms).collect()).filter(|_| is_alone)?;
        let above = |store: &Store| {
            let median = store.summary(line.name, Quantity::Median)?.median;
            Some(median - flush.median)
        };
        Some(format!(
            "the raw flush has a median of {} ms; above it: etcd {}, sternpost {}",
            figure(flush.median),
            shown(above(&self.etcd)),
            shown(above(&self.sternpost))
        ))
    }
}

/// One store's measurements as text, without comparison.
pub fn single(measurements: &[Measurement]) -> String {
    let all = Quantity::ALL.into_iter();
    let quantities: Vec<Quantity> = all
        .filter(|quantity| measurements.iter().any(|m| m.quantity(*quantity).is_some()))
        .collect();
    let mut text = format!("{:<22}", "");
    for quantity in &quantities {
        text.push_str(&format!("{:>10}", quantity.short_label()));
    }
    text.push('\n');
    for one in measurements {
        let mut row = format!("{:<22}", one.line);
        for quantity in &quantities {
            row.push_str(&format!("{:>10}", shown(one.quantity(*quantity))));
        }
        append(&mut text, &row);
        if one.errors > 0 {
            let first = one.first_error.as_deref().unwrap_or_default();
            let line = format!("  {} ERRORS, the first: {first}", one.errors);
            append(&mut text, &line);
        }
        if one.is_client_bound() {
            let line = "  the client was the bottleneck: the rate is a lower bound";
            append(&mut text, line);
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
