//! Start and end: SIGTERM, one process per directory, directories that are not ours, and a
//! log with a damaged byte.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::campaign::Campaign;
use crate::client::Client;
use crate::process::{Member, is_etcd};

/// What a supervisor may count on between SIGTERM and the end.
const TERMINATES_WITHIN: Duration = Duration::from_secs(5);
/// SIGTERM: the process dies of the signal, as etcd does.
const SIGTERM: i32 = 15;

/// etcd waits longer for clients that hold streams open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_in_time_and_loses_nothing() {
    if is_etcd() {
        return;
    }
    let mut campaign = Campaign::new();
    for _ in 0..3 {
        campaign.start().await;
        campaign.load().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        campaign.recorder.announce_end(true);
        let status = campaign.member.terminate(TERMINATES_WITHIN);
        assert_eq!(status.signal(), Some(SIGTERM), "{status}");
        campaign.join().await;
    }
    campaign.start().await;
    campaign.kill().await;
}

/// etcd waits for the lock instead.
#[tokio::test]
async fn a_second_process_on_a_directory_is_refused() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let other = tempfile::tempdir().expect("a temporary directory");
    let (status, log) = member.rival(other.path()).start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("LOCK"), "names the file: {log}");
    assert!(log.contains("another process"), "names the cause: {log}");
    let (status, text) = member.rival(other.path()).check();
    assert_eq!(
        status.code(),
        Some(2),
        "no verdict on a directory in use: {text}"
    );
    let mut client = Client::connect(member.client_port()).await;
    assert_eq!(client.put("key", b"value".to_vec()).await, 2);
}

#[test]
fn the_directory_of_etcd_is_refused_and_left_alone() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    let data = member.data();
    fs::create_dir_all(data.join("member/snap")).expect("a directory");
    fs::create_dir_all(data.join("member/wal")).expect("a directory");
    fs::write(data.join("member/snap/db"), b"etcd's").expect("a file");
    let before = files(&data);
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("data directory of etcd"), "{log}");
    assert_eq!(files(&data), before, "something was written");
}

#[test]
fn a_directory_of_unknown_files_is_refused_and_left_alone() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    fs::create_dir_all(member.data()).expect("a directory");
    fs::write(member.data().join("thesis.txt"), b"years of work").expect("a file");
    let before = files(&member.data());
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("thesis.txt"), "names the file: {log}");
    assert_eq!(files(&member.data()), before, "something was written");
}

/// A byte of an early value is flipped on disk, wherever the member keeps it; later writes
/// prove that it was synced, so it is no torn tail.
#[tokio::test]
async fn a_damaged_log_is_refused_with_file_and_offset() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    for number in 0..100 {
        let value = format!("the value with the number {number:03}");
        client
            .put(&format!("key/{number:03}"), value.into_bytes())
            .await;
    }
    member.kill();
    let (path, offset) = flip(&member.data(), b"the value with the number 007");
    let (status, text) = member.check();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains(": offset ") && text.contains("DAMAGED"),
        "{text}"
    );
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(log.contains(name), "flipped {path:?} at {offset}: {log}");
    assert!(log.contains("offset "), "names the offset: {log}");
}

/// Flips one bit of the first place where `text` stands in a file below `directory`.
fn flip(directory: &Path, text: &[u8]) -> (PathBuf, usize) {
    for (path, mut content) in files(directory) {
        let found = content
            .windows(text.len())
            .position(|window| window == text);
        if let Some(offset) = found {
            *content.get_mut(offset).expect("it was found there") ^= 1;
            fs::write(&path, content).expect("the file can be written");
            return (path, offset);
        }
    }
    panic!("the value is in no file below {}", directory.display());
}

/// Every file below a directory with its content.
pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).expect("a readable file");
            found.push((path, content));
        }
    }
    found.sort();
    found
}
