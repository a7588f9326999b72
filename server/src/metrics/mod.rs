//! Prometheus metrics under etcd's names (contract 6), as text format 0.0.4.
//!
//! Owns: atomics that any thread may add to with relaxed order; no lock on a hot path (labels that
//! change rarely sit behind one). Written by hand rather than with prometheus-client: that crate
//! appends `_total` to every counter, which etcd's `etcd_server_health_success` and others lack,
//! and speaks OpenMetrics. Left out: docs/compatibility-metrics.md. Invariants: families are sorted
//! by name, labels by name, as client_golang writes them; a family without a series is absent.
//! Limits: `CLIENT_VERSIONS_MAX` label values that clients choose.

mod catalogue;
mod grpc;
mod labelled;
mod number;
mod process;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use parking_lot::Mutex;

pub use catalogue::MemberMetrics;
pub use grpc::{GrpcMethod, GrpcMetrics, MethodKind, MethodSeries};
pub use labelled::{
    CLIENT_VERSIONS_MAX, ClientRequests, HealthChecks, Operation, OperationDurations,
};
pub use number::{Counter, Gauge, Histogram};
pub use text::Page;

/// Every metric of a member. Shared as `Arc<Metrics>`.
#[derive(Debug)]
pub struct Metrics {
    /// Those without labels.
    pub member: MemberMetrics,
    /// `grpc_server_*`.
    pub grpc: GrpcMetrics,
    /// `etcd_server_client_requests_total`.
    pub client_requests: ClientRequests,
    /// `etcd_server_healthcheck`, `etcd_server_healthchecks_total`.
    pub health_checks: HealthChecks,
    /// `etcd_server_apply_duration_seconds`.
    pub apply_durations: OperationDurations,
    /// `etcd_server_request_duration_seconds`: from proposal or read to answer.
    pub request_durations: OperationDurations,
    labels: Mutex<Labels>,
}

/// What is told once and shown as a label.
#[derive(Clone, Debug, Default)]
struct Labels {
    member: Option<u64>,
    cluster_version: Option<String>,
    features: Vec<(String, String, bool)>,
}

impl Metrics {
    /// All at zero. `methods`: every gRPC method served; `extensive`: `--metrics=extensive`.
    pub fn new(methods: &[GrpcMethod], extensive: bool) -> Arc<Metrics> {
        Arc::new(Metrics {
            member: MemberMetrics::new(),
            grpc: GrpcMetrics::new(methods, extensive),
            client_requests: ClientRequests::new(),
            health_checks: HealthChecks::new(),
            apply_durations: OperationDurations::new(0.0001, 20),
            request_durations: OperationDurations::new(0.001, 14),
            labels: Mutex::new(Labels::default()),
        })
    }

    /// The member's id, once it is known.
    pub fn set_member(&self, member: u64) {
        self.labels.lock().member = Some(member);
    }

    /// The cluster version as `major.minor`, once it is decided.
    pub fn set_cluster_version(&self, version: &str) {
        self.labels.lock().cluster_version = Some(version.to_owned());
    }

    /// Feature gates: name, stage (`ALPHA`, `BETA`, `GA`), enabled.
    pub fn set_features(&self, features: Vec<(String, String, bool)>) {
        self.labels.lock().features = features;
    }

    /// The page a scrape gets. `alarms`: active ones, by member id and name. Reads /proc.
    pub fn render(&self, alarms: &[(u64, &str)]) -> String {
        let mut page = Page::default();
        self.member.write(&mut page);
        self.grpc.write(&mut page);
        self.client_requests.write(&mut page);
        self.health_checks.write(&mut page);
        self.apply_durations.write(
            &mut page,
            "etcd_server_apply_duration_seconds",
            "The latency distributions of v2 apply called by backend.",
            |operation, success| vec![("op", operation), ("success", success), ("version", "v3")],
        );
        self.request_durations.write(
            &mut page,
            "etcd_server_request_duration_seconds",
            "Response latency distribution in seconds for each type.",
            |operation, success| vec![("success", success), ("type", operation)],
        );
        self.write_range_durations(&mut page);
        self.write_labels(&mut page, alarms);
        process::write(&mut page);
        page.finish()
    }

    fn write_range_durations(&self, page: &mut Page) {
        let MemberMetrics {
            range_duration,
            refused_range_duration,
            ..
        } = &self.member;
        let both = [("false", refused_range_duration), ("true", range_duration)];
        let timed = both
            .into_iter()
            .filter(|(_, histogram)| histogram.count() > 0);
        let timed: Vec<_> = timed.collect();
        if timed.is_empty() {
            return;
        }
        let name = "etcd_server_range_duration_seconds";
        let mut family = page.family(name, "The latency distributions of txn.Range", "histogram");
        for (success, histogram) in timed {
            family.histogram(&[("success", success)], histogram);
        }
    }

    fn write_labels(&self, page: &mut Page, alarms: &[(u64, &str)]) {
        let labels = self.labels.lock().clone();
        let mut one = |name: &str, help: &str, labels: &[(&str, &str)]| {
            page.family(name, help, "gauge").sample(labels, 1.0);
        };
        one(
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            &[("server_version", crate::version::ETCD_VERSION)],
        );
        if let Some(version) = &labels.cluster_version {
            one(
                "etcd_cluster_version",
                "Which version is running. 1 for 'cluster_version' label with current cluster version",
                &[("cluster_version", version)],
            );
        }
        if let Some(member) = labels.member {
            let member = format!("{member:x}");
            one(
                "etcd_server_id",
                "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
                &[("server_id", &member)],
            );
            one(
                "etcd_network_known_peers",
                "The current number of known peers.",
                &[("Local", &member), ("Remote", &member)],
            );
        }
        if !labels.features.is_empty() {
            let mut family = page.family(
                "etcd_server_feature_enabled",
                "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
                "gauge",
            );
            for (name, stage, enabled) in &labels.features {
                family.sample(
                    &[("name", name), ("stage", stage)],
                    f64::from(u8::from(*enabled)),
                );
            }
        }
        if !alarms.is_empty() {
            let mut family = page.family(
                "etcd_debugging_server_alarms",
                "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
                "gauge",
            );
            for (member, alarm) in alarms {
                family.sample(
                    &[("alarm_type", alarm), ("server_id", &format!("{member:x}"))],
                    1.0,
                );
            }
        }
    }
}
