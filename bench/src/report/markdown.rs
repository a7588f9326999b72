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

/// Work whose cost is followed over sizes, with the names that its lines end in.
const CURVES: [(&str, [&str; 3]); 7] = [
    ("put", ["10k", "100k", "1m"]),
    ("get", ["10k", "100k", "1m"]),
    ("count", ["10k", "100k", "1m"]),
    ("page", ["10k", "100k", "1m"]),
    ("watch", ["10k", "100k", "1m"]),
    ("put-beside", ["1k", "10k", "100k"]),
    ("watch-beside", ["1k", "10k", "100k"]),
];

impl Report {
    /// How cost grows; nothing when the lines about it were not run.
    fn growth(&self) -> String {
        let mut rows = String::new();
        for (work, sizes) in CURVES {
            for quantity in [Quantity::ServerCpu, Quantity::Median] {
                for (name, store) in [("etcd", &self.etcd), ("Sternpost", &self.sternpost)] {
                    let figures = sizes.map(|size| {
                        let line = format!("{work}-{size}");
                        let summary = store.summary(&line, quantity);
                        summary.map(|summary| summary.median)
                    });
                    if figures.iter().all(Option::is_none) {
                        continue;
                    }
                    let cells = figures.map(shown).join(" | ");
                    let (sizes, quantity) = (sizes.join(", "), quantity.label());
                    let row = format!("| {work} ({sizes}) | {quantity} | {name} | {cells} |\n");
                    rows.push_str(&row);
                }
            }
        }
        if rows.is_empty() {
            return rows;
        }
        let head = "\nHow cost grows:\n\n| Work | Quantity | Store | least | middle | most |\n";
        format!("{head}|---|---|---|---:|---:|---:|\n{rows}")
    }

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
        text.push_str(&self.growth());
        let mut append = |line: &str| writeln!(text, "{line}").expect("a string takes all text");
        for line in self.lines() {
            for note in self.notes(line) {
                append(&format!("\n{}: {note}.", line.name));
            }
        }
        text
    }
}
