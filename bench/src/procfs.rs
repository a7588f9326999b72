//! What Linux tells of a process: CPU, memory, bytes written, command line, listening sockets.
//!
//! Limits: CPU has a grain of 10 ms (USER_HZ is 100 on every Linux we run on). Bytes written by a
//! process count each dirtied page-cache folio as a whole: measured on Linux 6.18 and ext4, 1 MiB
//! for a write of 4 KiB into a file that was filled in steps of 1 MiB, of which the device gets
//! 4 KiB. So the device's own counter is what tells; it counts the writes of everybody on it,
//! the file system's journal included. Another user's process can be read by root only.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Length of one tick of /proc/PID/stat.
const TICK: Duration = Duration::from_millis(10);
/// State of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// CPU and bytes written since the process began.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu: Duration,
    pub written_bytes: u64,
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("/proc/PID/{file} has another format"),
    )
}

/// User and system time of all threads, ended ones included.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    cpu_in(&format!("/proc/{pid}/stat"))
}

/// User and system time of one thread.
pub fn thread_cpu(pid: u32, thread: u32) -> io::Result<Duration> {
    cpu_in(&format!("/proc/{pid}/task/{thread}/stat"))
}

/// A thread since it began.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    pub id: u32,
    pub name: String,
    pub cpu: Duration,
    /// How often it gave up the processor because there was nothing to do.
    pub sleeps: u64,
}

/// The threads of a process.
pub fn threads(pid: u32) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let thread = name.and_then(|name| name.parse().ok());
        let thread = thread.ok_or_else(|| malformed("task"))?;
        // A thread that has ended meanwhile did nothing that could be read.
        let (Ok(cpu), Ok(status)) = (
            thread_cpu(pid, thread),
            fs::read_to_string(path.join("status")),
        ) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map_or("", str::trim).to_owned()
        };
        threads.push(Thread {
            id: thread,
            name: field("Name:"),
            cpu,
            sleeps: field("voluntary_ctxt_switches:").parse().unwrap_or(0),
        });
    }
    Ok(threads)
}

fn cpu_in(path: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(path)?;
    // The command name may hold spaces and parentheses; the numbers follow the last one.
    let numbers = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .ok_or_else(|| malformed("stat"))?;
    let ticks = |place: usize| {
        let text = numbers.split_whitespace().nth(place);
        text.and_then(|text| text.parse::<u32>().ok())
            .ok_or_else(|| malformed("stat"))
    };
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// CPU and bytes written.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    let written = written.and_then(|text| text.trim().parse().ok());
    Ok(Usage {
        cpu: cpu(pid)?,
        written_bytes: written.ok_or_else(|| malformed("io"))?,
    })
}

fn status_bytes(pid: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next());
    let kibibytes: Option<u64> = kibibytes.and_then(|text| text.parse().ok());
    kibibytes
        .map(|number| number * 1_024)
        .ok_or_else(|| malformed("status"))
}

/// Resident bytes now.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident bytes since the process began or [`reset_peak`].
pub fn peak_resident_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Lets the peak begin anew.
pub fn reset_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The process that listens on a TCP port of this machine, if it can be seen.
pub fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let sockets: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table
                .lines()
                .filter_map(|line| socket(line, port))
                .collect::<Vec<_>>()
        })
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids =
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        files
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .any(|target| {
                target
                    .to_str()
                    .is_some_and(|target| sockets.iter().any(|socket| socket == target))
            })
    })
}

/// The name under /proc/PID/fd of the socket in one line of /proc/net/tcp, if it listens on `port`.
fn socket(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let (_, hexadecimal) = local.rsplit_once(':')?;
    let matches = u16::from_str_radix(hexadecimal, 16).ok()? == port && state == LISTENING;
    matches.then(|| format!("socket:[{inode}]"))
}

/// Why the process cannot be trusted to flush, None when nothing speaks against it.
pub fn fsync_off(pid: u32) -> io::Result<Option<String>> {
    let arguments = separated_by_zeros(&fs::read(format!("/proc/{pid}/cmdline"))?);
    let environment = separated_by_zeros(&fs::read(format!("/proc/{pid}/environ"))?);
    Ok(fsync_off_by(&arguments, &environment))
}

fn separated_by_zeros(bytes: &[u8]) -> Vec<String> {
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// As [`fsync_off`], for arguments and `NAME=value` variables in hand.
pub fn fsync_off_by(arguments: &[String], environment: &[String]) -> Option<String> {
    let is_off = |value: &str| !matches!(value, "false" | "0" | "f" | "F" | "FALSE" | "False");
    for (place, argument) in arguments.iter().enumerate() {
        let Some(name) = argument.strip_prefix('-') else {
            continue;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let (name, value) = name
            .split_once('=')
            .map_or((name, None), |(n, v)| (n, Some(v)));
        if name == "unsafe-no-fsync" && value.is_none_or(is_off) {
            return Some(format!("it was started with {argument}"));
        }
        if name == "config-file" {
            let next = arguments.get(place + 1).map(String::as_str);
            let path = value.or(next).unwrap_or_default();
            if let Some(reason) = configured_off(Path::new(path)) {
                return Some(reason);
            }
        }
    }
    for variable in environment {
        let Some((name, value)) = variable.split_once('=') else {
            continue;
        };
        if name == "ETCD_UNSAFE_NO_FSYNC" && is_off(value) {
            return Some(format!("its environment has {variable}"));
        }
        if name == "LD_PRELOAD" && value.contains("eatmydata") {
            return Some(format!("its environment has {variable}"));
        }
        if name == "ETCD_CONFIG_FILE"
            && let Some(reason) = configured_off(Path::new(value))
        {
            return Some(reason);
        }
    }
    None
}

fn configured_off(path: &Path) -> Option<String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Some(format!("its {} cannot be read: {error}", path.display())),
    };
    let found = text.lines().any(|line| {
        let line: String = line
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '"')
            .collect();
        line.contains("unsafe-no-fsync:") && !line.contains("unsafe-no-fsync:false")
    });
    found.then(|| format!("{} has unsafe-no-fsync", path.display()))
}

/// The kernel's counters of the device that holds a directory; None where there is none, as under
/// an overlay or btrfs.
pub fn device_counters(directory: &Path) -> Option<PathBuf> {
    let device = fs::metadata(directory).ok()?.dev();
    // The encoding of dev_t that glibc and the kernel share.
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xfff00);
    let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    path.exists().then_some(path)
}

/// Bytes written to the device since it was attached.
pub fn device_written_bytes(counters: &Path) -> io::Result<u64> {
    const SECTOR_BYTES: u64 = 512;
    let text = fs::read_to_string(counters)?;
    let sectors = text
        .split_whitespace()
        .nth(6)
        .and_then(|text| text.parse::<u64>().ok());
    sectors
        .map(|sectors| sectors * SECTOR_BYTES)
        .ok_or_else(|| malformed("stat"))
}

/// The type of the file system that holds a directory.
pub fn file_system(directory: &Path) -> io::Result<String> {
    let directory = fs::canonicalize(directory)?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut found = (0, String::from("unknown"));
    for line in mounts.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        if directory.starts_with(point) && point.len() >= found.0 {
            found = (point.len(), kind.to_owned());
        }
    }
    Ok(found.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_server_without_fsync_is_recognised() {
        let off =
            |arguments, environment| fsync_off_by(&words(arguments), &words(environment)).is_some();
        assert!(off("etcd --unsafe-no-fsync", ""));
        assert!(off("etcd -unsafe-no-fsync=true", ""));
        assert!(off("etcd", "ETCD_UNSAFE_NO_FSYNC=true"));
        assert!(off("etcd --config-file /does/not/exist", ""));
        assert!(!off(
            "etcd --unsafe-no-fsync=false --name a",
            "ETCD_UNSAFE_NO_FSYNC=false"
        ));
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener_socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_socket.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
    }

    #[test]
    fn figures_of_this_process_can_be_read() {
        let pid = std::process::id();
        usage(pid).unwrap();
        assert!(peak_resident_bytes(pid).unwrap() > 0);
        assert!(resident_bytes(pid).unwrap() > 0);
        let threads = threads(pid).unwrap();
        assert!(
            threads
                .iter()
                .any(|thread| thread.id == pid && !thread.name.is_empty())
        );
        assert_eq!(file_system(Path::new("/proc/self")).unwrap(), "proc");
    }
}
