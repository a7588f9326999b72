//! `/health`, `/livez`, `/readyz` and their single checks (contract 3.2).

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::reply;
use super::view::{AlarmKind, MemberView};
use crate::metrics::HealthChecks;

/// What Go says when a read takes longer than the request timeout.
const TIMED_OUT: &str = "context deadline exceeded";

/// One check of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// The checks of `/livez`.
pub(super) const LIVEZ: &[Check] = &[Check::SerializableRead];
/// The checks of `/readyz`. Go runs them in the random order of a map; this is the order of the
/// contract.
pub(super) const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, member: &dyn MemberView, timeout: Duration) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let corrupt = member
                    .alarms()
                    .iter()
                    .any(|alarm| alarm.kind == AlarmKind::Corrupt);
                if corrupt {
                    Err("alarm activated: CORRUPT".to_owned())
                } else {
                    Ok(())
                }
            }
            Check::SerializableRead => read(member, true, timeout).await,
            Check::LinearizableRead => read(member, false, timeout).await,
            Check::NonLearner if member.is_learner() => Err("not supported for learner".to_owned()),
            Check::NonLearner => Ok(()),
        }
    }
}

async fn read(
    member: &dyn MemberView,
    serializable: bool,
    timeout: Duration,
) -> Result<(), String> {
    let answer = tokio::time::timeout(timeout, member.read(serializable)).await;
    answer.unwrap_or_else(|_| Err(TIMED_OUT.to_owned()))
}

/// Runs the checks that the query does not exclude. `kind` is `livez` or `readyz`.
pub(super) async fn probe(
    kind: &str,
    checks: &[Check],
    query: Option<&str>,
    member: &dyn MemberView,
    metrics: &HealthChecks,
    timeout: Duration,
) -> Response {
    let excluded = reply::query_values(query, "exclude");
    let mut lines = String::new();
    let mut healthy = true;
    for check in checks
        .iter()
        .filter(|check| !excluded.iter().any(|name| name == check.name()))
    {
        let outcome = check.run(member, timeout).await;
        metrics.record(kind, check.name(), outcome.is_ok());
        lines += &match &outcome {
            Ok(()) => format!("[+]{} ok\n", check.name()),
            Err(cause) => format!("[-]{} failed: {cause}\n", check.name()),
        };
        healthy &= outcome.is_ok();
    }
    if !healthy {
        tracing::error!(path = %format!("/{kind}"), reason = %lines, "Health check error");
        return reply::error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    let verbose = !reply::query_values(query, "verbose").is_empty();
    reply::probe(if verbose {
        lines + "ok\n"
    } else {
        "ok\n".to_owned()
    })
}

/// `/health`: alarms, then the leader, then a read; the first that fails is the reason. The second
/// value: healthy.
pub(super) async fn health(
    query: Option<&str>,
    member: &dyn MemberView,
    timeout: Duration,
) -> (Response, bool) {
    let reason = unhealthy(query, member, timeout).await;
    let body = |health: &str, reason: &str| {
        format!(
            "{{\"health\":\"{health}\",\"reason\":{}}}",
            reply::json_string(reason)
        )
    };
    match reason {
        None => (reply::plain(body("true", "")), true),
        Some(reason) => {
            tracing::warn!(%reason, "/health error");
            (
                reply::error(StatusCode::SERVICE_UNAVAILABLE, &body("false", &reason)),
                false,
            )
        }
    }
}

async fn unhealthy(
    query: Option<&str>,
    member: &dyn MemberView,
    timeout: Duration,
) -> Option<String> {
    let excluded = reply::query_values(query, "exclude");
    let serializable = reply::query_values(query, "serializable")
        .first()
        .is_some_and(|value| value == "true");
    let alarms = member.alarms();
    let counts = |kind: AlarmKind| !excluded.iter().any(|name| name == kind.name());
    if let Some(alarm) = alarms.iter().find(|alarm| counts(alarm.kind)) {
        return Some(format!("ALARM {}", alarm.kind.name()));
    }
    if !serializable && !member.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let answer = read(member, serializable, timeout).await;
    answer.err().map(|cause| format!("RANGE ERROR:{cause}"))
}
