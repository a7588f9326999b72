//! What a data directory takes on the disk: below twice what is retained plus 256 MiB,
//! whatever was written before, and nobody defragments anything.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kvproto::etcdserverpb::CompactionRequest;

use crate::client::{CALL_WITHIN, Client};
use crate::process::{Member, is_etcd};

const VALUE_BYTES: usize = 1 << 20;
/// Rounds of overwriting one key and compacting: a GiB in all, three times what may stay.
const ROUNDS: usize = 32;
const PUTS: usize = 32;
/// Of each round one value stays, so that no segment of the log is without a live one.
const FREE_BYTES: u64 = 256 << 20;

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
    for round in 0..ROUNDS {
        client
            .put(&format!("kept{round}"), vec![1; VALUE_BYTES])
            .await;
        retained += VALUE_BYTES as u64;
        let mut revision = 0;
        for number in 0..PUTS {
            revision = client.put("churn", vec![number as u8; VALUE_BYTES]).await;
        }
        let compact = CompactionRequest {
            revision,
            physical: true,
        };
        client.kv.compact(compact).await.expect("a compaction");
    }
    retained += VALUE_BYTES as u64;
    let bound = 2 * retained + FREE_BYTES;
    let written = (ROUNDS * (PUTS + 1) * VALUE_BYTES) as u64;
    assert!(written > 3 * bound, "or the bound would hold of itself");
    let began = Instant::now();
    while disk_bytes(&member.data()) > bound {
        let found = disk_bytes(&member.data());
        assert!(began.elapsed() < CALL_WITHIN, "{found} bytes over {bound}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    member.kill();
    let (status, text) = member.check();
    assert!(status.success(), "{text}");
}

/// What all files below a directory take (the journal of the checkpoint store is longer than
/// that); one that goes meanwhile counts nothing.
fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => 512 * metadata.blocks(),
        Err(_) => 0,
    });
    sizes.sum()
}
