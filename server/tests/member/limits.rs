//! Limits over the wire: space (contract 1.13), operations and depth of transactions
//! (contract 1.7), retention (contract 8).

use std::path::Path;
use std::time::{Duration, Instant};

use kvproto::etcdserverpb::request_op::Request;
use kvproto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse,
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, StatusRequest, StatusResponse, TxnRequest,
    TxnResponse,
};

use super::client::{Client, Refused};
use super::requests::{TXN, op, txn};
use super::running::{PATIENCE, Process, flags, free_port, until_listening};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
const NOSPACE: i32 = 1;

async fn member(directory: &Path, more: &[&str]) -> (Process, Client) {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut flags = flags(&directory.join("data"), &url);
    flags.extend(more.iter().map(ToString::to_string));
    let process = Process::start(&flags, &[], directory.join("log"));
    until_listening(port);
    (process, Client::tcp(port).await)
}

async fn put(client: &mut Client, key: &str, value_bytes: usize) -> Result<i64, Refused> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; value_bytes].into(),
        ..Default::default()
    };
    let answer: PutResponse = client.unary(PUT, &request).await?;
    Ok(answer.header.unwrap().revision)
}

async fn get(client: &mut Client, key: &str, revision: i64) -> Result<RangeResponse, Refused> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        revision,
        ..Default::default()
    };
    client.unary(RANGE, &request).await
}

async fn alarm(client: &mut Client, action: i32, member_id: u64) -> Vec<AlarmMember> {
    let request = AlarmRequest {
        action,
        member_id,
        alarm: if action == 0 { 0 } else { NOSPACE },
    };
    let answer: AlarmResponse = client.unary(ALARM, &request).await.unwrap();
    answer.alarms
}

fn delete_op(key: &str) -> RequestOp {
    let delete = DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    op(Request::RequestDeleteRange(delete))
}

/// Fills a quota of 1 MiB; what frees space goes on, and once it has and the alarm is
/// disarmed, so do puts.
#[tokio::test]
async fn a_full_member_frees_space_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path(), &["--quota-backend-bytes=1048576"]).await;
    let refusal = Refused(8, "etcdserver: mvcc: database space exceeded".to_owned());
    let mut last = 0;
    let refused = loop {
        assert!(last < 64, "64 values of 64 KiB do not fit into 1 MiB");
        match put(&mut client, &format!("k{last}"), 64 << 10).await {
            Ok(revision) => last = revision,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, refusal);
    assert!(last > 8, "half of the quota could be used: {last}");

    let status = "/etcdserverpb.Maintenance/Status";
    let status: StatusResponse = client.unary(status, &StatusRequest {}).await.unwrap();
    let member_id = status.header.unwrap().member_id;
    let raised = AlarmMember {
        member_id,
        alarm: NOSPACE,
    };
    // It goes through the log, and may be there a moment after the refusal.
    let began = Instant::now();
    while alarm(&mut client, 0, 0).await != [raised] {
        assert!(began.elapsed() < PATIENCE, "no alarm");
    }
    assert_eq!(status.db_size_quota, 1_048_576);
    // However small: the alarm refuses it, not its cost.
    assert_eq!(put(&mut client, "small", 1).await, Err(refusal.clone()));
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let granted: Result<LeaseGrantResponse, _> = client.unary(path, &grant).await;
    assert_eq!(granted.unwrap_err(), refusal);

    assert_eq!(get(&mut client, "k0", 0).await.unwrap().count, 1);
    let delete_txn = txn(vec![delete_op("k0")]);
    let deleted: TxnResponse = client.unary(TXN, &delete_txn).await.unwrap();
    assert!(deleted.succeeded);
    let delete = DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let path = "/etcdserverpb.KV/DeleteRange";
    let deleted: DeleteRangeResponse = client.unary(path, &delete).await.unwrap();
    assert!(deleted.deleted > 7, "{deleted:?}");
    let compact = CompactionRequest {
        revision: deleted.header.unwrap().revision,
        physical: true,
    };
    let path = "/etcdserverpb.KV/Compact";
    let _: CompactionResponse = client.unary(path, &compact).await.unwrap();
    // The alarm stays until it is disarmed.
    assert_eq!(put(&mut client, "small", 1).await, Err(refusal));
    assert_eq!(alarm(&mut client, 2, member_id).await, [raised]);
    assert!(alarm(&mut client, 0, 0).await.is_empty());
    put(&mut client, "large", 512 << 10).await.unwrap();
}

#[tokio::test]
async fn a_transaction_has_128_operations() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path(), &[]).await;
    let text = "etcdserver: too many operations in txn request";
    let many = |count: usize| {
        (0..count)
            .map(|key| delete_op(&format!("k{key}")))
            .collect()
    };
    let answer: TxnResponse = client.unary(TXN, &txn(many(128))).await.unwrap();
    assert_eq!(answer.responses.len(), 128);
    let answer: Result<TxnResponse, _> = client.unary(TXN, &txn(many(129))).await;
    assert_eq!(answer.unwrap_err(), Refused(3, text.to_owned()));
    // A nested one has what its parent leaves.
    for (inside, fits) in [(127, true), (128, false)] {
        let nested = Request::RequestTxn(txn(many(inside)));
        let request = txn(vec![op(nested)]);
        let answer: Result<TxnResponse, _> = client.unary(TXN, &request).await;
        let refused = (!fits).then(|| Refused(3, text.to_owned()));
        assert_eq!(answer.err(), refused, "{inside} operations inside");
    }
}

/// Nothing that is nested takes the member down, however deep; what etcd takes is taken.
#[tokio::test]
async fn deep_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path(), &[]).await;
    let nested = |levels: usize| {
        (0..levels).fold(txn(vec![delete_op("k")]), |inner, _| {
            txn(vec![op(Request::RequestTxn(inner))])
        })
    };
    for levels in [1, 40] {
        let answer: TxnResponse = client.unary(TXN, &nested(levels)).await.unwrap();
        assert!(answer.succeeded, "{levels} levels");
    }
    // In the branch that is not taken: an answer as deep is more than prost decodes.
    for levels in [60, 126] {
        let inner = Request::RequestTxn(nested(levels));
        let outer = TxnRequest {
            failure: vec![op(inner)],
            ..TxnRequest::default()
        };
        let answer: TxnResponse = client.unary(TXN, &outer).await.unwrap();
        assert!(answer.succeeded, "{levels} levels");
    }
    for levels in [128, 129, 1_000] {
        let answer: Result<TxnResponse, _> = client.unary(TXN, &nested(levels)).await;
        assert!(answer.is_err(), "{levels} levels: {answer:?}");
    }
    put(&mut client, "k", 1).await.unwrap();
}

/// The periodic mode compacts to what was current a retention ago, and again after each.
#[tokio::test]
async fn old_revisions_go_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let more = [
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1s",
    ];
    let (_process, mut client) = member(directory.path(), &more).await;
    let gone = Refused(
        11,
        "etcdserver: mvcc: required revision has been compacted".to_owned(),
    );
    let began = Instant::now();
    for _ in 0..2 {
        let old = put(&mut client, "k", 1).await.unwrap();
        let newest = put(&mut client, "k", 2).await.unwrap();
        loop {
            match get(&mut client, "k", old).await {
                Ok(answer) => assert_eq!(answer.kvs[0].mod_revision, old),
                Err(refused) => break assert_eq!(refused, gone),
            }
            assert!(began.elapsed() < PATIENCE, "{old} is never compacted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(get(&mut client, "k", newest).await.unwrap().count, 1);
    }
}
