//! How fast the disk itself can make one small write durable: the floor below every put.
//!
//! It overwrites a file that was filled with zeros and synced before, so that no file size and no
//! extent changes: one write of 4 KiB, one fdatasync, in a row, as a log on that disk would.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::latency::Latencies;

/// What one probe gave.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Flush {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

const WRITE_BYTES: usize = 4_096;
const FILE_WRITES: u64 = 4_096;

/// Flushes one after the other for `length` of time, in a file of its own that is removed after.
pub fn probe(directory: &Path, length: Duration) -> Result<Latencies, Failure> {
    let path = directory.join(format!("flush-probe-{}", std::process::id()));
    let measured = measure(&path, length);
    fs::remove_file(&path)?;
    measured
}

fn measure(path: &Path, length: Duration) -> Result<Latencies, Failure> {
    let mut file = fs::File::create(path)?;
    for _ in 0..FILE_WRITES {
        file.write_all(&[0; WRITE_BYTES])?;
    }
    file.sync_all()?;
    let mut latencies = Latencies::default();
    let data = [0x5a; WRITE_BYTES];
    let begin = Instant::now();
    for number in (0..FILE_WRITES).cycle() {
        if begin.elapsed() >= length {
            break;
        }
        let before = Instant::now();
        file.write_all_at(&data, number * WRITE_BYTES as u64)?;
        file.sync_data()?;
        latencies.record(before.elapsed());
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_flushes_and_leaves_no_file_behind() {
        let directory = std::env::temp_dir().join(format!("bench-probe-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let latencies = probe(&directory, Duration::from_millis(50)).unwrap();
        assert!(latencies.max().is_some());
        fs::remove_dir(&directory).expect("the probe removed its file");
    }
}
