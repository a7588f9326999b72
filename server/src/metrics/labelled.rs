//! Metrics with labels whose values are few: health checks, operations, and (bounded) the versions
//! clients claim.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI8, Ordering::Relaxed};

use super::number::{Counter, Histogram};
use super::text::Page;

/// Values of `client_api_version` that are told apart. Clients choose them, so they must be
/// bounded; the rest share the last.
pub const CLIENT_VERSIONS_MAX: usize = 32;

/// The label for those beyond `CLIENT_VERSIONS_MAX`.
const OTHER_VERSIONS: &str = "other";

/// `etcd_server_client_requests_total`.
#[derive(Debug)]
pub struct ClientRequests {
    versions: Vec<ClientVersion>,
}

#[derive(Debug, Default)]
struct ClientVersion {
    name: OnceLock<Box<str>>,
    unary: Counter,
    stream: Counter,
}

impl ClientRequests {
    pub(super) fn new() -> ClientRequests {
        let versions: Vec<ClientVersion> = (0..CLIENT_VERSIONS_MAX)
            .map(|_| ClientVersion::default())
            .collect();
        let last = versions.last().expect("there is at least one");
        assert!(last.name.set(OTHER_VERSIONS.into()).is_ok(), "just made");
        ClientRequests { versions }
    }

    /// Counts a request of a client that claims `version` (`unknown` when it claims none).
    pub fn count(&self, version: &str, streaming: bool) {
        let same = |known: &&ClientVersion| **known.name.get_or_init(|| version.into()) == *version;
        let known = self.versions.iter().find(same).or(self.versions.last());
        let known = known.expect("there is at least one");
        if streaming {
            known.stream.increment()
        } else {
            known.unary.increment()
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let mut rows = Vec::new();
        for known in &self.versions {
            let Some(version) = known.name.get() else {
                continue;
            };
            rows.extend([
                (version, "stream", known.stream.get()),
                (version, "unary", known.unary.get()),
            ]);
        }
        rows.retain(|(_, _, count)| *count > 0);
        rows.sort();
        if rows.is_empty() {
            return;
        }
        let help = "The total number of client requests per client version.";
        let mut family = page.family("etcd_server_client_requests_total", help, "counter");
        for (version, kind, count) in rows {
            family.count(&[("client_api_version", version), ("type", kind)], count);
        }
    }
}

/// The checks of `/livez` and `/readyz`, in the order of the page.
const CHECKS: [(&str, &str); 5] = [
    ("data_corruption", "readyz"),
    ("linearizable_read", "readyz"),
    ("non_learner", "readyz"),
    ("serializable_read", "livez"),
    ("serializable_read", "readyz"),
];

/// `etcd_server_healthcheck` and `etcd_server_healthchecks_total`.
#[derive(Debug)]
pub struct HealthChecks([HealthCheck; CHECKS.len()]);

#[derive(Debug, Default)]
struct HealthCheck {
    /// 0 before the first run, 1 failed, 2 passed.
    last: AtomicI8,
    passed: Counter,
    failed: Counter,
}

impl HealthChecks {
    pub(super) fn new() -> HealthChecks {
        HealthChecks(std::array::from_fn(|_| HealthCheck::default()))
    }

    /// Counts one run. `kind` is `livez` or `readyz`.
    pub fn record(&self, kind: &str, name: &str, passed: bool) {
        let place = CHECKS.iter().position(|check| *check == (name, kind));
        let check = place
            .and_then(|place| self.0.get(place))
            .expect("every check is listed in CHECKS");
        check.last.store(if passed { 2 } else { 1 }, Relaxed);
        if passed {
            check.passed.increment()
        } else {
            check.failed.increment()
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let run: Vec<_> = CHECKS
            .iter()
            .zip(&self.0)
            .filter(|(_, check)| check.last.load(Relaxed) > 0)
            .collect();
        if run.is_empty() {
            return;
        }
        let help = "The result of each kind of healthcheck.";
        let mut family = page.family("etcd_server_healthcheck", help, "gauge");
        for ((name, kind), check) in &run {
            let passed = check.last.load(Relaxed) == 2;
            family.sample(
                &[("name", name), ("type", kind)],
                f64::from(u8::from(passed)),
            );
        }
        let help = "The total number of each kind of healthcheck.";
        let mut family = page.family("etcd_server_healthchecks_total", help, "counter");
        for ((name, kind), check) in run {
            for (status, counter) in [("error", &check.failed), ("success", &check.passed)] {
                if counter.get() > 0 {
                    family.count(
                        &[("name", name), ("status", status), ("type", kind)],
                        counter.get(),
                    );
                }
            }
        }
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// An operation as etcd's metrics name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the request of that name")]
        pub enum Operation { $($(#[$doc])* $name),* }

        impl Operation {
            const ALL: &[(Operation, &str)] = &[$((Operation::$name, stringify!($name))),*];
        }
    };
}

operations! {
    Alarm, AuthDisable, AuthEnable, AuthRoleAdd, AuthRoleDelete, AuthRoleGet,
    AuthRoleGrantPermission, AuthRoleList, AuthRoleRevokePermission, AuthStatus, AuthUserAdd,
    AuthUserChangePassword, AuthUserDelete, AuthUserGet, AuthUserGrantRole, AuthUserList,
    AuthUserRevokeRole, Authenticate, ClusterMemberAttrSet, ClusterVersionSet, Compaction,
    DeleteRange, DowngradeInfoSet, LeaseCheckpoint, LeaseGrant, LeaseRevoke, Put, Range,
    ReadonlyTxn, Txn,
}

/// Durations by operation and success.
#[derive(Debug)]
pub struct OperationDurations {
    /// Failed and successful, in the order of `Operation`.
    histograms: Vec<[Histogram; 2]>,
}

impl OperationDurations {
    pub(super) fn new(start: f64, count: usize) -> OperationDurations {
        let pair = |_| {
            [
                Histogram::doubling(start, count),
                Histogram::doubling(start, count),
            ]
        };
        OperationDurations {
            histograms: Operation::ALL.iter().map(pair).collect(),
        }
    }

    /// The histogram of one operation.
    pub fn of(&self, operation: Operation, success: bool) -> &Histogram {
        let [failed, passed] = self
            .histograms
            .get(operation as usize)
            .expect("one pair per operation");
        if success { passed } else { failed }
    }

    pub(super) fn write(
        &self,
        page: &mut Page,
        name: &str,
        help: &str,
        labels: impl for<'a> Fn(&'a str, &'a str) -> Vec<(&'a str, &'a str)>,
    ) {
        let mut series = Vec::new();
        for (operation, text) in Operation::ALL {
            for (success, word) in [(false, "false"), (true, "true")] {
                let histogram = self.of(*operation, success);
                if histogram.count() > 0 {
                    series.push((labels(text, word), histogram));
                }
            }
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        if series.is_empty() {
            return;
        }
        let mut family = page.family(name, help, "histogram");
        for (labels, histogram) in series {
            family.histogram(&labels, histogram);
        }
    }
}
