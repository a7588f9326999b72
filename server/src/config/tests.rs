//! What the whole of reading a configuration does, against what a real etcd 3.7.3 does. Error texts
//! were taken from runs of its binary.

use super::flags::{Class, all};
use super::*;

pub fn read_all(arguments: &[&str], environment: &[(&str, &str)]) -> (Outcome, Vec<Notice>) {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let environment: Vec<Variable> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut notices = Vec::new();
    (read(&arguments, &environment, &mut notices), notices)
}

pub type Outcome = Result<Request, ConfigError>;

fn config(arguments: &[&str]) -> Config {
    match read_all(arguments, &[]).0 {
        Ok(Request::Serve(config)) => *config,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn refusal(arguments: &[&str]) -> ConfigError {
    match read_all(arguments, &[]).0 {
        Err(error) => error,
        Ok(request) => panic!("{arguments:?}: {request:?}"),
    }
}

#[test]
fn defaults() {
    let config = Config::defaults();
    assert_eq!(config, super::tests::config(&[]));
    assert_eq!(config.data_dir, PathBuf::from("default.sternpost"));
    assert_eq!(
        config.listen_client_urls,
        [Url::parse("http://localhost:2379").unwrap()]
    );
    assert_eq!(config.initial_cluster, "default=http://localhost:2380");
    assert_eq!(config.quota.bytes(), Some(2_147_483_648));
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert_eq!(config.cors, AllowedOrigins::All);
    assert_eq!(config.log, LogConfig::default());
    assert!(config.bootstrap().is_ok());
}

#[test]
fn go_flag_syntax() {
    for arguments in [
        &["-name", "a"][..],
        &["--name", "a"],
        &["-name=a"],
        &["--name=a"],
        &["--name=b", "--name=a"],
        &["--name=a", "--"],
        &[
            "--client-cert-auth",
            "--name",
            "a",
            "--v",
            "--peer-client-cert-auth=false",
        ],
    ] {
        assert_eq!(config(arguments).name, "a", "{arguments:?}");
    }
    assert_eq!(config(&["--name="]).name, "");
    assert_eq!(config(&["--name", "--help"]).name, "--help");
    assert!(config(&["--client-cert-auth"]).client_tls.client_cert_auth);
    assert!(!config(&["--pre-vote=f"]).pre_vote);
    assert_eq!(config(&["--max-txn-ops=0x10"]).max_txn_ops, 16);
    assert_eq!(config(&["--quota-backend-bytes=-1"]).quota, Quota::Off);
    assert_eq!(
        read_all(&["--name=a", "-h", "--nope"], &[]).0,
        Ok(Request::Help)
    );
    assert_eq!(read_all(&["--version"], &[]).0, Ok(Request::Version));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let cases: &[(&[&str], &str)] = &[
        (&["--nope"], "flag provided but not defined: -nope"),
        (
            &["--nope", "--help"],
            "flag provided but not defined: -nope",
        ),
        (
            &["--enable-v2"],
            "flag provided but not defined: -enable-v2",
        ),
        (
            &["--experimental-enable-v2v3=x"],
            "flag provided but not defined: -experimental-enable-v2v3",
        ),
        (
            &["--discovery", "x"],
            "flag provided but not defined: -discovery",
        ),
        (&["--name"], "flag needs an argument: -name"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["---name=x"], "bad flag syntax: ---name=x"),
        (
            &["--client-cert-auth=maybe"],
            "invalid boolean value \"maybe\" for -client-cert-auth: parse error",
        ),
        (
            &["--heartbeat-interval=x"],
            "invalid value \"x\" for flag -heartbeat-interval: parse error",
        ),
        (
            &["--quota-backend-bytes=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -quota-backend-bytes: \
             value out of range",
        ),
        (
            &["--listen-client-urls=http://foo/x"],
            "invalid value \"http://foo/x\" for flag -listen-client-urls: URL address does not \
             have the form \"host:port\": http://foo/x",
        ),
        (
            &["--initial-cluster-state=bad"],
            "invalid value \"bad\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--feature-gates=Nope=true"],
            "invalid value \"Nope=true\" for flag -feature-gates: unrecognized feature gate: Nope",
        ),
        (
            &["--grpc-keepalive-min-time=5"],
            "invalid value \"5\" for flag -grpc-keepalive-min-time: parse error",
        ),
        (
            &["--max-concurrent-streams=-1"],
            "invalid value \"-1\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \
             \"-1\": invalid syntax",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(
            refusal(arguments),
            ConfigError::Usage((*expected).to_owned())
        );
    }
}

#[test]
fn values_that_make_no_sense_get_the_words_of_etcd() {
    let cases: &[(&[&str], &str)] = &[
        (&["foo"], "\"foo\" is not a valid flag"),
        (
            &["--client-cert-auth", "true"],
            "\"true\" is not a valid flag",
        ),
        (&["--version", "x"], "\"x\" is not a valid flag"),
        (
            &["--listen-client-urls=http://foo:1"],
            "expected IP in URL for binding (http://foo:1)",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (&["--log-level=bad"], "unrecognized level: \"bad\""),
        (
            &["--log-format=bad"],
            "unknown log format: bad, supported values json, console",
        ),
        (
            &["--log-outputs=default,stderr"],
            "multi logoutput for \"default\" is not supported yet",
        ),
        (&["--logger=x"], "unknown logger option \"x\""),
        (
            &["--logger=capnslog"],
            "--logger=capnslog is removed in v3.5",
        ),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &["--auto-compaction-mode=x"],
            "unknown auto-compaction-mode \"x\"",
        ),
        (
            &["--auto-compaction-mode="],
            "undefined auto-compaction-mode",
        ),
        (
            &["--auto-compaction-retention=abc"],
            "error parsing CompactionRetention: time: invalid duration \"abc\"",
        ),
        (
            &["--tls-min-version=x"],
            "unexpected TLS version \"x\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--discovery-token=x"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            &["--election-timeout=100"],
            "--election-timeout[100ms] should be at least as 5 times as \
             --heartbeat-interval[100ms]",
        ),
        (
            &["--election-timeout=50001"],
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--compact-hash-check-time=0s"],
            "--compact-hash-check-time must be >0 (set to 0s)",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint",
        ),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty \
             host (http://:1))",
        ),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (
            &["--config-file=/nonexistent"],
            "open /nonexistent: No such file or directory (os error 2)",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(
            refusal(arguments),
            ConfigError::Invalid((*expected).to_owned())
        );
    }
}

#[test]
fn variables() {
    let (outcome, notices) = read_all(
        &["--name=a"],
        &[
            ("ETCD_DATA_DIR", "/d"),
            ("ETCD_WAL_DIR", ""),
            ("ETCD_PORT", "tcp://1"),
            ("ETCD_VERSION", "3.5"),
            ("ETCD_V", "1"),
            ("PATH", "/bin"),
        ],
    );
    let Ok(Request::Serve(config)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(config.data_dir, PathBuf::from("/d"));
    let used = |name: &str, value: &str| Notice::VariableUsed {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(
        notices[..4],
        [
            used("ETCD_DATA_DIR", "/d"),
            used("ETCD_V", "1"),
            Notice::VariableUnknown {
                name: "ETCD_PORT".to_owned()
            },
            Notice::VariableSpecial {
                name: "ETCD_VERSION".to_owned(),
                value: "3.5".to_owned()
            },
        ]
    );
}

#[test]
fn a_variable_and_its_flag_exclude_each_other() {
    for value in ["x", ""] {
        let (outcome, _) = read_all(&["--name=a"], &[("ETCD_NAME", value)]);
        assert_eq!(
            outcome,
            Err(ConfigError::Shadowed {
                variable: "ETCD_NAME".to_owned()
            })
        );
    }
}

#[test]
fn an_unparsable_variable_is_an_error() {
    let cases: &[(&str, &str, &str)] = &[
        ("ETCD_HEARTBEAT_INTERVAL", "100 # ms", "parse error"),
        ("ETCD_CLIENT_CERT_AUTH", "x", "parse error"),
        ("ETCD_INITIAL_CLUSTER_STATE", "bad", "invalid value"),
        (
            "ETCD_LISTEN_CLIENT_URLS",
            "abc",
            "URL scheme must be http, https, unix, or unixs: abc",
        ),
    ];
    for (name, value, why) in cases {
        let expected = format!("invalid value {value:?} for {name}: {why}");
        assert_eq!(
            read_all(&[], &[(name, value)]).0,
            Err(ConfigError::Invalid(expected))
        );
    }
}

#[test]
fn names_of_etcd_3_5_lead_to_those_of_today() {
    let arguments = [
        "--experimental-initial-corrupt-check=true",
        "--experimental-watch-progress-notify-interval=5s",
        "--experimental-compact-hash-check-enabled",
    ];
    let (outcome, notices) = read_all(&arguments, &[]);
    let Ok(Request::Serve(config)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        config
            .feature_gates
            .enabled(FeatureGate::InitialCorruptCheck)
    );
    assert!(config.feature_gates.enabled(FeatureGate::CompactHashCheck));
    assert_eq!(
        config.watch_progress_notify_interval,
        Duration::from_secs(5)
    );
    let renamed = notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Renamed { .. }));
    assert_eq!(renamed.count(), 3);
}

#[test]
fn flags_without_meaning_are_noticed_once() {
    let (_, notices) = read_all(&["--max-wals=7", "--max-wals=8", "--name=a"], &[]);
    assert_eq!(notices.len(), 1);
    assert!(matches!(&notices[0], Notice::WithoutMeaning { flag, .. } if flag == "max-wals"));
    let accepted = all().filter(|flag| flag.class == Class::Accepted);
    assert!(accepted.count() > 20);
}

#[test]
fn what_kubeadm_passes() {
    let config = config(&[
        "--advertise-client-urls=https://10.0.0.2:2379",
        "--cert-file=/pki/server.crt",
        "--client-cert-auth=true",
        "--data-dir=/var/lib/etcd",
        "--feature-gates=InitialCorruptCheck=true",
        "--initial-advertise-peer-urls=https://10.0.0.2:2380",
        "--initial-cluster=node=https://10.0.0.2:2380",
        "--key-file=/pki/server.key",
        "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.2:2379",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--listen-peer-urls=https://10.0.0.2:2380",
        "--name=node",
        "--peer-cert-file=/pki/peer.crt",
        "--peer-client-cert-auth=true",
        "--peer-key-file=/pki/peer.key",
        "--peer-trusted-ca-file=/pki/ca.crt",
        "--snapshot-count=10000",
        "--trusted-ca-file=/pki/ca.crt",
        "--watch-progress-notify-interval=5s",
    ]);
    assert_eq!(config.listen_client_urls.len(), 2);
    assert!(config.client_tls.has_certificate() && config.client_tls.client_cert_auth);
    assert!(config.peer_tls.has_certificate() && config.peer_tls.client_cert_auth);
    assert_eq!(
        config.peer_tls.trusted_ca_file,
        Some(PathBuf::from("/pki/ca.crt"))
    );
    let bootstrap = config.bootstrap().unwrap();
    assert_eq!(
        bootstrap.peer_urls,
        [Url::parse("https://10.0.0.2:2380").unwrap()]
    );
    assert_eq!(bootstrap.token, "etcd-cluster");
}

#[test]
fn auto_compaction_retention() {
    let read = |mode: &str, retention: &str| {
        config(&[
            &format!("--auto-compaction-mode={mode}"),
            &format!("--auto-compaction-retention={retention}"),
        ])
        .auto_compaction
    };
    let hours = |hours: u64| AutoCompaction::Periodic(Duration::from_secs(hours * 3600));
    assert_eq!(read("periodic", "0"), AutoCompaction::Off);
    assert_eq!(read("periodic", ""), AutoCompaction::Off);
    assert_eq!(read("periodic", "10"), hours(10));
    assert_eq!(read("periodic", "10h"), hours(10));
    assert_eq!(
        read("periodic", "30m"),
        AutoCompaction::Periodic(Duration::from_secs(1800))
    );
    assert_eq!(read("revision", "1000"), AutoCompaction::Revision(1000));
    assert_eq!(read("revision", "0"), AutoCompaction::Off);
    let refused = refusal(&[
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1h",
    ]);
    assert!(refused.to_string().contains("no number of revisions"));
}

#[test]
fn derived_values() {
    let named = config(&["--name=abc"]);
    assert_eq!(named.initial_cluster, "abc=http://localhost:2380");
    assert_eq!(named.data_dir, PathBuf::from("abc.sternpost"));
    assert!(named.bootstrap().is_ok());
    let everywhere = config(&["--listen-peer-urls=http://0.0.0.0:2390"]);
    assert!(everywhere.bootstrap().is_ok(), "{everywhere:?}");
    let sockets = config(&[
        "--listen-client-urls=unix:///a,unixs://localhost:m1",
        "--advertise-client-urls=unix:///a",
    ]);
    assert_eq!(
        sockets.listen_client_urls[0].unix_path(),
        Some(PathBuf::from("/a"))
    );
    let zero = config(&[
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://a:1",
    ]);
    assert_eq!(
        zero.listen_client_urls[0].listen_address(),
        Some("127.0.0.1:0".parse().unwrap())
    );
}
