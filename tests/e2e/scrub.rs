//! A byte flips on the disk of a running member, in what nobody reads: the background scrub
//! finds it, and the process ends with the file and the offset.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::process::{Member, READY_WITHIN, is_etcd};

/// Writes until the log has sealed its first segment.
async fn grown(directory: &Path) -> Member {
    let mut member = Member::new(directory);
    let pause = ("STERNPOST_SCRUB_PAUSE".to_owned(), "1".to_owned());
    member.environment.push(pause);
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    for number in 0..6_u8 {
        client
            .put(&format!("key/{number}"), vec![number; 1 << 20])
            .await;
    }
    let log = member.data().join("log");
    let segments = fs::read_dir(log).expect("a log").filter(|entry| {
        let path = entry.as_ref().expect("an entry").path();
        path.extension()
            .is_some_and(|extension| extension == "segment")
    });
    assert!(segments.count() > 1, "the first segment is sealed");
    member
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("the file is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)
        .expect("it is that long");
    byte[0] ^= 0x20;
    file.write_all_at(&byte, offset).expect("it can be written");
    file.sync_all().expect("the disk takes it");
}

async fn ends_and_names(path: &Path, member: &mut Member) {
    let status = member.wait(READY_WITHIN);
    let log = member.log_tail();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().rev().find(|line| line.contains("cannot go on"));
    let last = last.unwrap_or_else(|| panic!("{log}"));
    let name = path.display().to_string();
    assert!(last.contains(&name), "names the file: {last}");
    assert!(last.contains("at offset"), "names the offset: {last}");
}

#[tokio::test]
async fn a_flip_in_a_sealed_segment_that_nobody_reads_is_noticed() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = grown(directory.path()).await;
    // A whole pass over a member that is well.
    let began = Instant::now();
    while !member.log_tail().contains("every checksum holds") {
        member.assert_running();
        assert!(began.elapsed() < READY_WITHIN, "no pass ends");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let path = member.data().join("log/0000000001.segment");
    flip(&path, 1 << 20);
    ends_and_names(&path, &mut member).await;
    let (status, text) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("0000000001.segment"), "{text}");
    let (status, text) = member.check();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("0000000001.segment: offset "), "{text}");
    assert!(text.contains("DAMAGED"), "{text}");
    assert!(!text.contains('\r'), "no bar goes to a pipe: {text}");
}

#[tokio::test]
async fn a_flip_in_the_manifest_is_noticed() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = grown(directory.path()).await;
    let path = member.data().join("MANIFEST");
    flip(&path, 40);
    ends_and_names(&path, &mut member).await;
}
