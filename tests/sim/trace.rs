//! What a run did, line by line: the last lines for whoever reads a failure, and
//! a digest of all of them, which two runs of one seed must share.

use std::collections::VecDeque;
use std::fmt::Arguments;

/// Lines kept for a failure.
const KEPT_LINES: usize = 80;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Trace {
    digest: u64,
    lines: u64,
    kept: VecDeque<String>,
    /// Keeps every line, for whoever replays one seed.
    pub keep_all: bool,
}

impl Trace {
    pub fn line(&mut self, text: Arguments<'_>) {
        let line = text.to_string();
        let mut digest = self.digest ^ 0xcbf2_9ce4_8422_2325;
        for byte in line.bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.digest = digest;
        self.lines += 1;
        if self.kept.len() >= KEPT_LINES && !self.keep_all {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    /// Digest and number of all lines.
    pub fn digest(&self) -> (u64, u64) {
        (self.digest, self.lines)
    }

    pub fn kept(&self) -> impl Iterator<Item = &String> {
        self.kept.iter()
    }
}
