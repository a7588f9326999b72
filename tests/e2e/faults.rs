//! Faults of the disk and of time on the real process: failing and slow flushes, failing
//! writes, a full disk, pauses, steps of the wall clock. Whatever happens, the history is
//! judged as everywhere and the directory that is left behind is clean.
//!
//! Amounts: `STERNPOST_E2E_FLUSHES`, `STERNPOST_E2E_FULL_DISKS`, `STERNPOST_E2E_PAUSES`. A
//! fault that did not fire fails the test. What this machine cannot do is said ("NOT RUN").

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kvproto::etcdserverpb::AlarmRequest;
use kvproto::etcdserverpb::alarm_request::AlarmAction;

use crate::campaign::{Campaign, from_environment};
use crate::client::{Client, all_keys};
use crate::process::{Member, READY_WITHIN, is_etcd};
use crate::shim;

/// Failed calls with every change.
const FLUSHES: u64 = 8;
/// Full disks with every change.
const FULL_DISKS: u64 = 1;
/// Pauses with every change.
const PAUSES: u64 = 3;
/// A disk for a few segments, MiB, and the least that the filler leaves of it: the first
/// segment fits, the next does not.
const SMALL_DISK_MEBIBYTES: u64 = 224;
const FREE_MEBIBYTES: u64 = 8;

/// The k-th flush or write of the log fails, k rising. The process answers nothing after it
/// and ends; what the failed flush had written is gone, and nothing answered is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_flush_ends_the_process_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(library) = shim::build(directory.path()).filter(|_| !is_etcd()) else {
        return;
    };
    let flushes = from_environment("STERNPOST_E2E_FLUSHES", FLUSHES);
    let mut campaign = Campaign::new();
    let (mut slowest, mut harmless) = (Duration::ZERO, 0);
    for round in 0..flushes {
        let mark = directory.path().join(format!("mark-{round}"));
        let arm = directory.path().join(format!("arm-{round}"));
        let kind = match round % 4 {
            0..2 => "SHIM_FAIL_SYNC",
            2 => "SHIM_FAIL_WRITE",
            _ => "SHIM_FULL_WRITE",
        };
        let place = 1 + campaign.random.below(60);
        campaign.member.environment = environment(&library, &mark, (kind, place));
        let file = ("SHIM_ARM".to_owned(), arm.display().to_string());
        campaign.member.environment.push(file);
        campaign.start().await;
        if round % 5 == 4 {
            campaign.compact().await;
        }
        campaign.load().await;
        campaign.recorder.announce_end(true);
        fs::write(&arm, "").expect("a file");
        match end_or_harmless(&mut campaign, &mark).await {
            Some(after) => slowest = slowest.max(after),
            None => harmless += 1,
        }
        campaign.join().await;
        campaign.member.environment.clear();
        campaign.check();
    }
    campaign.start().await;
    campaign.kill().await;
    eprintln!(
        "{flushes} failed calls, each fired, {harmless} of them on a spare segment, which is no \
         harm; else the process ended within {slowest:?}; {}",
        campaign.summary()
    );
}

/// Waits until the process has ended because of the failure, and says how long after it that
/// was; or until the failure has met a segment in preparation, which nobody needs yet.
async fn end_or_harmless(campaign: &mut Campaign, mark: &Path) -> Option<Duration> {
    let begin = Instant::now();
    while !campaign.member.ended() {
        let struck = fs::read_to_string(mark).unwrap_or_default();
        if struck.contains(".filling") || struck.contains(".spare") {
            campaign.member.kill();
            return None;
        }
        assert!(
            begin.elapsed() < READY_WITHIN,
            "failed and goes on: {struck:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let status = campaign.member.wait(READY_WITHIN);
    assert!(!status.success(), "{status}");
    let (at, now) = fired(mark);
    Some(now.saturating_sub(at))
}

/// What the shim is told. It sees the calls of the log thread, not a queue of the kernel.
fn environment(library: &Path, mark: &Path, (kind, how): (&str, u64)) -> Vec<(String, String)> {
    [
        ("LD_PRELOAD", library.display().to_string()),
        (kind, how.to_string()),
        ("SHIM_PATH", "/data/".to_owned()),
        ("SHIM_MARK", mark.display().to_string()),
        ("STERNPOST_LOG_FLUSH", "thread".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// When the shim struck, and now, both on the monotonic clock.
fn fired(mark: &Path) -> (Duration, Duration) {
    let text = fs::read_to_string(mark).expect("a fault that never fired is no test");
    let at = text.split_whitespace().next().expect("seconds");
    let at: f64 = at.parse().expect("seconds");
    let uptime = fs::read_to_string("/proc/uptime").expect("there is /proc");
    let now = uptime
        .split(' ')
        .next()
        .expect("seconds")
        .parse()
        .expect("seconds");
    (Duration::from_secs_f64(at), Duration::from_secs_f64(now))
}

/// A disk that takes its time: nothing is lost, no lease ends early, and it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_flush_only_takes_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(library) = shim::build(directory.path()).filter(|_| !is_etcd()) else {
        return;
    };
    let mut campaign = Campaign::new();
    for (round, delay) in [50, 700].into_iter().enumerate() {
        let mark = directory.path().join(format!("mark-{round}"));
        campaign.member.environment = environment(&library, &mark, ("SHIM_SLOW_SYNC", delay));
        campaign.start().await;
        campaign.load().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        campaign.kill().await;
        fired(&mark);
    }
    campaign.member.environment.clear();
    campaign.start().await;
    campaign.kill().await;
    campaign.check();
    eprintln!("flushes of 50 and 700 ms, {}", campaign.summary());
}

/// Pauses of the whole process, and steps of the wall clock in both directions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_and_clock_steps_end_no_lease_early() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let library = shim::build(directory.path()).filter(|_| !is_etcd());
    let pauses = from_environment("STERNPOST_E2E_PAUSES", PAUSES);
    let clock = directory.path().join("clock");
    let mark = directory.path().join("mark");
    fs::write(&clock, "-60").expect("a file");
    let mut campaign = Campaign::new();
    if let Some(library) = &library {
        campaign.member.environment = vec![
            ("LD_PRELOAD".to_owned(), library.display().to_string()),
            ("SHIM_CLOCK".to_owned(), clock.display().to_string()),
            ("SHIM_MARK".to_owned(), mark.display().to_string()),
        ];
    }
    campaign.start().await;
    campaign.load().await;
    // After a long pause requests may have waited too long; their outcome is open.
    campaign.recorder.tolerate(true);
    for round in 0..pauses {
        const STEPS: [i64; 5] = [3_600, -3_600, 31_536_000, -31_536_000, 5];
        let step = STEPS[usize::try_from(round).expect("small") % STEPS.len()];
        let fresh = directory.path().join("clock.new");
        fs::write(&fresh, step.to_string()).expect("a file");
        fs::rename(&fresh, &clock).expect("a file");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let longest = if pauses > PAUSES { 30_000 } else { 1_500 };
        let pause = Duration::from_millis(100 + campaign.random.below(longest));
        campaign.member.signal("STOP");
        tokio::time::sleep(pause).await;
        campaign.member.signal("CONT");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    campaign.recorder.tolerate(false);
    campaign.kill().await;
    if library.is_some() {
        fired(&mark);
    }
    campaign.check();
    campaign.start().await;
    campaign.kill().await;
    eprintln!("{pauses} pauses and clock steps, {}", campaign.summary());
}

/// A file system of a few MiB in memory, unmounted when it goes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(at).expect("a directory");
        let size = format!("size={SMALL_DISK_MEBIBYTES}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(at.to_owned())),
            other => {
                shim::not_run("mount", &format!("no tmpfs can be mounted: {other:?}"));
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// A filler takes all space; the member refuses writes, or ends where even the checkpoint
/// finds none. Space returns, it goes on or starts again, and every answered write is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing() {
    if is_etcd() {
        return;
    }
    let rounds = from_environment("STERNPOST_E2E_FULL_DISKS", FULL_DISKS);
    let (mut ended, mut refused, mut answered) = (0, 0, 0);
    for round in 0..rounds {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let Some(disk) = SmallDisk::mount(&directory.path().join("disk")) else {
            return;
        };
        let member = Member::with_data(directory.path(), &disk.0.join("data"));
        let mut campaign = Campaign::of(member, directory, round);
        let filler = disk.0.join("filler");
        fill(
            &filler,
            FREE_MEBIBYTES + campaign.random.below(FREE_MEBIBYTES),
        );
        campaign.start().await;
        campaign.recorder.announce_end(true);
        campaign.load().await;
        let has_ended = fill_up(&mut campaign).await;
        fs::remove_file(&filler).expect("the filler is ours");
        if has_ended {
            ended += 1;
        } else {
            refused += 1;
            goes_on(&mut campaign).await;
        }
        campaign.member.kill();
        campaign.join().await;
        campaign.check();
        campaign.start().await;
        campaign.kill().await;
        campaign.check();
        answered += campaign.judge.amounts.answered;
    }
    assert!(
        refused > 0,
        "{ended} of {rounds} full disks ended the process"
    );
    eprintln!(
        "{rounds} full disks: {ended} times the process ended, {refused} times it refused \
         writes; {answered} answers"
    );
}

/// Takes all but so many MiB.
fn fill(filler: &Path, free_mebibytes: u64) {
    let bytes = format!("{}M", SMALL_DISK_MEBIBYTES - free_mebibytes);
    let taken = Command::new("fallocate")
        .args(["-l", &bytes])
        .arg(filler)
        .status();
    assert!(
        taken.expect("there is fallocate").success(),
        "the filler takes space"
    );
}

/// Waits until the load has met the end of the space: true if the process ended.
async fn fill_up(campaign: &mut Campaign) -> bool {
    let mut client = Client::connect(campaign.member.client_port()).await;
    let begin = Instant::now();
    loop {
        if campaign.member.ended() {
            return true;
        }
        let request = AlarmRequest::default();
        if let Ok(alarms) = client.maintenance.alarm(request).await
            && !alarms.into_inner().alarms.is_empty()
        {
            return false;
        }
        assert!(
            begin.elapsed() < READY_WITHIN,
            "the disk is full and nobody minds"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The alarm is taken back, and writes are answered again.
async fn goes_on(campaign: &mut Campaign) {
    let mut client = Client::connect(campaign.member.client_port()).await;
    let begin = Instant::now();
    let mut before = None;
    loop {
        // Raised again while there is no next segment yet.
        disarm(&mut client).await;
        let read = client.kv.range(all_keys()).await;
        let header = read.expect("a read").into_inner().header.expect("a header");
        if header.revision > before.unwrap_or(header.revision) + 100 {
            return;
        }
        before.get_or_insert(header.revision);
        assert!(
            begin.elapsed() < READY_WITHIN,
            "there is space and no write"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As `etcdctl alarm disarm` does.
async fn disarm(client: &mut Client) {
    let raised = client.maintenance.alarm(AlarmRequest::default()).await;
    for alarm in raised.expect("alarms are listed").into_inner().alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let disarmed = client.maintenance.alarm(request).await;
        disarmed.expect("an alarm is taken back");
    }
}
