//! The plain HTTP endpoints of the client port and of `--listen-metrics-urls` (contract 3.2, 3.3).
//!
//! Owns nothing: it asks the member through `MemberView` and shows `Metrics`. Bodies, codes,
//! headers and the order of checks are those of etcd 3.7.3. The JSON gateway is not here yet;
//! unknown paths are 404. Runs on the I/O runtimes. Limits: every read of a probe ends within
//! `Endpoints::request_timeout`.

mod access;
mod grpc;
mod health;
mod reply;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use http::{HeaderValue, Method};

pub use access::AccessRules;
pub use grpc::{GrpcFront, MessageCount, Slices, grpc_status, is_grpc, unknown_method};
pub use view::{ActiveAlarm, AlarmKind, BoxFuture, MemberView, RaftView};

use crate::metrics::Metrics;
use crate::net::descriptors;
use crate::version::ETCD_VERSION;

/// What the endpoints need.
#[derive(Clone)]
pub struct Endpoints {
    /// The member asked.
    pub member: Arc<dyn MemberView>,
    /// The numbers shown.
    pub metrics: Arc<Metrics>,
    /// 5 s and twice the election timeout (contract 1.17).
    pub request_timeout: Duration,
}

/// Everything served on the client port but gRPC. Its fallback is etcd's 404 page: merge it into a
/// router without one.
pub fn client_router(endpoints: Endpoints, rules: AccessRules) -> Router {
    probes()
        .route("/version", only_get(version))
        .route("/debug/vars", only_get(debug_vars))
        .fallback(async || reply::not_found())
        .with_state(endpoints)
        .layer(axum::middleware::from_fn_with_state(
            Arc::new(rules),
            access::control,
        ))
}

/// What `--listen-metrics-urls` serve, from before the member is ready.
pub fn metrics_router(endpoints: Endpoints) -> Router {
    probes()
        .fallback(async || reply::not_found())
        .with_state(endpoints)
}

/// A router that knows no path: the peer port, until members exist.
pub fn empty_router() -> Router {
    Router::new().fallback(async || reply::not_found())
}

fn probes() -> Router<Endpoints> {
    let mut router = Router::new()
        .route("/metrics", any(metrics))
        .route("/health", only_get(health))
        .route(
            "/livez",
            only_get(async |State(endpoints), request| {
                probe(endpoints, request, "livez", health::LIVEZ).await
            }),
        )
        .route(
            "/readyz",
            only_get(async |State(endpoints), request| {
                probe(endpoints, request, "readyz", health::READYZ).await
            }),
        );
    for (kind, checks) in [("livez", health::LIVEZ), ("readyz", health::READYZ)] {
        for check in checks {
            let single = async move |State(endpoints), request| {
                single(endpoints, request, kind, *check).await
            };
            router = router.route(&format!("/{kind}/{}", check.name()), only_get(single));
        }
    }
    router
}

/// GET alone; axum would also take HEAD.
fn only_get<H, T>(handler: H) -> MethodRouter<Endpoints>
where
    H: axum::handler::Handler<T, Endpoints>,
    T: 'static,
{
    any(handler).layer(axum::middleware::from_fn(
        async |request: Request, next: axum::middleware::Next| {
            if request.method() == Method::GET {
                next.run(request).await
            } else {
                reply::only_get()
            }
        },
    ))
}

async fn version(State(endpoints): State<Endpoints>) -> Response {
    let cluster = endpoints
        .member
        .cluster_version()
        .unwrap_or_else(|| "not_decided".to_owned());
    let storage = endpoints
        .member
        .storage_version()
        .unwrap_or_else(|| "unknown".to_owned());
    let body = format!(
        "{{\"etcdserver\":{},\"etcdcluster\":{},\"storage\":{}}}",
        reply::json_string(ETCD_VERSION),
        reply::json_string(&cluster),
        reply::json_string(&storage)
    );
    reply::ok(HeaderValue::from_static("application/json"), body)
}

async fn health(State(endpoints): State<Endpoints>, request: Request) -> Response {
    let query = request.uri().query();
    let (response, healthy) =
        health::health(query, &*endpoints.member, endpoints.request_timeout).await;
    let counters = &endpoints.metrics.member;
    if healthy {
        counters.health_success.increment()
    } else {
        counters.health_failures.increment()
    }
    response
}

async fn probe(
    endpoints: Endpoints,
    request: Request,
    kind: &str,
    checks: &[health::Check],
) -> Response {
    let Endpoints {
        member,
        metrics,
        request_timeout,
    } = endpoints;
    let query = request.uri().query();
    health::probe(
        kind,
        checks,
        query,
        &*member,
        &metrics.health_checks,
        request_timeout,
    )
    .await
}

/// A single check cannot be excluded, but may be verbose.
async fn single(
    endpoints: Endpoints,
    request: Request,
    kind: &str,
    check: health::Check,
) -> Response {
    let verbose = !reply::query_values(request.uri().query(), "verbose").is_empty();
    let Endpoints {
        member,
        metrics,
        request_timeout,
    } = endpoints;
    let query = verbose.then_some("verbose");
    health::probe(
        kind,
        &[check],
        query,
        &*member,
        &metrics.health_checks,
        request_timeout,
    )
    .await
}

async fn metrics(State(endpoints): State<Endpoints>) -> Response {
    let alarms = endpoints.member.alarms();
    let alarms: Vec<(u64, &str)> = alarms
        .iter()
        .map(|alarm| (alarm.member, alarm.kind.name()))
        .collect();
    endpoints.member.refresh(&endpoints.metrics);
    let text = endpoints.metrics.render(&alarms);
    let format = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    reply::ok(HeaderValue::from_static(format), text)
}

/// Go's expvar page without what only a Go program has (`memstats` stays, empty, for those who look
/// for the key).
async fn debug_vars(State(endpoints): State<Endpoints>) -> Response {
    let arguments: Vec<String> = std::env::args_os()
        .map(|word| reply::json_string(&word.to_string_lossy()))
        .collect();
    let raft = endpoints.member.raft();
    let state = match raft.leader {
        0 => "StateFollower",
        leader if leader == raft.member => "StateLeader",
        _ => "StateFollower",
    };
    let body = format!(
        "{{\n\"cmdline\": [{}],\n\"file_descriptor_limit\": {},\n\"memstats\": {{}},\n\"raft.status\": \
         {{\"id\":\"{:x}\",\"term\":{},\"vote\":\"{:x}\",\"commit\":{},\"lead\":\"{:x}\",\"raftState\":\"{state}\",\
         \"applied\":{},\"progress\":{{}},\"leadtransferee\":\"0\"}}\n}}\n",
        arguments.join(","),
        descriptors::limit().unwrap_or(0),
        raft.member,
        raft.term,
        raft.vote,
        raft.commit,
        raft.leader,
        raft.applied
    );
    reply::ok(
        HeaderValue::from_static("application/json; charset=utf-8"),
        body,
    )
}
