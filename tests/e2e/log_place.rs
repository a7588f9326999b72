//! `--wal-dir`: the log's own directory, and the starts that ask for another one.

use std::fs;
use std::path::Path;

use crate::client::Client;
use crate::lifecycle::files;
use crate::process::{Member, is_etcd};

/// A member with its log in a directory of its own, or (None) in the data directory.
fn place(member: &mut Member, wal_dir: Option<&Path>) {
    member.environment.clear();
    if let Some(wal_dir) = wal_dir {
        let path = wal_dir.to_str().expect("ours are UTF-8").to_owned();
        member.environment.push(("ETCD_WAL_DIR".to_owned(), path));
    }
}

/// Every byte of the data directory and of the log's, but for locks.
fn content(member: &Member, wal_dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = files(&member.data());
    all.extend(files(wal_dir));
    all
}

async fn put(member: &Member, key: &str) -> i64 {
    let mut client = Client::connect(member.client_port()).await;
    client.put(key, b"value".to_vec()).await
}

#[tokio::test]
async fn a_log_of_its_own_is_asked_for_again() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let wal_dir = directory.path().join("wal");
    let mut member = Member::new(directory.path());
    place(&mut member, Some(&wal_dir));
    member.start();
    assert_eq!(put(&member, "a").await, 2);
    member.kill();
    let holds = |text: &[u8]| {
        let in_wal = files(&wal_dir);
        in_wal
            .iter()
            .any(|(_, bytes)| bytes.windows(text.len()).any(|found| found == text))
    };
    assert!(holds(b"value"), "the log lies in {}", wal_dir.display());
    let (status, text) = member.check();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("1 log segments"), "it follows: {text}");

    let before = content(&member, &wal_dir);
    place(&mut member, None);
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("--wal-dir=") && log.contains("/wal"),
        "names it: {log}"
    );
    let elsewhere = directory.path().join("elsewhere");
    place(&mut member, Some(&elsewhere));
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("not in"), "{log}");
    assert!(!elsewhere.exists(), "nothing is made before a refusal");

    // The volume is not mounted: its mount point is empty.
    let away = directory.path().join("away");
    fs::rename(&wal_dir, &away).expect("it can be moved");
    fs::create_dir(&wal_dir).expect("a directory");
    place(&mut member, Some(&wal_dir));
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("is not here"), "{log}");
    let (status, text) = member.check();
    assert_eq!(status.code(), Some(2), "{text}");
    assert_eq!(files(&wal_dir), [], "something was written");
    fs::remove_dir(&wal_dir).expect("an empty directory");
    fs::rename(&away, &wal_dir).expect("it can be moved");
    assert_eq!(content(&member, &wal_dir), before, "something was written");

    member.start();
    assert_eq!(put(&member, "b").await, 3, "on the same log");
    // It is in use, whichever data directory asks.
    let other = tempfile::tempdir().expect("a temporary directory");
    let mut rival = Member::new(other.path());
    place(&mut rival, Some(&wal_dir));
    let (status, log) = rival.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("an empty --wal-dir"), "{log}");
}

#[tokio::test]
async fn a_log_in_the_data_directory_is_not_left() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let wal_dir = directory.path().join("wal");
    let mut member = Member::new(directory.path());
    member.start();
    assert_eq!(put(&member, "a").await, 2);
    member.kill();
    place(&mut member, Some(&wal_dir));
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("start without --wal-dir"), "{log}");
    assert!(!wal_dir.exists(), "nothing is made before a refusal");
    place(&mut member, None);
    member.start();
    assert_eq!(put(&member, "b").await, 3);
}
