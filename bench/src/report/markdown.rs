//! The report as Markdown for docs/performance.md: the targets first, then every line.

use std::fmt::Write;

use super::{Outcome, Report, Verdict, shown};
use crate::measurement::Quantity;

/// Quantities of the table of all lines; the others stand in the JSON.
const SHOWN: [Quantity; 9] = [
    Quantity::Rate,
    Quantity::Median,
    Quantity::P99,
    Quantity::P999,
    Quantity::Max,
    Quantity::ServerCpu,
    Quantity::PeakMemory,
    Quantity::Written,
    Quantity::ClientShare,
];

impl Report {
    /// Head, targets and all lines.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut append = |line: &str| writeln!(text, "{line}").expect("a string takes all text");
        for line in self.head() {
            append(&format!("- {line}"));
        }
        let Verdict { met, missed, open } = self.verdict();
        append(&format!(
            "\n**Targets: {met} met, {missed} missed, {open} not judged.** A ratio is \
             Sternpost : etcd; medians over the rounds.\n"
        ));
        append("| Line | Quantity | etcd | Sternpost | Target | Measured | |");
        append("|---|---|---:|---:|---|---:|---|");
        for line in self.lines() {
            for row in self.rows(line) {
                for judged in &row.judged {
                    let outcome = match judged.outcome {
                        Outcome::Missed => "**MISSED**",
                        other => other.word(),
                    };
                    append(&format!(
                        "| {} | {} | {} | {} | {} | {} | {outcome} |",
                        line.name,
                        row.quantity.label(),
                        shown(row.etcd.map(|summary| summary.median)),
                        shown(row.sternpost.map(|summary| summary.median)),
                        judged.target.label(),
                        shown(judged.measured),
                    ));
                }
            }
        }
        append("\nAll lines, etcd / Sternpost:\n");
        let heads = SHOWN.map(|quantity| quantity.label().to_owned());
        append(&format!("| Line | {} |", heads.join(" | ")));
        append(&format!("|---|{}", "---:|".repeat(SHOWN.len())));
        for line in self.lines() {
            let rows = self.rows(line);
            let cells = SHOWN.map(|quantity| {
                let row = rows.iter().find(|row| row.quantity == quantity);
                let etcd = row.and_then(|row| row.etcd).map(|summary| summary.median);
                let own = row.and_then(|row| row.sternpost);
                let own = own.map(|summary| summary.median);
                match (etcd, own) {
                    (None, None) => String::new(),
                    pair => format!("{} / {}", shown(pair.0), shown(pair.1)),
                }
            });
            append(&format!("| {} | {} |", line.name, cells.join(" | ")));
        }
        for line in self.lines() {
            for note in self.notes(line) {
                append(&format!("\n{}: {note}.", line.name));
            }
        }
        text
    }
}
