//! What Sternpost has to reach beside etcd, line by line: the table of docs/performance.md.
//!
//! A target is judged on medians over the rounds, and never when a line had errors.

use crate::measurement::Quantity;

/// How a quantity is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Sternpost's figure is at least so many times etcd's.
    RatioAtLeast(f64),
    /// Sternpost's figure is at most so many times etcd's.
    RatioAtMost(f64),
    /// Sternpost's figure is at least so many times its own of another line.
    OfLineAtLeast(&'static str, f64),
    /// Sternpost's figure is at most so many times its own of another line.
    OfLineAtMost(&'static str, f64),
    /// Sternpost's own figure is at most this.
    AtMost(f64),
    /// Sternpost's figure is at most the raw flush's median plus this.
    AboveFlushAtMost(f64),
    /// Sternpost's figure is at most the longest raw flush of the run plus this.
    AboveLongestFlushAtMost(f64),
}

/// One judgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    pub quantity: Quantity,
    pub bound: Bound,
}

/// The figures that a target is judged by; None where one was not measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub etcd: Option<f64>,
    pub sternpost: Option<f64>,
    /// Sternpost's of the other line that the bound names.
    pub other_line: Option<f64>,
    pub flush_median_ms: Option<f64>,
    pub flush_longest_ms: Option<f64>,
}

const fn target(quantity: Quantity, bound: Bound) -> Target {
    Target { quantity, bound }
}

const fn ratio_at_least(quantity: Quantity, bound: f64) -> Target {
    target(quantity, Bound::RatioAtLeast(bound))
}

const fn ratio_at_most(quantity: Quantity, bound: f64) -> Target {
    target(quantity, Bound::RatioAtMost(bound))
}

const fn of_line_at_most(quantity: Quantity, line: &'static str, bound: f64) -> Target {
    target(quantity, Bound::OfLineAtMost(line, bound))
}

const fn of_line_at_least(quantity: Quantity, line: &'static str, bound: f64) -> Target {
    target(quantity, Bound::OfLineAtLeast(line, bound))
}

/// What a hundred times the keys, or watchers, may cost: 1.5 is the ratio of the logarithms of
/// 1 million and 10 thousand.
const GROWTH_MAX: f64 = 1.5;
/// 10,000 keys with values of 1 KiB, and 512 MiB.
const OVERWRITES_MEBIBYTES: f64 = 522.0;

/// The targets of a line; none for lines that are only shown.
pub fn of(line: &str) -> Vec<Target> {
    let targets = writes(line);
    if !targets.is_empty() {
        return targets;
    }
    let targets = reads(line);
    if !targets.is_empty() {
        return targets;
    }
    growth(line)
}

fn writes(line: &str) -> Vec<Target> {
    use Quantity::{Max, Median, P99, P999, PeakMemory, Rate, ServerCpu, Written};
    let beside = || vec![of_line_at_most(P99, "put-calm", 2.0)];
    match line {
        "put-1" => vec![
            ratio_at_most(Median, 0.6),
            target(Median, Bound::AboveFlushAtMost(0.15)),
        ],
        "put-256" | "txn-256" => vec![ratio_at_least(Rate, 3.0), ratio_at_most(ServerCpu, 0.25)],
        "put-1-no-io-uring" => vec![of_line_at_most(Median, "put-1", 1.1)],
        "put-256-no-io-uring" => vec![
            of_line_at_least(Rate, "put-256", 0.9),
            of_line_at_most(ServerCpu, "put-256", 1.1),
        ],
        "txn-256-no-io-uring" => vec![
            of_line_at_least(Rate, "txn-256", 0.9),
            of_line_at_most(ServerCpu, "txn-256", 1.1),
        ],
        "put-compacting" => vec![
            of_line_at_most(P99, "put-calm", 1.3),
            of_line_at_most(P999, "put-calm", 2.0),
            target(Max, Bound::AtMost(10.0)),
        ],
        "put-listing" | "put-handshakes" => beside(),
        "put-sustained" => vec![
            of_line_at_most(P999, "put-256", 2.0),
            target(Max, Bound::AboveLongestFlushAtMost(10.0)),
            ratio_at_most(Written, 0.6),
        ],
        "overwrites" => vec![target(PeakMemory, Bound::AtMost(OVERWRITES_MEBIBYTES))],
        "lease-keep-alive" => vec![ratio_at_most(ServerCpu, 0.5)],
        "kube-apiserver" => vec![ratio_at_least(Rate, 1.0), ratio_at_most(ServerCpu, 0.5)],
        _ => Vec::new(),
    }
}

fn reads(line: &str) -> Vec<Target> {
    use Quantity::{GrownMemory, Median, P99, PeakMemory, Rate, RestMemory, ServerCpu};
    let growth = target(GrownMemory, Bound::AtMost(64.0));
    match line {
        "get-1" | "get-serializable-1" => vec![ratio_at_most(Median, 0.65)],
        "get-256" | "get-serializable-256" => {
            vec![ratio_at_least(Rate, 2.5), ratio_at_most(ServerCpu, 0.25)]
        }
        "list-unary" => vec![ratio_at_most(ServerCpu, 1.0 / 7.0), growth],
        "list-stream" => vec![ratio_at_most(ServerCpu, 1.0 / 12.0), growth],
        "readers-stopped" => vec![growth],
        "list-pages" => vec![
            ratio_at_least(Rate, 20.0),
            ratio_at_most(ServerCpu, 1.0 / 30.0),
        ],
        "count" => vec![ratio_at_most(ServerCpu, 1.0 / 500.0)],
        "namespace-1" | "namespace-16" => vec![ratio_at_most(ServerCpu, 1.0 / 8.0)],
        "watch-fan-out" => vec![ratio_at_most(ServerCpu, 0.2)],
        "watch-one-stream" => vec![
            ratio_at_most(ServerCpu, 0.2),
            of_line_at_most(ServerCpu, "watch-fan-out", 1.0),
        ],
        "watch-latency" => vec![ratio_at_most(Median, 0.6), ratio_at_most(P99, 0.6)],
        "start-empty" => vec![ratio_at_most(Median, 0.3), ratio_at_most(RestMemory, 0.45)],
        "million-restart" => vec![ratio_at_most(Median, 0.35)],
        "million-idle" => vec![
            ratio_at_most(PeakMemory, 0.8),
            ratio_at_most(RestMemory, 0.45),
        ],
        _ => Vec::new(),
    }
}

fn growth(line: &str) -> Vec<Target> {
    use Quantity::{Median, ServerCpu};
    let cpu = |other| vec![of_line_at_most(ServerCpu, other, GROWTH_MAX)];
    let median = |other| vec![of_line_at_most(Median, other, GROWTH_MAX)];
    match line {
        "put-1m" => cpu("put-10k"),
        "get-1m" => cpu("get-10k"),
        "count-1m" => cpu("count-10k"),
        "page-1m" => cpu("page-10k"),
        "watch-1m" => median("watch-10k"),
        "put-beside-100k" => cpu("put-beside-1k"),
        "watch-beside-100k" => median("watch-beside-1k"),
        _ => Vec::new(),
    }
}

impl Bound {
    /// The other line that it looks at.
    pub fn other_line(self) -> Option<&'static str> {
        match self {
            Bound::OfLineAtLeast(line, _) | Bound::OfLineAtMost(line, _) => Some(line),
            _ => None,
        }
    }

    /// Where the ratio to etcd must lie, as far as this tells.
    pub fn of_etcd(self) -> Option<f64> {
        match self {
            Bound::RatioAtLeast(bound) | Bound::RatioAtMost(bound) => Some(bound),
            _ => None,
        }
    }
}

impl Target {
    /// What is compared with the bound; None where a figure is missing.
    pub fn measured(self, figures: Figures) -> Option<f64> {
        let own = figures.sternpost?;
        let measured = match self.bound {
            Bound::RatioAtLeast(_) | Bound::RatioAtMost(_) => own / figures.etcd?,
            Bound::OfLineAtLeast(..) | Bound::OfLineAtMost(..) => own / figures.other_line?,
            Bound::AtMost(_) => own,
            Bound::AboveFlushAtMost(_) => own - figures.flush_median_ms?,
            Bound::AboveLongestFlushAtMost(_) => own - figures.flush_longest_ms?,
        };
        Some(measured).filter(|measured| measured.is_finite())
    }

    /// Whether it is met; None where a figure is missing.
    pub fn is_met(self, figures: Figures) -> Option<bool> {
        let measured = self.measured(figures)?;
        Some(match self.bound {
            Bound::RatioAtLeast(bound) | Bound::OfLineAtLeast(_, bound) => measured >= bound,
            Bound::RatioAtMost(bound)
            | Bound::OfLineAtMost(_, bound)
            | Bound::AtMost(bound)
            | Bound::AboveFlushAtMost(bound)
            | Bound::AboveLongestFlushAtMost(bound) => measured <= bound,
        })
    }

    /// In words.
    pub fn label(self) -> String {
        match self.bound {
            Bound::RatioAtLeast(bound) => format!(">= {bound} x"),
            Bound::RatioAtMost(bound) if bound > 0.2 => format!("<= {bound:.2} x"),
            Bound::RatioAtMost(bound) => format!("<= 1/{:.0} x", 1.0 / bound),
            Bound::OfLineAtLeast(line, bound) => format!(">= {bound} x {line}"),
            Bound::OfLineAtMost(line, bound) => format!("<= {bound} x {line}"),
            Bound::AtMost(bound) => format!("<= {bound}"),
            Bound::AboveFlushAtMost(bound) => format!("<= raw flush + {bound}"),
            Bound::AboveLongestFlushAtMost(bound) => format!("<= longest raw flush + {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::{LINES, named};

    fn pair(etcd: Option<f64>, sternpost: f64) -> Figures {
        Figures {
            etcd,
            sternpost: Some(sternpost),
            ..Figures::default()
        }
    }

    #[test]
    fn a_target_is_met_missed_or_open() {
        let least = ratio_at_least(Quantity::Rate, 3.0);
        assert_eq!(least.is_met(pair(Some(10.0), 30.0)), Some(true));
        assert_eq!(least.is_met(pair(Some(10.0), 29.0)), Some(false));
        assert_eq!(least.is_met(pair(None, 29.0)), None);
        assert_eq!(least.is_met(pair(Some(0.0), 29.0)), None);
    }

    #[test]
    fn a_target_beside_the_disk_or_another_line_takes_its_own_figure() {
        let figures = Figures {
            sternpost: Some(0.4),
            other_line: Some(0.3),
            flush_median_ms: Some(0.3),
            flush_longest_ms: Some(2.0),
            ..Figures::default()
        };
        let met = |bound| target(Quantity::Median, bound).is_met(figures);
        assert_eq!(met(Bound::AboveFlushAtMost(0.15)), Some(true));
        assert_eq!(met(Bound::AboveFlushAtMost(0.05)), Some(false));
        assert_eq!(met(Bound::AboveLongestFlushAtMost(0.0)), Some(true));
        assert_eq!(met(Bound::OfLineAtMost("put-calm", 1.3)), Some(false));
        assert_eq!(met(Bound::OfLineAtLeast("put-calm", 1.3)), Some(true));
        assert_eq!(met(Bound::AtMost(0.4)), Some(true));
        let open = pair(Some(1.0), 1.0);
        let flush = target(Quantity::Median, Bound::AboveFlushAtMost(0.15));
        assert_eq!(flush.is_met(open), None);
    }

    #[test]
    fn every_target_belongs_to_a_line_that_exists() {
        let with_targets = LINES.iter().filter(|line| !of(line.name).is_empty());
        assert_eq!(with_targets.count(), 37);
        for target in LINES.iter().flat_map(|line| of(line.name)) {
            let other = target.bound.other_line();
            assert!(other.is_none_or(|name| named(name).is_some()), "{other:?}");
        }
    }
}
