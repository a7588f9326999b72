//! Power cuts on real file systems: the server runs under load on ext4 or XFS in a file on a
//! loop device; the file system is shut down without a flush of its log
//! (`EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`), which loses what was not synced as a power cut
//! does; kill, unmount, mount, check, start, judge.
//!
//! Needs root and loop devices. `STERNPOST_E2E_POWER_CUTS` is the number per kind of mount.
//! What this machine cannot do is said ("NOT RUN").

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::campaign::{Campaign, from_environment};
use crate::process::{Member, is_etcd};
use crate::shim::not_run;

/// Cuts with every change, per file system, where it can be done.
const CUTS: u64 = 2;
/// The image that holds the file system, bytes; sparse.
const IMAGE_BYTES: u64 = 1 << 30;
/// `_IOR('X', 125, __u32)`, the same number for ext4 and XFS.
const GOING_DOWN: u64 = 0x8004_587d;
/// Without a flush of the log.
const NO_LOG_FLUSH: u32 = 2;

/// A file system: its name, its maker and its options of mount.
type Kind = (&'static str, &'static [&'static str], &'static str);

const KINDS: [Kind; 5] = [
    (
        "ext4, commit 1, ordered",
        &["mkfs.ext4", "-q"],
        "commit=1,data=ordered",
    ),
    (
        "ext4, commit 5, ordered",
        &["mkfs.ext4", "-q"],
        "commit=5,data=ordered",
    ),
    (
        "ext4, commit 1, writeback",
        &["mkfs.ext4", "-q"],
        "commit=1,data=writeback",
    ),
    (
        "ext4, commit 5, writeback",
        &["mkfs.ext4", "-q"],
        "commit=5,data=writeback",
    ),
    ("XFS", &["mkfs.xfs", "-q"], "defaults"),
];

struct LoopDisk {
    image: PathBuf,
    point: PathBuf,
    options: &'static str,
    mounted: bool,
}

impl LoopDisk {
    fn make(directory: &Path, (_, maker, options): Kind) -> Result<LoopDisk, String> {
        let image = directory.join("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(IMAGE_BYTES)
            .map_err(|error| error.to_string())?;
        run(Command::new(maker[0]).args(&maker[1..]).arg(&image))?;
        let point = directory.join("disk");
        fs::create_dir_all(&point).map_err(|error| error.to_string())?;
        let mut disk = LoopDisk {
            image,
            point,
            options,
            mounted: false,
        };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> Result<(), String> {
        let options = format!("loop,{}", self.options);
        run(Command::new("mount")
            .args(["-o", &options])
            .arg(&self.image)
            .arg(&self.point))?;
        self.mounted = true;
        Ok(())
    }

    #[expect(unsafe_code, reason = "only ioctl shuts a file system down")]
    fn cut(&self) {
        let file = File::open(&self.point).expect("it is mounted");
        let how = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open and the call reads four bytes at the address, which
        // outlive it.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), GOING_DOWN, &raw const how) };
        assert_eq!(
            done,
            0,
            "the file system goes down: {}",
            std::io::Error::last_os_error()
        );
        fs::write(self.point.join("probe"), b"x").expect_err("it must be down");
    }

    fn unmount(&mut self) {
        run(Command::new("umount").arg(&self.point)).expect("nobody uses it");
        self.mounted = false;
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if self.mounted {
            Command::new("umount")
                .arg("-l")
                .arg(&self.point)
                .status()
                .ok();
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("{:?}: {error}", command.get_program())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_power_cuts() {
    if is_etcd() {
        return;
    }
    let cuts = from_environment("STERNPOST_E2E_POWER_CUTS", CUTS);
    for (number, kind) in (0..).zip(KINDS) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = match LoopDisk::make(directory.path(), kind) {
            Ok(disk) => disk,
            Err(problem) => {
                let needs = if kind.0 == "XFS" { "xfs" } else { "mount" };
                let why = format!("power cuts of {}: {}", kind.0, problem.trim());
                not_run(needs, &why);
                continue;
            }
        };
        let member = Member::with_data(directory.path(), &disk.point.join("data"));
        let mut campaign = Campaign::of(member, directory, number);
        cut_again_and_again(&mut campaign, disk, cuts).await;
        eprintln!("{}: {cuts} power cuts, {}", kind.0, campaign.summary());
        let answered = campaign.judge.amounts.answered;
        assert!(answered > 20 * cuts, "hardly anything was answered");
    }
}

async fn cut_again_and_again(campaign: &mut Campaign, mut disk: LoopDisk, cuts: u64) {
    for cut in 1..=cuts {
        campaign.start().await;
        if cut % 5 == 0 {
            campaign.compact().await;
        }
        campaign.load().await;
        let pause = Duration::from_millis(20 + campaign.random.below(300));
        tokio::time::sleep(pause).await;
        campaign.member.assert_running();
        campaign.recorder.announce_end(true);
        disk.cut();
        campaign.member.kill();
        campaign.join().await;
        disk.unmount();
        disk.mount()
            .expect("a file system comes back after a power cut");
        campaign.check();
    }
    campaign.start().await;
    campaign.kill().await;
    campaign.check();
    disk.unmount();
}
