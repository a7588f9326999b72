//! Keys at and above what 16 bits count (etcd has no limit but the request's): written,
//! read, deleted, and there after kill -9, from the log and from a checkpoint.

use std::time::Instant;

use kvproto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::client::{CALL_WITHIN, Client};
use crate::process::{Member, is_etcd};

const KEY_BYTES: [usize; 3] = [65_535, 65_536, 70_000];
/// What is put at once to have a checkpoint made, and how often at most: three times the
/// bytes of the log that make one due.
const FILL_BYTES: usize = 1 << 20;
const FILLS_MAX: usize = 192;

fn key(bytes: usize, last: u8) -> Vec<u8> {
    let mut key = vec![b'k'; bytes - 1];
    key.push(last);
    key
}

async fn put(client: &mut Client, bytes: usize, last: u8) {
    let request = PutRequest {
        key: key(bytes, last).into(),
        value: format!("{bytes}").into(),
        ..PutRequest::default()
    };
    client.kv.put(request).await.expect("a put");
}

async fn delete(client: &mut Client, bytes: usize, last: u8) {
    let request = DeleteRangeRequest {
        key: key(bytes, last).into(),
        ..DeleteRangeRequest::default()
    };
    let answer = client.kv.delete_range(request).await.expect("a deletion");
    assert_eq!(answer.into_inner().deleted, 1, "a key of {bytes} bytes");
}

/// Each length is there with the end `a`, and only with that.
async fn check(client: &mut Client) {
    for bytes in KEY_BYTES {
        let get = |key: Vec<u8>| RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        let answer = client.kv.range(get(key(bytes, b'a'))).await;
        let kvs = answer.expect("a range").into_inner().kvs;
        assert_eq!(kvs.len(), 1, "a key of {bytes} bytes");
        assert!(kvs[0].key == key(bytes, b'a'), "the key of {bytes} bytes");
        assert_eq!(kvs[0].value, format!("{bytes}"));
        let answer = client.kv.range(get(key(bytes, b'd'))).await;
        let kvs = answer.expect("a range").into_inner().kvs;
        assert!(kvs.is_empty(), "a deleted key of {bytes} bytes");
    }
    let range = RangeRequest {
        key: b"k".to_vec().into(),
        range_end: b"l".to_vec().into(),
        ..RangeRequest::default()
    };
    let answer = client.kv.range(range).await.expect("a range").into_inner();
    let lengths: Vec<usize> = answer.kvs.iter().map(|kv| kv.key.len()).collect();
    // A run of k sorts before a longer one only where an `a` ends it.
    assert_eq!(lengths, KEY_BYTES, "in the order of keys");
}

#[tokio::test]
async fn they_survive_the_log_and_a_checkpoint() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    for bytes in KEY_BYTES {
        put(&mut client, bytes, b'a').await;
        put(&mut client, bytes, b'd').await;
        delete(&mut client, bytes, b'd').await;
    }
    check(&mut client).await;
    member.kill();

    member.start();
    let mut client = Client::connect(member.client_port()).await;
    check(&mut client).await;
    let manifest = member.data().join("MANIFEST");
    let before = std::fs::read(&manifest).expect("a manifest");
    for number in 0..FILLS_MAX {
        if std::fs::read(&manifest).expect("a manifest") != before {
            break;
        }
        let value = vec![number as u8; FILL_BYTES];
        client.put("fill", value).await;
    }
    let began = Instant::now();
    while std::fs::read(&manifest).expect("a manifest") == before {
        assert!(began.elapsed() < CALL_WITHIN, "no checkpoint");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    member.kill();

    member.start();
    let mut client = Client::connect(member.client_port()).await;
    check(&mut client).await;
    for bytes in KEY_BYTES {
        delete(&mut client, bytes, b'a').await;
    }
    member.kill();
    let (status, text) = member.check();
    assert!(status.success(), "{text}");
}
