//! Answers at the edges of the contract, each as a running etcd 3.7.3 gave it.

use std::time::Duration;

use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

use super::client::{Client, Refused};
use super::running::{Process, flags, free_port, until_listening};

const STATUS: &str = "/etcdserverpb.Maintenance/Status";

async fn member(directory: &std::path::Path) -> (Process, Client) {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let flags = flags(&directory.join("data"), &url);
    let process = Process::start(&flags, &[], directory.join("log"));
    until_listening(port);
    (process, Client::tcp(port).await)
}

#[tokio::test]
async fn requests_that_name_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path()).await;
    let revoke = LeaseRevokeRequest { id: 0 };
    let path = "/etcdserverpb.Lease/LeaseRevoke";
    let answer: Result<LeaseRevokeResponse, _> = client.unary(path, &revoke).await;
    let text = "etcdserver: requested lease not found".to_owned();
    assert_eq!(answer.unwrap_err(), Refused(5, text));
    let lost = Refused(15, "etcdserver: corrupt cluster".to_owned());
    assert_eq!(set_corrupt(&mut client, 1).await, 1);
    let answer: Result<LeaseRevokeResponse, _> = client.unary(path, &revoke).await;
    assert_eq!(answer.unwrap_err(), lost, "the alarm is looked at first");
    assert_eq!(set_corrupt(&mut client, 2).await, 1);
    let hash = HashKvRequest { revision: -2 };
    let path = "/etcdserverpb.Maintenance/HashKV";
    let answer: HashKvResponse = client.unary(path, &hash).await.unwrap();
    let told = (answer.hash, answer.compact_revision, answer.hash_revision);
    assert_eq!(told, (1_084_519_789, -1, -2));
}

/// Raises (1) or disarms (2) the alarm; gives how many it changed.
async fn set_corrupt(client: &mut Client, action: i32) -> usize {
    let alarm = AlarmRequest {
        action,
        member_id: 1,
        alarm: 2,
    };
    let path = "/etcdserverpb.Maintenance/Alarm";
    let answer: AlarmResponse = client.unary(path, &alarm).await.unwrap();
    answer.alarms.len()
}

#[tokio::test]
async fn a_watch_with_two_faults_is_told_of_its_revision() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path()).await;
    let create = WatchCreateRequest {
        key: "b".into(),
        range_end: "a".into(),
        start_revision: -1,
        ..Default::default()
    };
    let watch = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut stream = client.stream("/etcdserverpb.Watch/Watch").await;
    stream.send(&watch).await;
    let refused: WatchResponse = stream.next().await.unwrap();
    assert!(refused.created && refused.canceled);
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refused.cancel_reason, reason);
}

#[tokio::test]
async fn status_of_an_empty_member_and_of_alarms() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path()).await;
    let empty: StatusResponse = client.unary(STATUS, &StatusRequest {}).await.unwrap();
    assert!(empty.db_size > 0 && empty.db_size_in_use > 0);
    assert_eq!(empty.errors, Vec::<String>::new());
    for member_id in [0, 5] {
        let activate = AlarmRequest {
            action: 1,
            member_id,
            alarm: 1,
        };
        let path = "/etcdserverpb.Maintenance/Alarm";
        let raised: AlarmResponse = client.unary(path, &activate).await.unwrap();
        assert_eq!(raised.alarms.len(), 1);
    }
    let alarmed: StatusResponse = client.unary(STATUS, &StatusRequest {}).await.unwrap();
    assert_eq!(
        alarmed.errors,
        ["alarm:NOSPACE", "memberID:5 alarm:NOSPACE"]
    );
}

/// The limit of 1,572,864 bytes is on etcd's entry: around a put with a key of
/// one byte there are 11 bytes of fields, and a header of 13 bytes, or 14 when
/// the request's id (its top bits are the member's low ones) takes a tenth byte.
#[tokio::test]
async fn the_largest_put() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path()).await;
    let status: StatusResponse = client.unary(STATUS, &StatusRequest {}).await.unwrap();
    let top_bit = status.header.unwrap().member_id & 1 << 15;
    let header = if top_bit == 0 { 13 } else { 14 };
    let largest = 1_572_864 - 11 - header;
    for (length, fits) in [(largest - 1, true), (largest, true), (largest + 1, false)] {
        let put = PutRequest {
            key: "k".into(),
            value: vec![b'v'; length].into(),
            ..Default::default()
        };
        let answer: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
        let text = "etcdserver: request is too large".to_owned();
        let refused = (!fits).then_some(Refused(3, text));
        assert_eq!(answer.err(), refused, "a value of {length} bytes");
    }
}

/// A keep-alive between the end of a lease and its revocation waits for that: what
/// it says has ended is gone.
#[tokio::test]
async fn a_lease_that_keep_alive_calls_ended_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path()).await;
    let grant = LeaseGrantRequest { ttl: 2, id: 77 };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let granted: LeaseGrantResponse = client.unary(path, &grant).await.unwrap();
    let put = PutRequest {
        key: "k".into(),
        lease: 77,
        ..Default::default()
    };
    let _: PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await.unwrap();
    let mut stream = client.stream("/etcdserverpb.Lease/LeaseKeepAlive").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stream.send(&LeaseKeepAliveRequest { id: 77 }).await;
    let ended: LeaseKeepAliveResponse = stream.next().await.unwrap();
    assert_eq!((granted.ttl, ended.id, ended.ttl), (2, 77, 0));
    let get = RangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    let left: RangeResponse = client.unary("/etcdserverpb.KV/Range", &get).await.unwrap();
    assert_eq!(left.count, 0);
}

/// etcd's single member is founded in term 1 and leads in term 2.
#[tokio::test]
async fn the_first_term_is_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut client) = member(directory.path()).await;
    let status: StatusResponse = client.unary(STATUS, &StatusRequest {}).await.unwrap();
    assert_eq!((status.raft_term, status.header.unwrap().raft_term), (2, 2));
}
