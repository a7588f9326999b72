//! A progress bar on standard error: one line that is rewritten on a terminal, one line per step
//! elsewhere. What it cannot write is not worth a failed run.

use std::io::{IsTerminal, Write};
use std::time::Instant;

const WIDTH: usize = 30;

/// How far a run is.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    done: usize,
    begin: Instant,
    rewrites: bool,
}

impl Progress {
    /// Of `total` steps none is done.
    pub fn new(total: usize) -> Progress {
        let rewrites = std::io::stderr().is_terminal();
        Progress {
            total: total.max(1),
            done: 0,
            begin: Instant::now(),
            rewrites,
        }
    }

    /// The step before is done, and this one begins.
    pub fn step(&mut self, name: &str) {
        self.write(name);
        self.done = (self.done + 1).min(self.total);
    }

    /// All is done.
    pub fn finish(&mut self) {
        self.done = self.total;
        self.write("done");
        if self.rewrites {
            drop(std::io::stderr().lock().write_all(b"\n"));
        }
    }

    fn write(&self, name: &str) {
        let filled = self.done * WIDTH / self.total;
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(WIDTH - filled));
        let seconds = self.begin.elapsed().as_secs();
        let text = format!(
            "[{bar}] {}/{} {seconds:>4} s  {name}",
            self.done, self.total
        );
        let text = if self.rewrites {
            format!("\r{text:<79}")
        } else {
            format!("{text}\n")
        };
        let mut output = std::io::stderr().lock();
        drop(output.write_all(text.as_bytes()));
        drop(output.flush());
    }
}
