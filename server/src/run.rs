//! A member from start to stop: bind, open, serve, drain. Order matters: every
//! refusal comes before anything is written, and nothing is served to clients
//! before the member leads and has applied its log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bootstrap::{self, Opened};
use crate::config::Config;
use crate::http::{AccessRules, Endpoints, GrpcFront, client_router, empty_router, metrics_router};
use crate::member_view::Member;
use crate::net::{ListenOptions, Listeners};
use crate::rpc::{self, Context, Service};
use crate::runtime::{Core, Handle, run_auto_compaction, run_memory_guard, run_warm_up};
use crate::sd_notify;
use crate::shutdown::Shutdown;

/// How often readiness is looked at while the log is replayed.
const READY_POLL: Duration = Duration::from_millis(1);

/// Runs a member until `shutdown`.
///
/// # Errors
/// Why it does not start, in words that name the cause and the next step.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Box<dyn std::error::Error>> {
    let listeners = Listeners::bind(&ListenOptions::from_config(&config, SystemTime::now())?)?;
    let Opened { parts, locks } = bootstrap::open(&config)?;
    let (core, handle) = Core::new(parts);
    let (stop_core, core_stops) = tokio::sync::oneshot::channel::<()>();
    let stop = |shutdown: &Shutdown| {
        let shutdown = shutdown.clone();
        async move {
            shutdown.requested().await;
        }
    };
    let core = tokio::spawn(core.run(stop(&shutdown), async {
        // A dropped sender is a stop as well.
        drop(core_stops.await);
    }));

    let metrics = Arc::clone(handle.metrics());
    let endpoints = Endpoints {
        member: Arc::new(Member::new(handle.clone())),
        metrics: Arc::clone(&metrics),
        request_timeout: handle.request_timeout(),
    };
    let probes = listeners
        .metrics
        .serve(metrics_router(endpoints.clone()), stop(&shutdown));
    let probes = tokio::spawn(probes);
    let peers = tokio::spawn(listeners.peer.serve(empty_router(), stop(&shutdown)));

    until_ready(&handle).await;
    let context = Context {
        handle: handle.clone(),
        options: options(&config),
    };
    let rules = AccessRules {
        cors: config.cors.clone(),
        hosts: config.host_whitelist.clone(),
    };
    let http = client_router(endpoints, rules);
    let grpc = Service::new(context);
    let secure = listeners.client.is_secure();
    let client_http = tokio::spawn(listeners.client_http.serve(http.clone(), stop(&shutdown)));
    let front = GrpcFront::new(rpc::Routed::new(grpc, http), metrics);
    tokio::spawn(run_auto_compaction(handle.clone(), config.auto_compaction));
    tokio::spawn(run_warm_up(handle.clone()));
    tokio::spawn(run_memory_guard(handle.clone()));
    log_ready(&config, &handle, secure);
    if let Err(error) = sd_notify::ready() {
        tracing::warn!(%error, "cannot tell systemd that the member is ready");
    }
    listeners.client.serve(front, stop(&shutdown)).await?;

    for other in [client_http, probes, peers] {
        other.await??;
    }
    drop(stop_core);
    core.await?;
    drop(locks);
    Ok(())
}

/// Completes once the member leads and has applied its log.
async fn until_ready(handle: &Handle) {
    while !(handle.view().reads_are_current()) {
        tokio::time::sleep(READY_POLL).await;
    }
}

fn options(config: &Config) -> rpc::Options {
    // Contract 1.10: one and a half election timeouts in ticks, rounded down,
    // as time, rounded up to whole seconds.
    let ticks = (3 * config.election_ticks() / 2) as u128;
    let minimum = ticks * config.heartbeat_interval.as_millis();
    // Status shows "no quota" as the negative number that asks for it.
    let quota_bytes = config
        .quota
        .bytes()
        .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    rpc::Options {
        request_bytes_max: config.max_request_bytes,
        txn_operations_max: config.max_txn_ops,
        watch_progress_interval: config.watch_progress_notify_interval,
        lease_ttl_seconds_min: i64::try_from(minimum.div_ceil(1000)).unwrap_or(i64::MAX),
        slow_apply: config.warning_apply_duration,
        slow_request: config.warning_unary_request_duration,
        quota_bytes,
    }
}

fn log_ready(config: &Config, handle: &Handle, secure: bool) {
    let identity = handle.view().identity();
    tracing::info!(
        local_member_id = format!("{:x}", identity.member_id.0),
        cluster_id = format!("{:x}", identity.cluster_id),
        "ready to serve client requests"
    );
    let urls: Vec<String> = config
        .listen_client_urls
        .iter()
        .map(ToString::to_string)
        .collect();
    let addresses = urls.join(",");
    if secure {
        tracing::info!(%addresses, "serving client traffic securely");
    } else {
        tracing::info!(
            %addresses,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
}
