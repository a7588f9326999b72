//! The text format 0.0.4, as client_golang writes it.

use std::fmt::Write;

use super::number::{Counter, Gauge, Histogram, go_float};

/// A page under construction: whole families, sorted at the end.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<(String, String)>,
}

impl Page {
    /// Opens a family; `kind` is `counter`, `gauge` or `histogram`. The caller adds at least one
    /// series.
    pub fn family(&mut self, name: &str, help: &str, kind: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.families.push((name.to_owned(), text));
        let (name, text) = self.families.last_mut().expect("pushed above");
        Family { name, text }
    }

    /// The page, its families sorted by name.
    pub fn finish(mut self) -> String {
        self.families.sort();
        let names = self.families.windows(2);
        assert!(
            names
                .into_iter()
                .all(|pair| matches!(pair, [a, b] if a.0 != b.0)),
            "a family is written once"
        );
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

/// A family under construction. Labels are given in alphabetical order.
#[derive(Debug)]
pub struct Family<'a> {
    name: &'a str,
    text: &'a mut String,
}

impl Family<'_> {
    /// One series of a counter or gauge.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, &go_float(value));
    }

    /// One series of a counter.
    pub fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, &go_count(value));
    }

    /// One series of a histogram. Its counts are whole numbers, its bounds and sum are written as
    /// Go's floats.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (bound, below) in histogram.cumulative() {
            self.line(
                "_bucket",
                labels,
                Some(&go_float(bound)),
                &below.to_string(),
            );
            count = below;
        }
        self.line("_sum", labels, None, &go_float(histogram.sum()));
        self.line("_count", labels, None, &count.to_string());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: &str) {
        assert!(
            labels.is_sorted_by(|a, b| a.0 < b.0),
            "labels are in alphabetical order"
        );
        let all = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut braces = String::new();
        for (label, value) in all {
            let comma = if braces.is_empty() { "" } else { "," };
            write!(braces, "{comma}{label}=\"{}\"", escape(value)).expect("a string grows");
        }
        let name = self.name;
        let written = if braces.is_empty() {
            writeln!(self.text, "{name}{suffix} {value}")
        } else {
            writeln!(self.text, "{name}{suffix}{{{braces}}} {value}")
        };
        written.expect("a string grows");
    }
}

/// client_golang keeps counters as floats.
#[expect(clippy::cast_precision_loss, reason = "etcd's counters are floats")]
fn go_count(value: u64) -> String {
    go_float(value as f64)
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Counter {
    pub(super) fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.family(name, help, "counter").count(&[], self.get());
    }
}

impl Gauge {
    pub(super) fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.family(name, help, "gauge").sample(&[], self.get());
    }
}

impl Histogram {
    pub(super) fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.family(name, help, "histogram").histogram(&[], self);
    }
}
