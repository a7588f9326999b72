//! Where and when a run takes place.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::procfs;

/// Above this load average, something else ran before the bench began.
const QUIET_LOAD_MAX: f64 = 0.5;
const DAY_SECONDS: u64 = 86_400;

/// The machine, its state before the run, and the commit that is measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_gib: f64,
    pub kernel: String,
    pub file_system: String,
    pub load_average_before: String,
    /// UTC.
    pub date: String,
    /// Of the repository that the bench was started in.
    pub commit: String,
}

impl Machine {
    /// What can be read of this one; `directory` holds the data.
    pub fn read(directory: &Path) -> Result<Machine, Failure> {
        std::fs::create_dir_all(directory)?;
        let read = std::fs::read_to_string;
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value
                .map_or("unknown", |(_, value)| value.trim())
                .to_owned()
        };
        let memory = field(&read("/proc/meminfo")?, "MemTotal");
        let kibibytes = memory.split_whitespace().next();
        let kibibytes: f64 = kibibytes.and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let load = read("/proc/loadavg")?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Machine {
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&read("/proc/cpuinfo")?, "model name"),
            memory_gib: kibibytes / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: procfs::file_system(directory)?,
            load_average_before: load.split(' ').next().unwrap_or_default().to_owned(),
            date: date(since_epoch.map_or(0, |since| since.as_secs())),
            commit: commit(),
        })
    }

    /// All of it in one sentence.
    pub fn sentence(&self) -> String {
        format!(
            "{}, commit {}: {} cores ({}), {:.0} GiB, Linux {}, {}, load before {}",
            self.date,
            self.commit,
            self.cores,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.file_system,
            self.load_average_before
        )
    }

    /// Whether nothing else seemed to run before the bench began.
    pub fn was_quiet(&self) -> bool {
        let load = self.load_average_before.parse::<f64>();
        load.is_ok_and(|load| load <= QUIET_LOAD_MAX)
    }
}

/// The commit of the work tree that the bench is started in, "unknown" outside of one.
fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=10"])
        .output();
    let text = output.ok().filter(|output| output.status.success());
    let text = text.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

/// The day of a time, as `2026-11-25`, by the Gregorian calendar.
fn date(seconds: u64) -> String {
    let mut days = seconds / DAY_SECONDS;
    let mut year = 1970_u64;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_735_689_599), "2024-12-31");
        assert_eq!(date(1_795_564_800), "2026-11-25");
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read(&std::env::temp_dir()).unwrap();
        assert!(machine.cores > 0 && machine.memory_gib > 0.0);
    }
}
