//! The sizes of one run, drawn from its seed: small, so that segments roll,
//! checkpoints come and values leave memory within a few hundred requests.

use std::time::Duration;

use storage::limits::GATHERED_KEYS_MAX;
use storage::raft_log::LogOptions;
use storage::vfs::sim::SplitMix64;

use crate::engine::{PIN_GRACE, Sizes};

#[derive(Clone, Debug)]
pub struct Settings {
    pub segment_bytes: u64,
    pub first_segment_bytes: u64,
    pub spares_max: usize,
    pub sizes: Sizes,
    pub hot_bytes_max: u64,
    /// `--quota-backend-bytes`.
    pub quota_bytes: Option<u64>,
    /// Bytes of the longest value.
    pub value_bytes_max: u64,
    pub keys: u64,
    /// Steps of one life, at most.
    pub steps: u64,
    pub lives: u64,
}

impl Settings {
    pub fn draw(random: &mut SplitMix64) -> Settings {
        let mut pick = |choices: &[u64]| {
            let at = random.below(choices.len() as u64);
            choices[usize::try_from(at).unwrap()]
        };
        let segment_bytes = pick(&[32 << 10, 64 << 10, 128 << 10]);
        // No draws of their own, so that seeds go on meaning what they meant.
        let (gathered_keys_max, cleaning_pause) = match segment_bytes >> 10 {
            32 => (0, 2_000),
            64 => (2, 0),
            _ => (GATHERED_KEYS_MAX, 200),
        };
        Settings {
            segment_bytes,
            first_segment_bytes: pick(&[16 << 10, 32 << 10]),
            spares_max: usize::try_from(pick(&[1, 2])).unwrap(),
            sizes: Sizes {
                gathered_keys_max,
                checkpoint_log_bytes: pick(&[16 << 10, 48 << 10, 128 << 10]),
                checkpoint_interval: Duration::from_millis(pick(&[500, 5_000, 60_000])),
                cleaning_pause: Duration::from_millis(cleaning_pause),
                removed_records_per_checkpoint: usize::try_from(pick(&[40, 200, 1 << 20])).unwrap(),
                moved_bytes_per_checkpoint: pick(&[2 << 10, 64 << 10]),
                collect_slice_records: usize::try_from(pick(&[3, 17, 512])).unwrap(),
                purge_slice_records: usize::try_from(pick(&[2, 9, 512])).unwrap(),
                moved_batch_bytes: usize::try_from(pick(&[1, 600, 1 << 20])).unwrap(),
                pin_grace: PIN_GRACE,
                scrub_pause: Duration::from_millis(pick(&[0, 3_000, 30_000])),
            },
            hot_bytes_max: pick(&[0, 0, 500, 1 << 20]),
            quota_bytes: None,
            value_bytes_max: pick(&[20, 300, 3_000]),
            keys: pick(&[3, 8, 20]),
            steps: pick(&[120, 250, 400]),
            lives: pick(&[3, 5, 8]),
        }
    }

    pub fn log_options(&self, salt: u64) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            first_segment_bytes: self.first_segment_bytes,
            spares_max: self.spares_max,
            salt,
        }
    }
}
