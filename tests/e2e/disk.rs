//! How much disk a member takes: below twice what is retained plus 256 MiB, without a
//! defragmentation, while everything is written over and compacted again and again.
//!
//! "Retained" is dbSizeInUse of Status: encoded key-values with 34 bytes each, history
//! that is not compacted included. Right after a compaction the disk still holds what was
//! retained before it, so it has [`FREED_WITHIN`] to follow.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kvproto::etcdserverpb::{CompactionRequest, StatusRequest};
use tokio::task::JoinSet;

use crate::campaign::from_environment;
use crate::client::Client;
use crate::process::{Member, is_etcd};

const VALUE_BYTES: usize = 1024;
const WRITERS: usize = 64;
const LARGE_VALUE_BYTES: usize = 1 << 20;
/// Rounds of overwriting one key and compacting: a GiB in all, three times what may stay.
const CHURN_ROUNDS: usize = 32;
const CHURN_PUTS: usize = 32;
const SLACK_BYTES: u64 = 256 << 20;
/// For a machine that is busy with builds; a quiet one needs a second or two.
const FREED_WITHIN: Duration = Duration::from_secs(120);

/// What the files under a path take on the disk, as `du` counts it.
fn used_bytes(path: &Path) -> u64 {
    // A file may go between two looks.
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    };
    entries
        .flatten()
        .map(|entry| used_bytes(&entry.path()))
        .sum()
}

/// Waits until the directory takes less than `bound`; what it takes then.
async fn freed(member: &Member, bound: u64) -> u64 {
    let began = Instant::now();
    loop {
        let used = used_bytes(&member.data());
        if used < bound {
            return used;
        }
        assert!(
            began.elapsed() < FREED_WITHIN,
            "{used} bytes on the disk, {bound} wanted"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn retained_bytes(client: &mut Client) -> u64 {
    let status = client.maintenance.status(StatusRequest::default()).await;
    let bytes = status.expect("a status").into_inner().db_size_in_use;
    u64::try_from(bytes).expect("a size")
}

/// Every key is put once, by writers side by side; the newest revision.
async fn write_all(client: &Client, keys: usize, round: usize) -> i64 {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            let mut newest = 0;
            for key in (writer..keys).step_by(WRITERS) {
                let byte = u8::try_from((key + round) % 251).expect("below 251");
                let key = format!("/registry/pods/default/{key:08}");
                newest = client.put(&key, vec![byte; VALUE_BYTES]).await;
            }
            newest
        });
    }
    let newest = writers.join_all().await.into_iter().max();
    newest.expect("there are writers")
}

/// Prints what is retained and what the disk holds before and after each compaction:
/// `cargo test --release -p server --test e2e -- --ignored --nocapture takes_less_disk`,
/// with DISK_KEYS (100,000) and DISK_ROUNDS (5).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes gigabytes"]
async fn a_store_that_is_compacted_takes_less_disk_than_twice_what_it_retains() {
    let number = |name, default| usize::try_from(from_environment(name, default)).expect("a size");
    let (keys, rounds) = (number("DISK_KEYS", 100_000), number("DISK_ROUNDS", 5));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    for round in 0..rounds {
        let newest = write_all(&client, keys, round).await;
        let (retained, used) = (
            retained_bytes(&mut client).await,
            used_bytes(&member.data()),
        );
        let mib = |bytes: u64| bytes >> 20;
        eprintln!(
            "round {round}: retained {} MiB, disk {} MiB",
            mib(retained),
            mib(used)
        );
        assert!(used < 2 * retained + SLACK_BYTES, "before the compaction");
        let request = CompactionRequest {
            revision: newest,
            ..CompactionRequest::default()
        };
        client.kv.compact(request).await.expect("a compaction");
        let began = Instant::now();
        let retained = retained_bytes(&mut client).await;
        let used = freed(&member, 2 * retained + SLACK_BYTES).await;
        eprintln!(
            "round {round}, compacted: retained {} MiB, disk {} MiB after {:?}",
            mib(retained),
            mib(used),
            began.elapsed()
        );
    }
}

/// Of each round one value stays, so that no segment of the log is without a live one.
#[tokio::test]
async fn overwrites_leave_the_disk_as_they_are_compacted() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    let mut retained = 0;
    for round in 0..CHURN_ROUNDS {
        client
            .put(&format!("kept{round}"), vec![1; LARGE_VALUE_BYTES])
            .await;
        retained += LARGE_VALUE_BYTES as u64;
        let mut revision = 0;
        for number in 0..CHURN_PUTS {
            revision = client
                .put("churn", vec![number as u8; LARGE_VALUE_BYTES])
                .await;
        }
        let compact = CompactionRequest {
            revision,
            physical: true,
        };
        client.kv.compact(compact).await.expect("a compaction");
    }
    retained += LARGE_VALUE_BYTES as u64;
    let bound = 2 * retained + SLACK_BYTES;
    let written = (CHURN_ROUNDS * (CHURN_PUTS + 1) * LARGE_VALUE_BYTES) as u64;
    assert!(written > 3 * bound, "or the bound would hold of itself");
    freed(&member, bound).await;
    member.kill();
    let (status, text) = member.check();
    assert!(status.success(), "{text}");
}
