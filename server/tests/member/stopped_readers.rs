//! Readers that stand still while compaction passes what they read: after a grace they are
//! let go, so that what they held can go too. Nobody else notices.

use std::time::{Duration, Instant};

use kvproto::etcdserverpb::request_op::Request;
use kvproto::etcdserverpb::{
    CompactionRequest, CompactionResponse, PutRequest, RangeRequest, RangeResponse,
    RangeStreamResponse, StatusRequest, StatusResponse, TxnResponse,
};

use super::client::{Client, Refused};
use super::requests::{TXN, in_hundreds, op, txn};
use super::running::{InProcess, PATIENCE, flags, free_port, until_listening};

const RANGE: &str = "/etcdserverpb.KV/Range";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// More than a slice of keys, and 8 MiB of values: four times the window of a stream.
const KEYS: usize = 2_000;
const VALUE_BYTES: usize = 4_096;

/// Puts all keys; gives the last revision.
async fn put_all(client: &mut Client, filling: u8) -> i64 {
    let puts = (0..KEYS).map(|number| {
        op(Request::RequestPut(PutRequest {
            key: format!("k{number:05}").into(),
            value: vec![filling; VALUE_BYTES].into(),
            ..PutRequest::default()
        }))
    });
    let revisions = in_hundreds(client, puts.collect()).await;
    *revisions.last().unwrap()
}

fn all() -> RangeRequest {
    RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..RangeRequest::default()
    }
}

/// Waits until nothing is left to be purged.
async fn until_purged(client: &mut Client) {
    let began = Instant::now();
    loop {
        let status: StatusResponse = client.unary(STATUS, &StatusRequest {}).await.unwrap();
        // An empty file of etcd has 4 KiB that are not in use; so has a purged store here.
        if status.db_size - status.db_size_in_use <= 4 << 10 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "is never purged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_stands_still_behind_a_compaction_is_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let flags = flags(&directory.path().join("data"), &url);
    let grace = Duration::from_millis(200);
    let member = InProcess::start_changed(&flags, |config| config.reader_grace = grace);
    until_listening(port);
    let mut client = Client::tcp(port).await;
    put_all(&mut client, b'a').await;

    let mut stopped = Client::tcp(port).await;
    let list = stopped.open(RANGE, &all()).await;
    let mut stopped = Client::tcp(port).await;
    let stream = stopped.open(STREAM, &all()).await;
    let mut stopped = Client::tcp(port).await;
    let reads = txn(vec![op(Request::RequestRange(all()))]);
    let reads = stopped.open(TXN, &reads).await;

    let revision = put_all(&mut client, b'b').await;
    let compact = CompactionRequest {
        revision,
        physical: false,
    };
    let _: CompactionResponse = client.unary(COMPACT, &compact).await.unwrap();
    until_purged(&mut client).await;

    let gone = Refused(
        11,
        "etcdserver: mvcc: required revision has been compacted".to_owned(),
    );
    let list = list.finish::<RangeResponse>().await.unwrap();
    assert_eq!(list.unwrap_err(), gone);
    let stream = stream.finish::<RangeStreamResponse>().await.unwrap();
    assert_eq!(stream.unwrap_err(), gone);
    let reads = reads.finish::<TxnResponse>().await.unwrap();
    assert_eq!(reads.unwrap_err().0, 14);

    // A list of the present, at the same moment and on the same connection as one of them.
    let list: RangeResponse = stopped.unary(RANGE, &all()).await.unwrap();
    assert_eq!(list.kvs.len(), KEYS);
    assert!(list.kvs.iter().all(|kv| kv.value.first() == Some(&b'b')));
    put_all(&mut client, b'c').await;
    member.stop();
}
