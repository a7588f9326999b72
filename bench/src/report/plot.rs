//! The report as a picture: per line a bar from 1 on a logarithmic scale, to the right where
//! Sternpost is better, to the left where etcd is, with a mark where the target lies.

use super::canvas::{Area, Canvas, Colour, PLAIN, STRONG};
use super::{Judged, Outcome, Report, Row, shown};
use crate::failure::Failure;
use crate::lines::Work;
use crate::measurement::Quantity;
use crate::targets::{self, Bound};

const WIDTH: usize = 1_500;
const MARGIN: usize = 24;
const ROW_HEIGHT: usize = 24;
const BAR_HEIGHT: usize = 14;
const HEAD_HEIGHT: usize = 20;
/// A section beside its bars.
const SECTION_HEIGHT: usize = 80;
/// Where the bars begin and end.
const BARS_LEFT: usize = 440;
const BARS_RIGHT: usize = 1_080;
/// Where the medians stand.
const FIGURES_LEFT: usize = 1_124;
/// Powers of ten to which the scale runs at most.
const POWER_MAX: i32 = 4;

const INK: Colour = [0x21, 0x21, 0x21];
const FAINT: Colour = [0x75, 0x75, 0x75];
const GRID: Colour = [0xe0, 0xe0, 0xe0];
const STRIPE: Colour = [0xf6, 0xf6, 0xf6];
/// The target is met.
const GREEN: Colour = [0x38, 0x8e, 0x3c];
/// Better than etcd, but the target is missed.
const AMBER: Colour = [0xf2, 0xa9, 0x3b];
/// Worse than etcd, or beyond a bound of its own.
const RED: Colour = [0xd3, 0x2f, 0x2f];
/// Better than etcd; there is no target, or it could not be judged.
const BLUE: Colour = [0x8f, 0xb3, 0xd9];

/// One bar.
struct Bar {
    name: String,
    figures: String,
    /// How many times better than etcd, or than the target; None without figures.
    better: Option<f64>,
    /// The same of the target.
    mark: Option<f64>,
    colour: Colour,
}

/// The picture of a report, as the bytes of a PNG.
///
/// # Errors
/// When it cannot be encoded.
pub fn png(report: &Report) -> Result<Vec<u8>, Failure> {
    let rows: Vec<Row> = report.lines().flat_map(|line| report.rows(line)).collect();
    let beside: Vec<Bar> = rows.iter().filter_map(beside_etcd).collect();
    let alone: Vec<Bar> = rows.iter().flat_map(alone).collect();
    let head = report.head();
    let height = 2 * MARGIN + 74 + head.len() * HEAD_HEIGHT + section_height(&beside);
    let mut canvas = Canvas::new(WIDTH, height + section_height(&alone));
    let mut top = MARGIN;
    let verdict = report.verdict();
    let title = format!(
        "Sternpost beside etcd: {} targets met, {} missed, {} not judged",
        verdict.met, verdict.missed, verdict.open
    );
    canvas.write(MARGIN, top, &title, STRONG, INK);
    top += 30;
    for line in head {
        canvas.write(MARGIN, top, &line, PLAIN, FAINT);
        top += HEAD_HEIGHT;
    }
    top = legend(&mut canvas, top + 10);
    let title = "How many times better than etcd (median of the rounds)";
    top = section(&mut canvas, top, title, "etcd -> Sternpost", &beside);
    let title = "Targets for Sternpost alone: how far within the bound";
    section(&mut canvas, top, title, "measured, wanted", &alone);
    canvas.png()
}

/// A row that is compared with etcd: one whose target is a ratio, or the one figure that tells
/// most of a line without such a target.
fn beside_etcd(row: &Row) -> Option<Bar> {
    let ratio = row.ratio.filter(|ratio| *ratio > 0.0)?;
    let targets = targets::of(row.line.name);
    let with_ratio = targets.iter().filter(|t| t.bound.of_etcd().is_some());
    let mut wanted: Vec<Quantity> = with_ratio.map(|target| target.quantity).collect();
    if wanted.is_empty() {
        wanted = targets.iter().map(|target| target.quantity).collect();
    }
    if wanted.is_empty() {
        wanted.push(match row.line.work {
            Work::Restart => Quantity::Median,
            Work::Get { clients: 1, .. } | Work::WatchCrowded { .. } => Quantity::Median,
            _ => Quantity::ServerCpu,
        });
    }
    if !wanted.contains(&row.quantity) {
        return None;
    }
    let better = if row.quantity == Quantity::Rate {
        |ratio: f64| ratio
    } else {
        |ratio: f64| 1.0 / ratio
    };
    let judged = row
        .judged
        .iter()
        .find(|j| j.target.bound.of_etcd().is_some());
    let colour = match judged.map(|judged| judged.outcome) {
        Some(Outcome::Met) => GREEN,
        _ if better(ratio) < 1.0 => RED,
        Some(Outcome::Missed) => AMBER,
        Some(Outcome::Open) | None => BLUE,
    };
    Some(Bar {
        name: name(row),
        figures: format!(
            "{} -> {}  ({} x)",
            shown(row.etcd.map(|summary| summary.median)),
            shown(row.sternpost.map(|summary| summary.median)),
            shown(Some(ratio))
        ),
        better: Some(better(ratio)),
        mark: judged
            .and_then(|judged| judged.target.bound.of_etcd())
            .map(better),
        colour,
    })
}

/// The targets of a row that etcd has no part in.
fn alone(row: &Row) -> Vec<Bar> {
    let own = row
        .judged
        .iter()
        .filter(|j| j.target.bound.of_etcd().is_none());
    own.map(|judged| Bar {
        name: name(row),
        figures: format!("{}, {}", shown(judged.measured), judged.target.label()),
        better: judged.measured.map(|measured| within(judged, measured)),
        mark: Some(1.0),
        colour: match judged.outcome {
            Outcome::Met => GREEN,
            Outcome::Missed => RED,
            Outcome::Open => BLUE,
        },
    })
    .collect()
}

fn within(judged: &Judged, measured: f64) -> f64 {
    // A figure below zero, as beside the raw flush, is as good as a very small one.
    let measured = measured.max(1e-3);
    match judged.target.bound {
        Bound::RatioAtLeast(bound) | Bound::OfLineAtLeast(_, bound) => measured / bound,
        Bound::RatioAtMost(bound)
        | Bound::OfLineAtMost(_, bound)
        | Bound::AtMost(bound)
        | Bound::AboveFlushAtMost(bound)
        | Bound::AboveLongestFlushAtMost(bound) => bound.max(1e-3) / measured,
    }
}

fn name(row: &Row) -> String {
    format!("{}, {}", row.line.name, row.quantity.label())
}

fn legend(canvas: &mut Canvas, top: usize) -> usize {
    let entries = [
        (GREEN, "target met"),
        (AMBER, "better than etcd, target missed"),
        (RED, "worse than etcd, or beyond its own bound"),
        (BLUE, "better than etcd, no target"),
        (INK, "mark: where the target lies"),
    ];
    let mut left = MARGIN;
    for (colour, text) in entries {
        let area = Area {
            left,
            top: top + 2,
            width: BAR_HEIGHT,
            height: BAR_HEIGHT,
        };
        canvas.fill(area, colour);
        canvas.write(left + 20, top, text, PLAIN, INK);
        left += 20 + PLAIN.width(text) + MARGIN;
    }
    top + 34
}

fn section_height(bars: &[Bar]) -> usize {
    if bars.is_empty() {
        return 0;
    }
    bars.len() * ROW_HEIGHT + SECTION_HEIGHT
}

/// A heading, a scale and bars; returns where the next may begin.
fn section(canvas: &mut Canvas, top: usize, title: &str, figures: &str, bars: &[Bar]) -> usize {
    if bars.is_empty() {
        return top;
    }
    canvas.write(MARGIN, top, title, STRONG, INK);
    canvas.write(FIGURES_LEFT, top + 36, figures, PLAIN, FAINT);
    let scale = Scale::of(bars);
    let first = top + 56;
    let height = bars.len() * ROW_HEIGHT;
    for (number, _) in bars.iter().enumerate().step_by(2) {
        let area = Area {
            left: MARGIN,
            top: first + number * ROW_HEIGHT,
            width: WIDTH - 2 * MARGIN,
            height: ROW_HEIGHT,
        };
        canvas.fill(area, STRIPE);
    }
    for power in scale.from..=scale.to {
        let at = scale.place(10_f64.powi(power));
        let width = if power == 0 { 2 } else { 1 };
        let colour = if power == 0 { INK } else { GRID };
        let area = Area {
            left: at,
            top: first,
            width,
            height,
        };
        canvas.fill(area, colour);
        let text = if power < 0 {
            format!("1/{}", 10_u32.pow(power.unsigned_abs()))
        } else {
            format!("{}", 10_u32.pow(power.unsigned_abs()))
        };
        let left = at.saturating_sub(PLAIN.width(&text) / 2);
        canvas.write(left, first - 20, &text, PLAIN, FAINT);
    }
    for (number, bar) in bars.iter().enumerate() {
        draw(canvas, first + number * ROW_HEIGHT, bar, scale);
    }
    first + height + SECTION_HEIGHT - 56
}

fn draw(canvas: &mut Canvas, top: usize, bar: &Bar, scale: Scale) {
    canvas.write(MARGIN + 4, top + 4, &bar.name, PLAIN, INK);
    canvas.write(FIGURES_LEFT, top + 4, &bar.figures, PLAIN, INK);
    if let Some(better) = bar.better {
        let (one, end) = (scale.place(1.0), scale.place(better));
        let area = Area {
            left: one.min(end),
            top: top + (ROW_HEIGHT - BAR_HEIGHT) / 2,
            width: one.abs_diff(end).max(2),
            height: BAR_HEIGHT,
        };
        canvas.fill(area, bar.colour);
    }
    if let Some(mark) = bar.mark {
        let area = Area {
            left: scale.place(mark).saturating_sub(1),
            top: top + 1,
            width: 3,
            height: ROW_HEIGHT - 2,
        };
        canvas.fill(area, INK);
    }
}

/// From a power of ten to a power of ten.
#[derive(Clone, Copy)]
struct Scale {
    from: i32,
    to: i32,
}

impl Scale {
    /// Wide enough for all bars and marks.
    fn of(bars: &[Bar]) -> Scale {
        let mut scale = Scale { from: -1, to: 1 };
        for value in bars
            .iter()
            .flat_map(|bar| bar.better.into_iter().chain(bar.mark))
        {
            while scale.from > -POWER_MAX && 10_f64.powi(scale.from) > value {
                scale.from -= 1;
            }
            while scale.to < POWER_MAX && 10_f64.powi(scale.to) < value {
                scale.to += 1;
            }
        }
        scale
    }

    /// The column of a value; beyond the ends it is the end.
    fn place(self, value: f64) -> usize {
        let mut columns = BARS_LEFT;
        let span = f64::from(self.to - self.from);
        let width = (BARS_RIGHT - BARS_LEFT) as f64;
        // A walk instead of a cast: a float has no checked way to an integer.
        while columns < BARS_RIGHT {
            let share = (columns - BARS_LEFT) as f64 / width;
            if f64::from(self.from) + share * span >= value.log10() {
                break;
            }
            columns += 1;
        }
        columns
    }
}
