//! The metrics without labels: field, etcd's name, etcd's help text, and buckets where it has any.
//!
//! Taken from what etcd 3.7.3 answers; `tests.rs` compares.

use super::number::{Counter, Gauge, Histogram};
use super::text::Page;

macro_rules! catalogue {
    ($(
        $field:ident: $kind:ident $(($start:literal, $count:literal))? = $name:literal,
        $help:literal;
    )*) => {
        /// Every metric without labels. Each field says what it counts.
        #[derive(Debug)]
        pub struct MemberMetrics {
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $kind,)*
            /// `etcd_server_range_duration_seconds`: of successful ranges.
            pub range_duration: Histogram,
            /// The same of those that were refused.
            pub refused_range_duration: Histogram,
        }

        impl MemberMetrics {
            pub(super) fn new() -> MemberMetrics {
                MemberMetrics {
                    $($field: catalogue!(@new $kind $($start, $count)?),)*
                    range_duration: Histogram::doubling(0.0001, 20),
                    refused_range_duration: Histogram::doubling(0.0001, 20),
                }
            }

            pub(super) fn write(&self, page: &mut Page) {
                $(self.$field.write(page, $name, $help);)*
            }
        }
    };
    (@new Histogram $start:literal, $count:literal) => { Histogram::doubling($start, $count) };
    (@new $kind:ident) => { $kind::default() };
}

catalogue! {
    auth_revision: Gauge = "etcd_debugging_auth_revision",
        "The current revision of auth store.";
    leases_granted: Counter = "etcd_debugging_lease_granted_total",
        "The total number of granted leases.";
    leases_renewed: Counter = "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.";
    leases_revoked: Counter = "etcd_debugging_lease_revoked_total",
        "The total number of revoked leases.";
    lease_ttl: Histogram(1.0, 24) = "etcd_debugging_lease_ttl_total",
        "Bucketed histogram of lease TTLs.";
    compact_revision: Gauge = "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.";
    current_revision: Gauge = "etcd_debugging_mvcc_current_revision",
        "The current revision of store.";
    db_compaction_keys: Counter = "etcd_debugging_mvcc_db_compaction_keys_total",
        "Total number of db keys compacted.";
    db_compaction_last: Gauge = "etcd_debugging_mvcc_db_compaction_last",
        "The unix time of the last db compaction. Resets to 0 on start.";
    db_compaction_pause_duration: Histogram(1.0, 13) = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.";
    db_compaction_total_duration: Histogram(100.0, 14) = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.";
    events: Counter = "etcd_debugging_mvcc_events_total",
        "Total number of events sent by this member.";
    index_compaction_pause_duration: Histogram(0.5, 14) = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Bucketed histogram of index compaction pause duration.";
    keys: Gauge = "etcd_debugging_mvcc_keys_total",
        "Total number of keys.";
    pending_events: Gauge = "etcd_debugging_mvcc_pending_events_total",
        "Total number of pending events to be sent.";
    slow_watchers: Gauge = "etcd_debugging_mvcc_slow_watcher_total",
        "Total number of unsynced slow watchers.";
    total_put_size: Gauge = "etcd_debugging_mvcc_total_put_size_in_bytes",
        "The total size of put kv pairs seen by this member.";
    watch_streams: Gauge = "etcd_debugging_mvcc_watch_stream_total",
        "Total number of watch streams.";
    watchers: Gauge = "etcd_debugging_mvcc_watcher_total",
        "Total number of watchers.";
    leases_expired: Counter = "etcd_debugging_server_lease_expired_total",
        "The total number of expired leases.";
    watch_loop_control_duration: Histogram(0.001, 14) = "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        "The total duration in seconds of running through the send loop control stream response.";
    watch_loop_progress_duration: Histogram(0.001, 14) = "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        "The total duration in seconds of running through the progress loop control stream response.";
    watch_loop_per_event_duration: Histogram(0.001, 14) = "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "The average duration in seconds of running through the send loop watch stream response, per event.";
    watch_loop_stream_duration: Histogram(0.001, 14) = "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        "The total duration in seconds of running through the send loop watch stream response all events.";
    backend_commit_duration: Histogram(0.001, 14) = "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.";
    backend_defrag_duration: Histogram(0.1, 13) = "etcd_disk_backend_defrag_duration_seconds",
        "The latency distribution of backend defragmentation.";
    backend_snapshot_duration: Histogram(0.01, 17) = "etcd_disk_backend_snapshot_duration_seconds",
        "The latency distribution of backend snapshots.";
    defrag_inflight: Gauge = "etcd_disk_defrag_inflight",
        "Whether or not defrag is active on the member. 1 means active, 0 means not.";
    wal_fsync_duration: Histogram(0.001, 14) = "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.";
    wal_write_bytes: Gauge = "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.";
    wal_write_duration: Histogram(0.001, 14) = "etcd_disk_wal_write_duration_seconds",
        "The latency distributions of write called by WAL.";
    db_open_read_transactions: Gauge = "etcd_mvcc_db_open_read_transactions",
        "The number of currently open read transactions";
    db_total_size: Gauge = "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.";
    db_total_size_in_use: Gauge = "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.";
    deletes: Counter = "etcd_mvcc_delete_total",
        "Total number of deletes seen by this member.";
    hash_duration: Histogram(0.01, 15) = "etcd_mvcc_hash_duration_seconds",
        "The latency distribution of storage hash operation.";
    hash_rev_duration: Histogram(0.01, 15) = "etcd_mvcc_hash_rev_duration_seconds",
        "The latency distribution of storage hash by revision operation.";
    puts: Counter = "etcd_mvcc_put_total",
        "Total number of puts seen by this member.";
    ranges: Counter = "etcd_mvcc_range_total",
        "Total number of ranges seen by this member.";
    txns: Counter = "etcd_mvcc_txn_total",
        "Total number of txns seen by this member.";
    grpc_received_bytes: Counter = "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.";
    grpc_sent_bytes: Counter = "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.";
    has_leader: Gauge = "etcd_server_has_leader",
        "Whether or not a leader exists. 1 is existence, 0 is not.";
    health_failures: Counter = "etcd_server_health_failures",
        "The total number of failed health checks";
    health_success: Counter = "etcd_server_health_success",
        "The total number of successful health checks";
    heartbeat_send_failures: Counter = "etcd_server_heartbeat_send_failures_total",
        "The total number of leader heartbeat send failures (likely overloaded from slow disk).";
    is_leader: Gauge = "etcd_server_is_leader",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.";
    is_learner: Gauge = "etcd_server_is_learner",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.";
    leader_changes_seen: Counter = "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.";
    learner_promote_successes: Counter = "etcd_server_learner_promote_successes",
        "The total number of successful learner promotions while this member is leader.";
    proposals_applied: Gauge = "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.";
    proposals_committed: Gauge = "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.";
    proposals_failed: Counter = "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen.";
    proposals_pending: Gauge = "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.";
    quota_backend_bytes: Gauge = "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.";
    read_indexes_failed: Counter = "etcd_server_read_indexes_failed_total",
        "The total number of failed read indexes seen.";
    slow_apply: Counter = "etcd_server_slow_apply_total",
        "The total number of slow apply requests (likely overloaded from slow disk).";
    slow_read_indexes: Counter = "etcd_server_slow_read_indexes_total",
        "The total number of pending read indexes not in sync with leader's or timed out read index requests.";
    snapshot_apply_in_progress: Gauge = "etcd_server_snapshot_apply_in_progress_total",
        "1 if the server is applying the incoming snapshot. 0 if none.";
}
