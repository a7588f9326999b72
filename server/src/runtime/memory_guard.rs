//! The second guard besides the quota (design, section 5): when the process comes
//! near the memory it may use, new writes are refused with NOSPACE before the
//! kernel kills the member.
//!
//! A task of its own that looks once a second; it proposes the alarm like any
//! client. The limit is the cgroup's, or the machine's memory without one.

use std::time::Duration;

use storage::apply::command::{Alarm, Command};

use super::handle::Handle;

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Share of the limit that is used without an alarm, percent.
const USED_PERCENT_MAX: u64 = 70;

/// Where the limit of this process's cgroup stands (version 2, version 1).
const CGROUP_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Runs until the member stops; ends at once where memory cannot be told.
pub async fn run(handle: Handle) {
    if let Some(limit_bytes) = limit_bytes() {
        watch(handle, limit_bytes, resident_bytes).await;
    }
}

/// Looks at the memory used until the member stops, or until it cannot be told.
async fn watch(handle: Handle, limit_bytes: u64, used_bytes: impl Fn() -> Option<u64>) {
    let alarm_bytes = limit_bytes / 100 * USED_PERCENT_MAX;
    tracing::info!(
        limit_bytes,
        alarm_bytes,
        "watching the memory of this process"
    );
    loop {
        tokio::select! {
            () = handle.stopped() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let Some(used_bytes) = used_bytes() else {
            return;
        };
        let member = handle.view().identity().member_id;
        let raised = handle.view().alarms().contains(&(member, Alarm::NoSpace));
        if used_bytes < alarm_bytes || raised {
            continue;
        }
        tracing::warn!(
            used_bytes,
            limit_bytes,
            "memory is nearly used up; raising alarm NOSPACE: compact, or give the member more \
             memory, then disarm the alarm"
        );
        let command = Command::Alarm {
            activate: true,
            member,
            alarm: Alarm::NoSpace,
        };
        if let Err(rejected) = handle.propose(command).await {
            tracing::warn!(?rejected, "cannot raise alarm NOSPACE; trying again");
        }
    }
}

fn limit_bytes() -> Option<u64> {
    let machine = machine_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let cgroup = CGROUP_LIMITS.iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u64>().ok()
    });
    Some(cgroup.map_or(machine, |limit| limit.min(machine)))
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use storage::types::MemberId;

    use super::*;
    use crate::engine::Rejected;
    use crate::runtime::handle::tests::handle;
    use crate::runtime::shell::Request;

    #[tokio::test(start_paused = true)]
    async fn the_alarm_is_raised_at_its_share_and_until_it_is_there() {
        let (handle, mut requests, _stop) = handle();
        let used = Arc::new(AtomicU64::new(699));
        let looked_at = Arc::clone(&used);
        let used_bytes = move || Some(looked_at.load(Ordering::Relaxed));
        tokio::spawn(watch(handle.clone(), 1_000, used_bytes));
        tokio::time::sleep(10 * INTERVAL).await;
        assert!(requests.is_empty(), "below 70 percent");
        used.store(700, Ordering::Relaxed);
        // A refused one is tried again.
        for _ in 0..2 {
            let Some(Request::Propose { command, reply }) = requests.recv().await else {
                panic!("a command is proposed");
            };
            let wanted = Command::Alarm {
                activate: true,
                member: MemberId(1),
                alarm: Alarm::NoSpace,
            };
            assert_eq!(command, wanted);
            reply.send(Err(Rejected::TooManyRequests)).unwrap();
        }
        handle
            .view()
            .publish_alarms(vec![(MemberId(1), Alarm::NoSpace)]);
        tokio::time::sleep(10 * INTERVAL).await;
        assert!(requests.is_empty(), "it is raised already");
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24689572 kB\nMemFree:        100 kB\n";
        assert_eq!(machine_bytes(text), Some(24_689_572 << 10));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(limit_bytes().unwrap() > resident_bytes().unwrap());
    }
}
