//! `process_*` and `os_fd_*`, read from /proc at the scrape. What /proc does not tell is absent
//! from the page.

use super::text::Page;
use crate::net::descriptors;

/// Ticks per second of the times in /proc: 100 on every Linux we build for, whatever the kernel's
/// own rate.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn write(page: &mut Page) {
    let mut gauge = |name: &str, help: &str, value: Option<u64>| {
        if let Some(value) = value {
            page.family(name, help, "gauge").count(&[], value);
        }
    };
    let (used, limit) = (descriptors::used(), descriptors::limit());
    gauge("os_fd_used", "The number of used file descriptors.", used);
    gauge("os_fd_limit", "The file descriptor limit.", limit);
    gauge("process_open_fds", "Number of open file descriptors.", used);
    gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        limit,
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line
            .trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        kibibytes.checked_mul(1024)
    };
    gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        bytes("VmRSS"),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        bytes("VmSize"),
    );
    let Some((cpu, start)) = times() else { return };
    let help = "Total user and system CPU time spent in seconds.";
    page.family("process_cpu_seconds_total", help, "counter")
        .sample(&[], cpu);
    let help = "Start time of the process since unix epoch in seconds.";
    page.family("process_start_time_seconds", help, "gauge")
        .sample(&[], start);
}

/// CPU seconds used, and the start in seconds since the epoch.
fn times() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses and may hold anything; the fields are counted behind
    // it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    let cpu = (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let boot: f64 = boot.trim().parse().ok()?;
    Some((cpu, boot + ticks(19)? / TICKS_PER_SECOND))
}
