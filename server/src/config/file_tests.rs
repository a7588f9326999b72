//! The configuration file: keys, types and errors, against what a real etcd 3.7.3 does.

use super::tests::{Outcome, read_all};
use super::*;

fn from_file(text: &str) -> (Outcome, Vec<Notice>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    read_all(&["--config-file", file.path().to_str().unwrap()], &[])
}

fn file_config(text: &str) -> Config {
    match from_file(text).0 {
        Ok(Request::Serve(config)) => *config,
        other => panic!("{text}: {other:?}"),
    }
}

fn file_error(text: &str) -> String {
    match from_file(text).0 {
        Err(ConfigError::Invalid(text)) => text.split_once(": ").unwrap().1.to_owned(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_file_counts_alone() {
    let text = "name: f\nheartbeat-interval: 200\nlisten-client-urls: http://127.0.0.1:1\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let (outcome, _) = read_all(
        &["--name=a", "--config-file", path, "--max-txn-ops=1"],
        &[("ETCD_NAME", "b"), ("ETCD_DATA_DIR", "/d")],
    );
    let Ok(Request::Serve(config)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("f", 128));
    assert_eq!(config.data_dir, PathBuf::from("f.sternpost"));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(200));
    let (outcome, _) = read_all(&[], &[("ETCD_CONFIG_FILE", path)]);
    assert!(matches!(outcome, Ok(Request::Serve(config)) if config.name == "f"));
}

#[test]
fn keys_of_the_file() {
    let config = file_config(
        "Name: abc\nwatch-progress-notify-interval: 5000000000\nauto-compaction-retention: 30m\n\
         enable-grpc-gateway: off\nquota-backend-bytes: 8589934592\nmax-request-bytes: 1e6\n\
         log-outputs: [stderr, stdout]\ncipher-suites:\n- A\n- B\nexperimental-old: true\n\
         feature-gates: InitialCorruptCheck=true\nwal-dir:\nlisten-metrics-urls: ''\n\
         client-transport-security:\n  cert-file: c\n  key-file: k\n  client-cert-auth: true\n  \
         trusted-ca-file: t\n  auto-tls: true\n\
         peer-transport-security:\n  cert-file: pc\n  allowed-cn: [aa, bb]\n  \
         skip-client-san-verification: true\nsocket-options:\n  reuse-port: true\n",
    );
    assert_eq!(config.name, "abc");
    assert_eq!(
        config.watch_progress_notify_interval,
        Duration::from_secs(5)
    );
    assert!(!config.enable_grpc_gateway);
    assert_eq!(
        (config.quota, config.max_request_bytes),
        (Quota::Bytes(8 << 30), 1_000_000)
    );
    assert_eq!(config.log.outputs, [LogOutput::Stderr, LogOutput::Stdout]);
    assert_eq!(config.cipher_suites, ["A", "B"]);
    assert!(
        config
            .feature_gates
            .enabled(FeatureGate::InitialCorruptCheck)
    );
    assert_eq!(config.client_tls.cert_file, Some(PathBuf::from("c")));
    assert!(config.client_tls.client_cert_auth && config.client_tls.auto_tls);
    assert_eq!(config.peer_tls.cert_file, Some(PathBuf::from("pc")));
    assert_eq!(config.peer_tls.allowed_cns, ["aa", "bb"]);
    assert!(config.peer_tls.skip_client_san_verification && config.socket_reuse_port);
    assert_eq!(
        file_config("{\"name\": \"j\", \"max-txn-ops\": 5}").max_txn_ops,
        5
    );
    assert_eq!(file_config(""), Config::defaults());
    let (_, notices) = from_file("nope: 1\ncert-file: x\nsocket-options: {nope: 1}\n");
    let unknown: Vec<&str> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::UnknownKey { key } => Some(key.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(unknown, ["nope", "cert-file", "socket-options.nope"]);
}

#[test]
fn a_file_with_values_of_other_types_is_refused() {
    let cases: &[(&str, &str)] = &[
        ("name: 5", "name: text expected, found 5; put it in quotes"),
        (
            "auto-compaction-retention: 1",
            "auto-compaction-retention: text expected, found 1; put it in quotes",
        ),
        (
            "max-txn-ops: \"12\"",
            "max-txn-ops: a whole number from 0 to 18446744073709551615 expected, found \"12\"",
        ),
        (
            "pre-vote: \"true\"",
            "pre-vote: true or false expected, found \"true\"",
        ),
        (
            "max-concurrent-streams: 5000000000",
            "max-concurrent-streams: a whole number from 0 to 4294967295 expected, \
             found \"5000000000\"",
        ),
        (
            "corrupt-check-time: 5s",
            "corrupt-check-time: a duration as a whole number of nanoseconds \
             (5s is 5000000000) expected, found \"5s\"",
        ),
        (
            "log-outputs: stderr",
            "log-outputs: a list of texts expected, found \"stderr\"",
        ),
        (
            "peer-transport-security: 5",
            "peer-transport-security: keys and values expected, found \"5\"",
        ),
        (
            "listen-client-urls: foo",
            "listen-client-urls: URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            "feature-gates: Nope=true",
            "feature-gates: unrecognized feature gate: Nope",
        ),
        ("- a", "keys and values expected, found a list"),
    ];
    for (text, expected) in cases {
        assert_eq!(&file_error(text), expected, "{text}");
    }
    assert!(file_error("name: [").starts_with("line "));
}
