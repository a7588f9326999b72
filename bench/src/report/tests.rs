//! Reports of made-up measurements.

use std::time::Duration;

use super::*;
use crate::lines::named;
use crate::measurement::{ClientCpu, Tally};

fn measure(line: &'static str, operations: u64, errors: u64) -> Measurement {
    let tally = Tally {
        operations,
        errors,
        ..Tally::default()
    };
    let second = Duration::from_secs(1);
    let mut one = Measurement::assemble(line, &tally, second, ClientCpu::default());
    one.server_cpu_us = Some(1e6);
    one
}

fn store(rates: &[u64], errors: u64) -> Store {
    let measurements = rates.iter().map(|rate| measure("put-256", *rate, errors));
    Store {
        binary: String::new(),
        version: String::new(),
        measurements: measurements.collect(),
    }
}

fn report(etcd: Store, sternpost: Store) -> Report {
    let flush = |p50_ms| Flush {
        p50_ms,
        p99_ms: p50_ms * 2.0,
        max_ms: p50_ms * 3.0,
    };
    Report {
        machine: Machine::default(),
        rounds: 3,
        scale_down: 1,
        etcd,
        sternpost,
        flushes: [0.1, 0.3, 0.2].map(flush).to_vec(),
    }
}

fn verdict(met: usize, missed: usize, open: usize) -> Verdict {
    Verdict { met, missed, open }
}

#[test]
fn medians_are_compared_and_judged() {
    let won = report(store(&[90, 100, 300], 0), store(&[450, 400, 10], 0));
    assert_eq!(won.verdict(), verdict(2, 0, 0));
    assert!(won.text().contains("4.00  >= 3 x met"), "{}", won.text());
    assert!(
        won.markdown().contains("| >= 3 x | 4.00 | met |"),
        "{}",
        won.markdown()
    );
    let lost = report(store(&[100], 0), store(&[200], 0));
    assert_eq!(lost.verdict(), verdict(0, 2, 0));
    assert!(
        lost.markdown().contains("**MISSED**"),
        "{}",
        lost.markdown()
    );
}

#[test]
fn a_line_with_errors_judges_nothing() {
    let failed = report(store(&[100], 0), store(&[400], 2));
    assert_eq!(failed.verdict(), verdict(0, 0, 2));
    assert!(!failed.is_without_errors());
    assert!(failed.text().contains("2 ERRORS of sternpost"));
    assert!(failed.markdown().contains("2 ERRORS of sternpost"));
}

#[test]
fn curves_and_the_flush_stand_beside_their_lines() {
    let mut grown = report(store(&[100], 0), store(&[400], 0));
    assert!(!grown.markdown().contains("How cost grows"));
    for line in ["put-10k", "put-1m"] {
        grown.sternpost.measurements.push(measure(line, 10, 0));
    }
    let row = "| put (10k, 100k, 1m) | server CPU us/op | Sternpost | 100000 | - | 100000 |";
    assert!(grown.markdown().contains(row), "{}", grown.markdown());
    let mut alone = measure("put-1", 10, 0);
    alone.p50_us = Some(500.0);
    alone.raw_flush = Some(Flush {
        p50_ms: 0.2,
        p99_ms: 0.4,
        max_ms: 0.6,
    });
    grown.sternpost.measurements.push(alone);
    let note = "the raw flush has a median of 0.20 ms; above it: etcd -, sternpost 0.30";
    assert!(grown.text().contains(note), "{}", grown.text());
    // The flush that counts is that of the line's own run, not of a report joined to it.
    assert_eq!(grown.verdict().missed, 1, "{}", grown.text());
    assert!(
        grown.text().contains("missed: put-1, p50 ms: 0.30"),
        "{}",
        grown.text()
    );
}

#[test]
fn a_run_that_was_made_smaller_judges_nothing() {
    let mut small = report(store(&[100], 0), store(&[400], 0));
    small.scale_down = 10;
    assert_eq!(small.verdict(), verdict(0, 0, 2));
    assert!(
        small
            .join(report(store(&[100], 0), store(&[400], 0)))
            .is_err()
    );
}

#[test]
fn reports_are_joined_by_line() {
    let mut first = report(store(&[100], 0), store(&[400], 0));
    let mut second = report(store(&[100, 100], 0), store(&[200], 0));
    second.etcd.measurements.push(measure("put-1", 5, 0));
    first.join(second).unwrap();
    let names: Vec<_> = first.lines().map(|line| line.name).collect();
    assert_eq!(names, ["put-1", "put-256"]);
    assert_eq!(first.sternpost.measurements.len(), 1);
    assert_eq!(first.verdict(), verdict(0, 2, 2));
}

#[test]
fn a_report_survives_its_json() {
    let before = report(store(&[90, 100, 300], 1), store(&[450, 400, 10], 0));
    let text = serde_json::to_string(&before).unwrap();
    let after: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(after.text(), before.text());
}

#[test]
fn the_picture_is_a_png_of_the_size_that_its_head_tells() {
    let picture = png(&report(
        store(&[90, 100, 300], 0),
        store(&[450, 400, 10], 0),
    ))
    .unwrap();
    let decoder = png::Decoder::new(std::io::Cursor::new(picture));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert!(info.width > 500 && info.height > 100);
    assert!(pixels.iter().any(|byte| *byte != 0xff), "an empty page");
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    let summary = summarise(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
    let expected = Summary {
        median: 2.5,
        spread: 0.6,
    };
    assert_eq!(summary, expected);
    assert_eq!(summarise(Vec::new()), None);
}

#[test]
fn every_line_has_rows_for_its_targets() {
    let empty = || store(&[], 0);
    let report = report(empty(), empty());
    for name in ["put-1", "put-compacting", "readers-stopped"] {
        let rows = report.rows(named(name).unwrap());
        assert!(rows.iter().any(|row| !row.judged.is_empty()), "{name}");
    }
}
