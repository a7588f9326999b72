//! The table of all flags of etcd 3.7 (contract 4.2), one row each, under the headings of `--help`.
//!
//! Data only; what a row means stands in [`super::flags`]. Invariants: see there. Limits: none.

use super::flags::Class::{Accepted, Ignored, Meaningful, Refused};
use super::flags::Kind::{
    Boolean, Choice, Choices, Duration, Gates, List, Origins, Set, Signed, Text, Unsigned,
    Unsigned32, Urls,
};
use super::flags::{Flag, Kind, Section};

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    class: super::flags::Class,
    help: &'static str,
) -> Flag {
    Flag::new(name, kind, default, class, help)
}

const STAGES: &[&str] = &[
    "write-only",
    "write-only-skip-check",
    "write-only-drop-data",
    "gone",
];
const ROTATION: &str = concat!(
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "#,
    r#""localtime": false, "compress": false}"#
);

/// All flags. The default of `data-dir` follows from `name`.
pub static SECTIONS: &[Section] = &[
    Section {
        title: "Member",
        flags: MEMBER,
    },
    Section {
        title: "Clustering",
        flags: CLUSTERING,
    },
    Section {
        title: "Security",
        flags: SECURITY,
    },
    Section {
        title: "Auth",
        flags: AUTH,
    },
    Section {
        title: "Profiling and monitoring",
        flags: MONITORING,
    },
    Section {
        title: "Logging",
        flags: LOGGING,
    },
    Section {
        title: "Distributed tracing",
        flags: TRACING,
    },
    Section {
        title: "Features",
        flags: FEATURES,
    },
    Section {
        title: "Unsafe",
        flags: UNSAFE,
    },
    Section {
        title: "General",
        flags: GENERAL,
    },
    Section {
        title: "Ignored, as etcd ignores them",
        flags: IGNORED,
    },
];

#[rustfmt::skip]
static MEMBER: &[Flag] = &[
    flag("name", Text, "default", Meaningful, "The name of this member."),
    flag("data-dir", Text, "", Meaningful,
        "The directory of the data; empty means ./<name>.sternpost."),
    flag("wal-dir", Text, "", Meaningful,
        "A directory of its own for the Raft log; empty means in the data directory."),
    flag("snapshot-count", Unsigned, "10000", Accepted,
        "Checkpoints are paced by bytes, not by entries."),
    flag("heartbeat-interval", Unsigned, "100", Meaningful, "Milliseconds between heartbeats."),
    flag("election-timeout", Unsigned, "1000", Meaningful,
        "Milliseconds without a leader until an election."),
    flag("initial-election-tick-advance", Boolean, "true", Accepted,
        "A single member leads as soon as it has started."),
    flag("listen-peer-urls", Urls, "http://localhost:2380", Meaningful,
        "Where to listen for other members."),
    flag("listen-client-urls", Urls, "http://localhost:2379", Meaningful,
        "Where to listen for clients (gRPC, and HTTP unless --listen-client-http-urls is set)."),
    flag("listen-client-http-urls", Urls, "", Meaningful, "Where to listen for HTTP clients only."),
    flag("max-snapshots", Unsigned, "5", Accepted, "There are no snapshot files to keep."),
    flag("max-wals", Unsigned, "5", Accepted,
        "Segments of the log are kept as long as they are needed."),
    flag("memory-mlock", Boolean, "false", Accepted,
        "No file is mapped into memory that could be locked."),
    flag("quota-backend-bytes", Signed, "0", Meaningful,
        "Bytes in use from which on writes are refused; 0 is 2 GiB, negative is no limit."),
    flag("backend-bbolt-freelist-type", Text, "map", Accepted, "There is no bbolt file."),
    flag("backend-batch-interval", Duration, "100ms", Accepted, "There is no backend transaction."),
    flag("backend-batch-limit", Signed, "10000", Accepted, "There is no backend transaction."),
    flag("max-txn-ops", Unsigned, "128", Meaningful, "Operations allowed in one transaction."),
    flag("max-request-bytes", Unsigned, "1572864", Meaningful,
        "The largest client request in bytes."),
    flag("max-concurrent-streams", Unsigned32, "4294967295", Meaningful,
        "Streams one client connection may open."),
    flag("grpc-keepalive-min-time", Duration, "5s", Accepted,
        "Pings are answered, however often they come."),
    flag("grpc-keepalive-interval", Duration, "2h", Meaningful,
        "How often the server pings (0s: never)."),
    flag("grpc-keepalive-timeout", Duration, "20s", Meaningful,
        "How long a ping may stay unanswered (0s: for ever)."),
    flag("socket-reuse-port", Boolean, "false", Meaningful, "Set SO_REUSEPORT on listeners."),
    flag("socket-reuse-address", Boolean, "false", Meaningful, "Set SO_REUSEADDR on listeners."),
    flag("enable-grpc-gateway", Boolean, "true", Accepted, "The JSON API is not built yet."),
    flag("raft-read-timeout", Duration, "5s", Accepted,
        "Connections of members have timeouts of their own."),
    flag("raft-write-timeout", Duration, "5s", Accepted,
        "Connections of members have timeouts of their own."),
    flag("feature-gates", Gates, "", Meaningful, "Pairs name=true|false, divided by commas:"),
];

#[rustfmt::skip]
static CLUSTERING: &[Flag] = &[
    flag("initial-advertise-peer-urls", Urls, "http://localhost:2380", Meaningful,
        "Peer URLs told to the other members."),
    flag("initial-cluster", Text, "default=http://localhost:2380", Meaningful,
        "The members of a new cluster: name=url,name=url."),
    flag("initial-cluster-state", Choice(&["new", "existing"]), "new", Meaningful,
        "Found a cluster or join one."),
    flag("initial-cluster-token", Text, "etcd-cluster", Meaningful,
        "A word that keeps clusters apart."),
    flag("advertise-client-urls", Urls, "http://localhost:2379", Meaningful,
        "Client URLs published in the member list."),
    flag("discovery-token", Text, "", Refused, "Discovery is not built yet."),
    flag("discovery-endpoints", Set, "", Refused, "Discovery is not built yet."),
    flag("discovery-dial-timeout", Duration, "2s", Accepted, "Discovery is not built yet."),
    flag("discovery-request-timeout", Duration, "5s", Accepted, "Discovery is not built yet."),
    flag("discovery-keepalive-time", Duration, "2s", Accepted, "Discovery is not built yet."),
    flag("discovery-keepalive-timeout", Duration, "6s", Accepted, "Discovery is not built yet."),
    flag("discovery-insecure-transport", Boolean, "true", Accepted, "Discovery is not built yet."),
    flag("discovery-insecure-skip-tls-verify", Boolean, "false", Accepted,
        "Discovery is not built yet."),
    flag("discovery-cert", Text, "", Accepted, "Discovery is not built yet."),
    flag("discovery-key", Text, "", Accepted, "Discovery is not built yet."),
    flag("discovery-cacert", Text, "", Accepted, "Discovery is not built yet."),
    flag("discovery-user", Text, "", Accepted, "Discovery is not built yet."),
    flag("discovery-password", Text, "", Accepted, "Discovery is not built yet."),
    flag("discovery-fallback", Choice(&["exit", "proxy"]), "exit", Accepted,
        "Discovery is not built yet."),
    flag("discovery-srv", Text, "", Refused, "Discovery is not built yet."),
    flag("discovery-srv-name", Text, "", Refused, "Discovery is not built yet."),
    flag("strict-reconfig-check", Boolean, "true", Accepted,
        "Changes of members are not built yet."),
    flag("pre-vote", Boolean, "true", Accepted, "Always on."),
    flag("auto-compaction-retention", Text, "0", Meaningful,
        "History to keep: hours or a duration, or revisions; 0 is off."),
    flag("auto-compaction-mode", Text, "periodic", Meaningful,
        "How retention is meant: periodic or revision."),
    flag("v2-deprecation", Choices(STAGES), "", Accepted, "There is no v2 store."),
];

#[rustfmt::skip]
static SECURITY: &[Flag] = &[
    flag("cert-file", Text, "", Meaningful, "The certificate shown to clients."),
    flag("key-file", Text, "", Meaningful, "Its key."),
    flag("client-cert-auth", Boolean, "false", Meaningful, "Demand certificates from clients."),
    flag("client-cert-file", Text, "", Accepted,
        "This member is nobody's client: the JSON API is not built yet."),
    flag("client-key-file", Text, "", Accepted,
        "This member is nobody's client: the JSON API is not built yet."),
    flag("client-crl-file", Text, "", Meaningful, "Client certificates that are revoked."),
    flag("client-cert-allowed-hostname", List, "", Meaningful,
        "Host names one of which a client certificate must carry."),
    flag("trusted-ca-file", Text, "", Meaningful,
        "The authorities client certificates are checked against."),
    flag("auto-tls", Boolean, "false", Meaningful,
        "Serve clients with a certificate of our own making."),
    flag("peer-cert-file", Text, "", Meaningful, "The certificate shown to members."),
    flag("peer-key-file", Text, "", Meaningful, "Its key."),
    flag("peer-client-cert-auth", Boolean, "false", Meaningful,
        "Demand certificates from members."),
    flag("peer-client-cert-file", Text, "", Accepted,
        "Connections to other members are not built yet."),
    flag("peer-client-key-file", Text, "", Accepted,
        "Connections to other members are not built yet."),
    flag("peer-trusted-ca-file", Text, "", Meaningful,
        "The authorities members' certificates are checked against."),
    flag("peer-cert-allowed-cn", List, "", Meaningful,
        "Common names one of which a member's certificate must carry."),
    flag("peer-cert-allowed-hostname", List, "", Meaningful,
        "Host names one of which a member's certificate must carry."),
    flag("peer-auto-tls", Boolean, "false", Meaningful,
        "Serve members with a certificate of our own making."),
    flag("self-signed-cert-validity", Unsigned, "1", Meaningful,
        "Years a certificate of our own making is valid."),
    flag("peer-crl-file", Text, "", Meaningful, "Members' certificates that are revoked."),
    flag("cipher-suites", List, "", Meaningful,
        "TLS cipher suites by their Go names; empty leaves the choice to the library."),
    flag("cors", Origins, "*", Meaningful, "Origins allowed by CORS (empty or *: all)."),
    flag("host-whitelist", Set, "*", Meaningful,
        "Host names accepted in HTTP requests without TLS (empty or *: all)."),
    flag("tls-min-version", Text, "TLS1.2", Meaningful,
        "The oldest TLS version: TLS1.2 or TLS1.3."),
    flag("tls-max-version", Text, "", Meaningful,
        "The newest TLS version: TLS1.2 or TLS1.3 (empty: the newest there is)."),
];

#[rustfmt::skip]
static AUTH: &[Flag] = &[
    flag("auth-token", Text, "simple", Accepted, "Authentication is not built yet."),
    flag("bcrypt-cost", Unsigned, "10", Accepted, "Authentication is not built yet."),
    flag("auth-token-ttl", Unsigned, "300", Accepted, "Authentication is not built yet."),
];

#[rustfmt::skip]
static MONITORING: &[Flag] = &[
    flag("enable-pprof", Boolean, "false", Accepted, "There is no Go profiler here."),
    flag("metrics", Text, "basic", Meaningful,
        "basic, or extensive for histograms of gRPC handling time."),
    flag("listen-metrics-urls", Urls, "", Meaningful,
        "Where to serve /metrics and health, without client certificates."),
];

#[rustfmt::skip]
static LOGGING: &[Flag] = &[
    flag("logger", Text, "zap", Meaningful, "Only zap (the format of the lines)."),
    flag("log-outputs", Set, "default", Meaningful,
        "stderr (default), stdout, systemd/journal or files, divided by commas."),
    flag("log-level", Text, "info", Meaningful,
        "debug, info, warn, error, dpanic, panic or fatal."),
    flag("log-format", Text, "json", Meaningful, "json or console."),
    flag("enable-log-rotation", Boolean, "false", Meaningful,
        "Rotate the one file of --log-outputs."),
    flag("log-rotation-config-json", Text, ROTATION, Meaningful,
        "Size (MiB), age (days) and number of rotated files."),
    flag("warning-unary-request-duration", Duration, "300ms", Meaningful,
        "Unary requests that take longer are logged."),
];

#[rustfmt::skip]
static TRACING: &[Flag] = &[
    flag("enable-distributed-tracing", Boolean, "false", Accepted,
        "OpenTelemetry is not built in."),
    flag("distributed-tracing-address", Text, "localhost:4317", Accepted,
        "OpenTelemetry is not built in."),
    flag("distributed-tracing-service-name", Text, "etcd", Accepted,
        "OpenTelemetry is not built in."),
    flag("distributed-tracing-instance-id", Text, "", Accepted, "OpenTelemetry is not built in."),
    flag("distributed-tracing-sampling-rate", Signed, "0", Accepted,
        "OpenTelemetry is not built in."),
];

#[rustfmt::skip]
static FEATURES: &[Flag] = &[
    flag("corrupt-check-time", Duration, "0s", Accepted,
        "There is no other member to compare with yet."),
    flag("compact-hash-check-time", Duration, "1m", Accepted,
        "There is no other member to compare with yet."),
    flag("compaction-batch-limit", Signed, "1000", Accepted,
        "Compaction works in slices of its own."),
    flag("peer-skip-client-san-verification", Boolean, "false", Accepted,
        "Connections to other members are not built yet."),
    flag("watch-progress-notify-interval", Duration, "10m", Meaningful,
        "How often idle watches are told the revision."),
    flag("warning-apply-duration", Duration, "100ms", Meaningful,
        "Applies that take longer are logged."),
    flag("bootstrap-defrag-threshold-megabytes", Unsigned, "0", Accepted,
        "There is nothing to defragment."),
    flag("max-learners", Signed, "1", Accepted, "Changes of members are not built yet."),
    flag("compaction-sleep-interval", Duration, "10ms", Accepted,
        "Compaction works in slices of its own."),
    flag("downgrade-check-time", Duration, "5s", Accepted,
        "There is no older version to go back to."),
    flag("snapshot-catchup-entries", Unsigned, "5000", Accepted,
        "The log keeps what its segments hold."),
];

#[rustfmt::skip]
static UNSAFE: &[Flag] = &[
    flag("force-new-cluster", Boolean, "false", Accepted,
        "There are no other members to forget yet."),
    flag("unsafe-no-fsync", Boolean, "false", Accepted,
        "Not built: every acknowledged write is on the disk."),
];

#[rustfmt::skip]
static GENERAL: &[Flag] = &[
    flag("config-file", Text, "", Meaningful,
        "A YAML or JSON file; then all other flags and variables are ignored."),
    flag("version", Boolean, "false", Meaningful, "Print the versions and exit."),
];

#[rustfmt::skip]
static IGNORED: &[Flag] = &[
    flag("cluster-active-size", Kind::Ignored, "", Ignored, "Ignored."),
    flag("cluster-remove-delay", Kind::Ignored, "", Ignored, "Ignored."),
    flag("cluster-sync-interval", Kind::Ignored, "", Ignored, "Ignored."),
    flag("config", Kind::Ignored, "", Ignored, "Ignored."),
    flag("force", Kind::Ignored, "", Ignored, "Ignored."),
    flag("max-result-buffer", Kind::Ignored, "", Ignored, "Ignored."),
    flag("max-retry-attempts", Kind::Ignored, "", Ignored, "Ignored."),
    flag("peer-heartbeat-interval", Kind::Ignored, "", Ignored, "Ignored."),
    flag("peer-election-timeout", Kind::Ignored, "", Ignored, "Ignored."),
    flag("retry-interval", Kind::Ignored, "", Ignored, "Ignored."),
    flag("snapshot", Kind::Ignored, "", Ignored, "Ignored."),
    flag("v", Kind::Ignored, "", Ignored, "Ignored."),
    flag("vv", Kind::Ignored, "", Ignored, "Ignored."),
    flag("test.coverprofile", Kind::Ignored, "", Ignored, "Ignored."),
    flag("test.outputdir", Kind::Ignored, "", Ignored, "Ignored."),
];
