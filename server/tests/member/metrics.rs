//! Exact numbers of contract 6 on a fresh member.

use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

use super::client::Client;
use super::running::{InProcess, PATIENCE, flags, free_port, until_listening};

async fn start(directory: &std::path::Path) -> (InProcess, Client) {
    let port = free_port();
    let member = InProcess::start(&flags(directory, &format!("http://127.0.0.1:{port}")));
    until_listening(port);
    (member, Client::tcp(port).await)
}

async fn put(client: &mut Client, key: &str, value: &str) {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    let answer: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
    answer.unwrap();
}

async fn value(client: &mut Client, series: &str) -> f64 {
    let (_, page) = client.get("/metrics").await;
    let line = page.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no series {series} in:\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn expect(client: &mut Client, expected: &[(&str, f64)]) {
    for (series, number) in expected {
        assert_eq!(value(client, series).await, *number, "{series}");
    }
}

#[tokio::test]
async fn a_fresh_member_counts_what_clients_do_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (member, mut client) = start(directory.path()).await;
    expect(
        &mut client,
        &[
            ("etcd_mvcc_put_total", 0.0),
            ("etcd_mvcc_delete_total", 0.0),
            ("etcd_mvcc_range_total", 0.0),
            ("etcd_mvcc_txn_total", 0.0),
            ("etcd_debugging_mvcc_keys_total", 0.0),
            ("etcd_debugging_mvcc_current_revision", 1.0),
            ("etcd_debugging_mvcc_compact_revision", -1.0),
            ("etcd_server_has_leader", 1.0),
            ("etcd_server_is_leader", 1.0),
            ("etcd_server_is_learner", 0.0),
            ("etcd_server_leader_changes_seen_total", 1.0),
            ("etcd_server_proposals_pending", 0.0),
            ("etcd_server_proposals_failed_total", 0.0),
            ("etcd_server_quota_backend_bytes", 2_147_483_648.0),
            ("etcd_server_version{server_version=\"3.7.3\"}", 1.0),
            ("etcd_cluster_version{cluster_version=\"3.7\"}", 1.0),
            (
                "etcd_server_feature_enabled{name=\"FastLeaseKeepAlive\",stage=\"BETA\"}",
                1.0,
            ),
        ],
    )
    .await;

    put(&mut client, "k", "42").await;
    put(&mut client, "k", "43").await;
    let range = RangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    let path = "/etcdserverpb.KV/Range";
    let answer: Result<RangeResponse, _> = client.unary(path, &range).await;
    answer.unwrap();
    expect(&mut client, &[
        ("etcd_mvcc_put_total", 2.0),
        ("etcd_mvcc_range_total", 1.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 6.0),
        ("etcd_debugging_mvcc_current_revision", 3.0),
        ("etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"}", 2.0),
        ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"Put\"}", 2.0),
        ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"}", 1.0),
        ("etcd_server_range_duration_seconds_count{success=\"true\"}", 1.0),
    ])
    .await;

    let delete = DeleteRangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    for _ in 0..3 {
        let path = "/etcdserverpb.KV/DeleteRange";
        let answer: Result<DeleteRangeResponse, _> = client.unary(path, &delete).await;
        answer.unwrap();
    }
    expect(
        &mut client,
        &[
            ("etcd_mvcc_delete_total", 3.0),
            ("etcd_debugging_mvcc_keys_total", 0.0),
            ("etcd_debugging_mvcc_current_revision", 4.0),
            ("etcd_mvcc_txn_total", 0.0),
        ],
    )
    .await;

    let compact = CompactionRequest {
        revision: 4,
        physical: true,
    };
    let path = "/etcdserverpb.KV/Compact";
    let answer: Result<CompactionResponse, _> = client.unary(path, &compact).await;
    answer.unwrap();
    expect(
        &mut client,
        &[
            ("etcd_debugging_mvcc_compact_revision", 4.0),
            ("etcd_debugging_mvcc_db_compaction_keys_total", 2.0),
            (
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
                1.0,
            ),
        ],
    )
    .await;
    let applied = value(&mut client, "etcd_server_proposals_applied_total").await;
    let committed = value(&mut client, "etcd_server_proposals_committed_total").await;
    assert_eq!(applied, committed);
    assert!(value(&mut client, "etcd_disk_wal_fsync_duration_seconds_count").await >= 6.0);
    assert!(value(&mut client, "etcd_disk_wal_write_bytes_total").await > 0.0);
    member.stop();
}

#[tokio::test]
async fn leases_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (member, mut client) = start(directory.path()).await;
    let grant = LeaseGrantRequest { ttl: 60, id: 7 };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let answer: Result<LeaseGrantResponse, _> = client.unary(path, &grant).await;
    answer.unwrap();
    let revoke = LeaseRevokeRequest { id: 7 };
    let path = "/etcdserverpb.Lease/LeaseRevoke";
    let answer: Result<LeaseRevokeResponse, _> = client.unary(path, &revoke).await;
    answer.unwrap();
    expect(
        &mut client,
        &[
            ("etcd_debugging_lease_granted_total", 1.0),
            ("etcd_debugging_lease_revoked_total", 1.0),
            ("etcd_debugging_lease_renewed_total", 0.0),
            ("etcd_debugging_server_lease_expired_total", 0.0),
            ("etcd_debugging_lease_ttl_total_sum", 60.0),
        ],
    )
    .await;
    member.stop();
}

#[tokio::test]
async fn watchers_are_counted_while_they_last() {
    let directory = tempfile::tempdir().unwrap();
    let (member, mut client) = start(directory.path()).await;
    let mut watch = client.stream("/etcdserverpb.Watch/Watch").await;
    let create = WatchCreateRequest {
        key: "k".into(),
        ..Default::default()
    };
    for _ in 0..2 {
        let create = RequestUnion::CreateRequest(create.clone());
        watch
            .send(&WatchRequest {
                request_union: Some(create),
            })
            .await;
        let created: WatchResponse = watch.next().await.unwrap();
        assert!(created.created);
    }
    put(&mut client, "k", "v").await;
    for _ in 0..2 {
        let response: WatchResponse = watch.next().await.unwrap();
        assert_eq!(response.events.len(), 1);
    }
    expect(
        &mut client,
        &[
            ("etcd_debugging_mvcc_watch_stream_total", 1.0),
            ("etcd_debugging_mvcc_watcher_total", 2.0),
            ("etcd_debugging_mvcc_slow_watcher_total", 0.0),
            ("etcd_debugging_mvcc_events_total", 2.0),
            ("etcd_debugging_mvcc_pending_events_total", 0.0),
        ],
    )
    .await;
    drop(watch);
    let canceled = "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",\
                    grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}";
    let began = std::time::Instant::now();
    while value(&mut client, "etcd_debugging_mvcc_watch_stream_total").await > 0.0 {
        assert!(began.elapsed() < PATIENCE, "the stream is counted for ever");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    expect(
        &mut client,
        &[("etcd_debugging_mvcc_watcher_total", 0.0), (canceled, 1.0)],
    )
    .await;
    member.stop();
}
