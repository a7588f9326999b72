//! Latencies in buckets of at most 1.6 % width: bounded memory, whatever the run's length.
//!
//! Limit: what lasts longer than about 18 minutes counts as that long.

use std::time::Duration;

/// Buckets to each power of two.
const STEPS: usize = 64;
const STEP_BITS: u32 = 6;
/// Powers of two above the first `STEPS` nanoseconds.
const POWERS: usize = 35;

/// How long each of many operations took.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    sum: Duration,
    max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            counts: vec![0; STEPS * POWERS],
            total: 0,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl Latencies {
    /// Adds one operation.
    pub fn record(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        if let Some(count) = self.counts.get_mut(bucket(nanoseconds).min(last)) {
            *count += 1;
        }
        self.total += 1;
        self.sum += took;
        self.max = self.max.max(took);
    }

    /// Adds all of another recording.
    pub fn merge(&mut self, other: &Latencies) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The latency that `per_mille` of 1,000 operations stay below, None without operations.
    pub fn quantile(&self, per_mille: u64) -> Option<Duration> {
        let rank = (self.total * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_nanos(upper_edge(place)).min(self.max));
            }
        }
        None
    }

    /// The mean, zero without operations.
    pub fn mean(&self) -> Duration {
        let seconds = self.sum.as_secs_f64() / self.total.max(1) as f64;
        Duration::from_secs_f64(seconds)
    }

    /// How many were recorded.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest, None without operations.
    pub fn max(&self) -> Option<Duration> {
        (self.total > 0).then_some(self.max)
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let magnitude = nanoseconds.checked_ilog2().unwrap_or(0);
    let shift = magnitude.saturating_sub(STEP_BITS);
    let within = usize::try_from(nanoseconds >> shift).expect("below two times the steps");
    let shift = usize::try_from(shift).expect("below 64");
    shift * STEPS + within
}

fn upper_edge(place: usize) -> u64 {
    let shift = (place / STEPS).saturating_sub(1);
    let within = place - shift * STEPS;
    ((within as u64 + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_below_the_edge_of_its_bucket_and_close_to_it() {
        for nanoseconds in (0..200).chain([4_095, 4_096, 1_000_000, 1_234_567_890, 60_000_000_000])
        {
            let edge = upper_edge(bucket(nanoseconds));
            assert!(edge >= nanoseconds, "{nanoseconds}: {edge}");
            assert!(
                edge - nanoseconds <= nanoseconds / 60,
                "{nanoseconds}: {edge}"
            );
        }
    }

    #[test]
    fn quantiles_follow_the_order() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(500), None);
        for micros in 1..=1_000 {
            latencies.record(Duration::from_micros(micros));
        }
        let middle = latencies.quantile(500).unwrap();
        assert!((500..510).contains(&middle.as_micros()), "{middle:?}");
        assert_eq!(latencies.quantile(1_000), Some(Duration::from_millis(1)));
        assert_eq!(latencies.mean().as_nanos(), 500_500);
        assert_eq!(latencies.max(), Some(Duration::from_millis(1)));
    }
}
