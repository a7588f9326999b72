//! Expectations are what etcd 3.7.3 answered on a fresh member (`testdata/etcd-metrics.txt`, Go
//! runtime left out).

use std::collections::BTreeMap;
use std::time::Duration;

use super::number::go_float;
use super::*;

const ETCD: &str = include_str!("testdata/etcd-metrics.txt");

/// Families of etcd that this server leaves out on purpose; docs/compatibility-metrics.md says why.
const LEFT_OUT: [&str; 5] = [
    "etcd_grpc_proxy_",
    "etcd_debugging_store_",
    "etcd_snap_",
    "etcd_debugging_snap_",
    "etcd_debugging_disk_backend_",
];
const LEFT_OUT_WHOLE: [&str; 6] = [
    "etcd_server_go_version",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
    "process_virtual_memory_max_bytes",
    "promhttp_metric_handler_requests_in_flight",
    "promhttp_metric_handler_requests_total",
];

const METHODS: &[GrpcMethod] = &[
    GrpcMethod {
        service: "etcdserverpb.Watch",
        method: "Watch",
        kind: MethodKind::BidiStream,
    },
    GrpcMethod {
        service: "etcdserverpb.KV",
        method: "Range",
        kind: MethodKind::Unary,
    },
    GrpcMethod {
        service: "grpc.health.v1.Health",
        method: "Watch",
        kind: MethodKind::ServerStream,
    },
    GrpcMethod {
        service: "v3lockpb.Lock",
        method: "Lock",
        kind: MethodKind::Unary,
    },
];

/// Family -> (HELP and TYPE lines, series names with labels, without values).
fn families(page: &str) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut families: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap().to_owned();
        }
        let family = families.entry(current.clone()).or_default();
        match line.starts_with('#') {
            true => family.0.push(line.to_owned()),
            false => family.1.push(line.rsplit_once(' ').unwrap().0.to_owned()),
        }
    }
    families
}

fn fresh() -> Arc<Metrics> {
    let metrics = Metrics::new(METHODS, true);
    metrics.set_member(0x5c76_a90a_e78b_cee7);
    metrics.set_cluster_version("3.7");
    metrics.set_features(vec![("AllAlpha".to_owned(), "ALPHA".to_owned(), false)]);
    for kind in ["readyz", "livez"] {
        metrics
            .health_checks
            .record(kind, "serializable_read", true);
    }
    for name in ["data_corruption", "linearizable_read", "non_learner"] {
        metrics.health_checks.record("readyz", name, true);
    }
    metrics.member.range_duration.observe(0.0);
    for operation in [
        Operation::ClusterMemberAttrSet,
        Operation::ClusterVersionSet,
    ] {
        metrics.apply_durations.of(operation, true).observe(0.0);
        metrics.request_durations.of(operation, true).observe(0.0);
    }
    metrics
        .request_durations
        .of(Operation::Range, true)
        .observe(0.0);
    metrics
}

#[test]
fn names_help_types_labels_and_buckets_are_those_of_etcd() {
    let (ours, etcd) = (families(&fresh().render(&[])), families(ETCD));
    for (name, (head, series)) in &etcd {
        if LEFT_OUT.iter().any(|prefix| name.starts_with(prefix))
            || LEFT_OUT_WHOLE.contains(&name.as_str())
        {
            assert!(
                !ours.contains_key(name),
                "{name} is there: take it from the list of what is left out"
            );
            continue;
        }
        let (our_head, our_series) = ours
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(our_head, head, "{name}");
        if name != "etcd_server_feature_enabled" {
            assert_eq!(our_series, series, "{name}");
        }
    }
    for name in ours.keys() {
        assert!(etcd.contains_key(name), "etcd has no {name}");
    }
}

#[test]
fn families_come_in_order() {
    let page = fresh().render(&[]);
    let names: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert!(names.is_sorted());
}

#[test]
fn numbers_are_written_as_go_writes_them() {
    for (value, text) in [
        (0.0, "0"),
        (1.0, "1"),
        (-1.0, "-1"),
        (524_288.0, "524288"),
        (1_048_576.0, "1.048576e+06"),
        (2_147_483_648.0, "2.147483648e+09"),
        (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
        (0.0001, "0.0001"),
        (0.000_047, "4.7e-05"),
        (0.000_102_125_999_999_999_99, "0.00010212599999999999"),
        (1_000_000.0, "1e+06"),
        (0.179_350_993, "0.179350993"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(go_float(value), text);
    }
}

#[test]
fn a_histogram_counts_up_to_and_with_its_bound() {
    let histogram = Histogram::doubling(1.0, 2);
    for value in [0.5, 1.0, 1.5, 2.0, 2.5] {
        histogram.observe(value);
    }
    assert_eq!(
        histogram.cumulative(),
        [(1.0, 2), (2.0, 4), (f64::INFINITY, 5)]
    );
    assert!((histogram.sum() - 7.5).abs() < 1e-9);
    histogram.observe_milliseconds(Duration::from_millis(3));
    assert!((histogram.sum() - 10.5).abs() < 1e-9);
}

#[test]
fn versions_that_clients_claim_are_bounded_and_escaped() {
    let metrics = fresh();
    metrics.client_requests.count("3.7\"\n", false);
    for n in 0..100 {
        metrics.client_requests.count(&n.to_string(), true);
    }
    let page = metrics.render(&[]);
    let series: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("etcd_server_client_requests_total{"))
        .collect();
    assert_eq!(series.len(), CLIENT_VERSIONS_MAX);
    assert!(page.contains(
        "etcd_server_client_requests_total{client_api_version=\"3.7\\\"\\n\",type=\"unary\"} 1\n"
    ));
    assert!(
        page.contains("client_api_version=\"other\",type=\"stream\"} 70\n"),
        "{series:?}"
    );
}

#[test]
fn lock_and_alarm_series_come_with_their_first_use() {
    let metrics = fresh();
    assert!(!metrics.render(&[]).contains("v3lockpb.Lock"));
    metrics
        .grpc
        .at(metrics.grpc.place("/v3lockpb.Lock/Lock").unwrap())
        .started
        .increment();
    let page = metrics.render(&[(0x1f, "NOSPACE")]);
    assert!(page.contains("grpc_server_started_total{grpc_method=\"Lock\",grpc_service=\"v3lockpb.Lock\",grpc_type=\"unary\"} 1\n"));
    assert!(
        page.contains("etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"1f\"} 1\n")
    );
}
