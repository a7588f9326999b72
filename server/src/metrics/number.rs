//! Counters, gauges and histograms as atomics, and numbers written as Go writes them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count that only grows. Whole numbers only: etcd has no other counters.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// Sets a whole number; beyond 2^53 it is rounded, as in etcd.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub fn set_signed(&self, value: i64) {
        self.set(value as f64);
    }

    /// Sets a whole number; beyond 2^53 it is rounded, as in etcd.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub fn set_unsigned(&self, value: u64) {
        self.set(value as f64);
    }

    /// Sets 1 or 0.
    pub fn set_flag(&self, value: bool) {
        self.set(f64::from(u8::from(value)));
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: f64) {
        add_float(&self.0, amount);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// Counts of observations by upper bound, their number and their sum.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending; one more bucket holds the rest.
    bounds: Box<[f64]>,
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Bounds `start`, `start * 2`, ..., `count` of them.
    pub fn doubling(start: f64, count: usize) -> Histogram {
        let bounds = std::iter::successors(Some(start), |bound| Some(bound * 2.0));
        Histogram::with_bounds(bounds.take(count).collect())
    }

    /// These bounds, which must ascend.
    pub fn with_bounds(bounds: Vec<f64>) -> Histogram {
        assert!(bounds.is_sorted(), "bounds ascend");
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram {
            bounds: bounds.into(),
            buckets,
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        let bucket = self
            .buckets
            .get(place)
            .expect("one bucket more than bounds");
        bucket.fetch_add(1, Relaxed);
        add_float(&self.sum, value);
    }

    /// Counts a duration in seconds.
    pub fn observe_seconds(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Counts a duration in milliseconds, for the histograms that say so in their names.
    pub fn observe_milliseconds(&self, duration: Duration) {
        self.observe(duration.as_secs_f64() * 1_000.0);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// The sum of the values.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }

    /// Upper bounds with the number of values up to each; the last bound is infinite.
    pub(super) fn cumulative(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut below = 0;
        let counted = bounds.zip(self.buckets.iter()).map(|(bound, bucket)| {
            below += bucket.load(Relaxed);
            (bound, below)
        });
        counted.collect()
    }
}

fn add_float(cell: &AtomicU64, amount: f64) {
    let add = |bits| Some((f64::from_bits(bits) + amount).to_bits());
    // The closure never declines, so the update always succeeds.
    assert!(cell.fetch_update(Relaxed, Relaxed, add).is_ok());
}

/// A number as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it: the shortest digits that
/// read back as the same number, with an exponent when it is below -4 or above 5.
pub(super) fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("{:e} always writes an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
