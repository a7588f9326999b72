//! File descriptors of this process, read from /proc: the limit bounds connections, both numbers
//! are metrics.

/// The soft limit on open files; None where /proc does not say, or when there is no limit.
pub fn limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Open files now, the one that counts them included; None where /proc does not say.
pub fn used() -> Option<u64> {
    u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_some() {
        let used = super::used().unwrap();
        assert!(used >= 3, "{used}");
        assert!(super::limit().unwrap() >= used);
    }
}
