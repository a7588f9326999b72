//! The table of flags against the help text of a real etcd 3.7.3.

use super::flags::{Class, Kind, all, find};
use super::value::{default_value, parse};
use super::*;

/// Every flag of the help text of etcd 3.7.3 with its default there, written down by hand, but for
/// `discovery` and `discovery-proxy`, which stand in the text and are refused as unknown.
const HELP_OF_ETCD: &str = "name=default data-dir=${name}.etcd wal-dir= snapshot-count=10000 \
    heartbeat-interval=100 election-timeout=1000 initial-election-tick-advance=true \
    listen-peer-urls=http://localhost:2380 listen-client-urls=http://localhost:2379 \
    listen-client-http-urls= max-snapshots=5 max-wals=5 memory-mlock=false quota-backend-bytes=0 \
    backend-bbolt-freelist-type=map backend-batch-interval=100ms backend-batch-limit=10000 \
    max-txn-ops=128 max-request-bytes=1572864 max-concurrent-streams=4294967295 \
    grpc-keepalive-min-time=5s grpc-keepalive-interval=2h grpc-keepalive-timeout=20s \
    socket-reuse-port=false socket-reuse-address=false enable-grpc-gateway=true \
    raft-read-timeout=5s raft-write-timeout=5s feature-gates= \
    initial-advertise-peer-urls=http://localhost:2380 \
    initial-cluster=default=http://localhost:2380 initial-cluster-state=new \
    initial-cluster-token=etcd-cluster advertise-client-urls=http://localhost:2379 \
    discovery-token= discovery-endpoints= discovery-dial-timeout=2s discovery-request-timeout=5s \
    discovery-keepalive-time=2s discovery-keepalive-timeout=6s discovery-insecure-transport=true \
    discovery-insecure-skip-tls-verify=false discovery-cert= discovery-key= discovery-cacert= \
    discovery-user= discovery-password= discovery-fallback=exit discovery-srv= \
    discovery-srv-name= strict-reconfig-check=true pre-vote=true auto-compaction-retention=0 \
    auto-compaction-mode=periodic v2-deprecation= cert-file= key-file= client-cert-auth=false \
    client-cert-file= client-key-file= client-crl-file= client-cert-allowed-hostname= \
    trusted-ca-file= auto-tls=false peer-cert-file= peer-key-file= peer-client-cert-auth=false \
    peer-client-cert-file= peer-client-key-file= peer-trusted-ca-file= peer-cert-allowed-cn= \
    peer-cert-allowed-hostname= peer-auto-tls=false self-signed-cert-validity=1 peer-crl-file= \
    cipher-suites= cors=* host-whitelist=* tls-min-version=TLS1.2 tls-max-version= \
    auth-token=simple bcrypt-cost=10 auth-token-ttl=300 enable-pprof=false metrics=basic \
    listen-metrics-urls= logger=zap log-outputs=default log-level=info log-format=json \
    enable-log-rotation=false log-rotation-config-json={...} warning-unary-request-duration=300ms \
    enable-distributed-tracing=false distributed-tracing-address=localhost:4317 \
    distributed-tracing-service-name=etcd distributed-tracing-instance-id= \
    distributed-tracing-sampling-rate=0 corrupt-check-time=0s compact-hash-check-time=1m \
    compaction-batch-limit=1000 peer-skip-client-san-verification=false \
    watch-progress-notify-interval=10m warning-apply-duration=100ms \
    bootstrap-defrag-threshold-megabytes=0 max-learners=1 compaction-sleep-interval=10ms \
    downgrade-check-time=5s snapshot-catchup-entries=5000 force-new-cluster=false \
    unsafe-no-fsync=false config-file= version=false";

const IGNORED_BY_ETCD: &str = "cluster-active-size cluster-remove-delay cluster-sync-interval \
    config force max-result-buffer max-retry-attempts peer-heartbeat-interval \
    peer-election-timeout retry-interval snapshot v vv test.coverprofile test.outputdir";

#[test]
fn the_table_is_the_help_of_etcd() {
    let mut expected: Vec<&str> = HELP_OF_ETCD
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap().0)
        .chain(IGNORED_BY_ETCD.split_whitespace())
        .collect();
    let mut names: Vec<&str> = all().map(|flag| flag.name).collect();
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected);
    for (name, default) in HELP_OF_ETCD
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
    {
        let flag = find(name).unwrap();
        if !matches!(name, "data-dir" | "log-rotation-config-json") {
            assert_eq!(flag.default, default, "{name}");
        }
    }
}

#[test]
fn every_default_is_legal_and_every_flag_has_a_help_line() {
    let help = flag_help();
    for flag in all() {
        default_value(flag);
        if !flag.default.is_empty() {
            assert!(parse(flag.kind, flag.default).is_ok(), "{}", flag.name);
        }
        let start = format!("\n  --{}", flag.name);
        assert!(
            help.contains(&format!("{start} ")) || help.contains(&format!("{start}\n")),
            "{}",
            flag.name
        );
        assert_eq!(
            flag.kind == Kind::Ignored,
            IGNORED_BY_ETCD.split(' ').any(|n| n == flag.name)
        );
    }
}

/// The lines that the table of flags stands between.
const PAGE_BEGIN: &str = "<!-- flags: written by a test -->\n";
const PAGE_END: &str = "<!-- end of flags -->\n";

/// docs/compatibility.md says of every flag whether it means anything here.
/// `STERNPOST_REGENERATE=1` rewrites it.
#[test]
fn the_compatibility_page_tells_what_each_flag_means() {
    let mut table = "| Flag | Default | Here | |\n|---|---|---|---|\n".to_owned();
    for flag in all().filter(|flag| flag.class != Class::Ignored) {
        let class = match flag.class {
            Class::Meaningful => "as in etcd",
            Class::Accepted => "changes nothing",
            Class::Refused => "refused",
            Class::Ignored => unreachable!("left out above"),
        };
        let default = flag.default.replace('|', "\\|");
        let default = if default.is_empty() {
            default
        } else {
            format!("`{default}`")
        };
        let help = flag.help.replace('|', "\\|").replace('<', "\\<");
        table += &format!("| `{}` | {default} | {class} | {help} |\n", flag.name);
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let begin = page.find(PAGE_BEGIN).expect("the page has the first line") + PAGE_BEGIN.len();
    let end = page.find(PAGE_END).expect("the page has the last line");
    if std::env::var_os("STERNPOST_REGENERATE").is_some_and(|value| value == "1") {
        let rewritten = format!("{}{table}{}", &page[..begin], &page[end..]);
        std::fs::write(&path, rewritten).unwrap();
        return;
    }
    assert!(
        page[begin..end] == table,
        "docs/compatibility.md differs from the table of flags; STERNPOST_REGENERATE=1 rewrites it"
    );
}
