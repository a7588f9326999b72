//! What Sternpost has to reach beside etcd, line by line: the table of docs/performance.md.
//!
//! A target is judged on medians over the rounds, and never when a line had errors.

use serde::Serialize;

use crate::measurement::Quantity;

/// How a quantity is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Sternpost's figure is at least so many times etcd's.
    RatioAtLeast(f64),
    /// Sternpost's figure is at most so many times etcd's.
    RatioAtMost(f64),
    /// Sternpost's figure is at most so many times its own on the line `put-calm`.
    OfCalmAtMost(f64),
    /// Sternpost's own figure is at most this.
    AtMost(f64),
    /// Sternpost's figure is at most the raw flush's median plus this.
    AboveFlushAtMost(f64),
}

/// One judgement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    pub quantity: Quantity,
    pub bound: Bound,
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

/// The targets of a line; none for lines that are only shown.
pub fn of(line: &str) -> &'static [Target] {
    use Quantity::{GrownMemory, Max, Median, P99, P999, PeakMemory, Rate, ServerCpu, Written};
    const QUARTER: f64 = 0.25;
    const PUT: [Target; 3] = [
        ratio_at_least(Rate, 3.0),
        ratio_at_most(ServerCpu, QUARTER),
        ratio_at_most(Written, 0.6),
    ];
    const TRANSACTION: [Target; 2] = [ratio_at_least(Rate, 3.0), ratio_at_most(ServerCpu, QUARTER)];
    const PUT_ALONE: [Target; 2] = [
        ratio_at_most(Median, 0.6),
        target(Median, Bound::AboveFlushAtMost(0.15)),
    ];
    const GET: [Target; 2] = [ratio_at_least(Rate, 2.5), ratio_at_most(ServerCpu, QUARTER)];
    const GET_ALONE: [Target; 1] = [ratio_at_most(Median, 0.65)];
    const GROWTH: Target = target(GrownMemory, Bound::AtMost(64.0));
    const LIST: [Target; 2] = [ratio_at_most(ServerCpu, 1.0 / 7.0), GROWTH];
    const STREAM: [Target; 2] = [ratio_at_most(ServerCpu, 1.0 / 12.0), GROWTH];
    const PAGES: [Target; 2] = [
        ratio_at_least(Rate, 20.0),
        ratio_at_most(ServerCpu, 1.0 / 30.0),
    ];
    const COUNT: [Target; 1] = [ratio_at_most(ServerCpu, 1.0 / 500.0)];
    const NAMESPACE: [Target; 1] = [ratio_at_most(ServerCpu, 1.0 / 8.0)];
    const FAN_OUT: [Target; 1] = [ratio_at_most(ServerCpu, 0.2)];
    const LATENCY: [Target; 2] = [ratio_at_most(Median, 0.6), ratio_at_most(P99, 0.6)];
    const KEEP_ALIVE: [Target; 1] = [ratio_at_most(ServerCpu, 0.5)];
    const RESTART: [Target; 2] = [ratio_at_most(Median, 0.35), ratio_at_most(PeakMemory, 0.8)];
    const START: [Target; 1] = [ratio_at_most(Median, 0.3)];
    const COMPACTING: [Target; 3] = [
        target(P99, Bound::OfCalmAtMost(1.3)),
        target(P999, Bound::OfCalmAtMost(2.0)),
        target(Max, Bound::AtMost(10.0)),
    ];
    match line {
        "put-compacting" => &COMPACTING,
        "put-1" => &PUT_ALONE,
        "put-256" => &PUT,
        "txn-256" => &TRANSACTION,
        "get-1" | "get-serializable-1" => &GET_ALONE,
        "get-256" | "get-serializable-256" => &GET,
        "list-unary" => &LIST,
        "list-stream" => &STREAM,
        "list-pages" => &PAGES,
        "count" => &COUNT,
        "namespace-1" | "namespace-16" => &NAMESPACE,
        "watch-fan-out" => &FAN_OUT,
        "watch-latency" => &LATENCY,
        "lease-keep-alive" => &KEEP_ALIVE,
        "restart" => &RESTART,
        "start-empty" => &START,
        _ => &[],
    }
}

impl Target {
    /// Whether it is met; None where a figure is missing.
    pub fn is_met(
        self,
        etcd: Option<f64>,
        sternpost: Option<f64>,
        flush_ms: Option<f64>,
        calm: Option<f64>,
    ) -> Option<bool> {
        let ratio = || Some(sternpost? / etcd?).filter(|ratio| ratio.is_finite());
        match self.bound {
            Bound::RatioAtLeast(bound) => Some(ratio()? >= bound),
            Bound::RatioAtMost(bound) => Some(ratio()? <= bound),
            Bound::OfCalmAtMost(bound) => Some(sternpost? <= calm? * bound),
            Bound::AtMost(bound) => Some(sternpost? <= bound),
            Bound::AboveFlushAtMost(bound) => Some(sternpost? <= flush_ms? + bound),
        }
    }

    /// In words.
    pub fn label(self) -> String {
        match self.bound {
            Bound::RatioAtLeast(bound) => format!(">= {bound} x"),
            Bound::RatioAtMost(bound) if bound >= 0.1 => format!("<= {bound:.2} x"),
            Bound::RatioAtMost(bound) => format!("<= 1/{:.0} x", 1.0 / bound),
            Bound::OfCalmAtMost(bound) => format!("<= {bound} x calm"),
            Bound::AtMost(bound) => format!("<= {bound}"),
            Bound::AboveFlushAtMost(bound) => format!("<= raw flush + {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_open() {
        let least = ratio_at_least(Quantity::Rate, 3.0);
        assert_eq!(least.is_met(Some(10.0), Some(30.0), None, None), Some(true));
        assert_eq!(
            least.is_met(Some(10.0), Some(29.0), None, None),
            Some(false)
        );
        assert_eq!(least.is_met(None, Some(29.0), None, None), None);
        assert_eq!(least.is_met(Some(0.0), Some(29.0), None, None), None);
        let flush = target(Quantity::Median, Bound::AboveFlushAtMost(0.15));
        assert_eq!(flush.is_met(None, Some(0.4), Some(0.3), None), Some(true));
        assert_eq!(flush.is_met(None, Some(0.5), Some(0.3), None), Some(false));
    }

    #[test]
    fn every_target_belongs_to_a_line_that_exists() {
        let with_targets = crate::lines::LINES
            .iter()
            .filter(|line| !of(line.name).is_empty());
        assert_eq!(with_targets.count(), 19);
    }
}
