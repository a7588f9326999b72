//! A member from start to stop: bind, open, serve, drain. Order matters: every
//! refusal comes before anything is written, and nothing is served to clients
//! before the member leads and has applied its log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bootstrap::{self, Opened};
use crate::config::{Config, Quota};
use crate::http::{
    AccessRules, Endpoints, GrpcFront, client_router, empty_router, metrics_router,
};
use crate::member_view::Member;
use crate::metrics::Metrics;
use crate::net::{ListenOptions, Listeners};
use crate::rpc::{self, Context, METHODS, Service};
use crate::runtime::{Core, Handle, run_auto_compaction};
use crate::shutdown::Shutdown;
use crate::{sd_notify, version};

/// How often readiness is looked at while the log is replayed.
const READY_POLL: Duration = Duration::from_millis(1);

/// Runs a member until `shutdown`.
///
/// # Errors
/// Why it does not start, in words that name the cause and the next step.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Box<dyn std::error::Error>> {
    let listeners = Listeners::bind(&ListenOptions::from_config(&config, SystemTime::now())?)?;
    let Opened { parts, checkpointer, lock } = bootstrap::open(&config)?;
    let (core, handle) = Core::new(parts, checkpointer);
    let (stop_core, core_stops) = tokio::sync::oneshot::channel::<()>();
    let core = tokio::spawn(core.run(async {
        // A dropped sender is a stop as well.
        drop(core_stops.await);
    }));

    let metrics = Metrics::new(METHODS, config.metrics.is_extensive());
    let member_id = handle.view().identity().member_id;
    metrics.set_member(member_id.0);
    metrics.set_cluster_version(version::CLUSTER_VERSION);
    let endpoints = Endpoints {
        member: Arc::new(Member::new(handle.clone())),
        metrics: Arc::clone(&metrics),
        request_timeout: handle.request_timeout(),
    };
    let stop = |shutdown: &Shutdown| {
        let shutdown = shutdown.clone();
        async move {
            shutdown.requested().await;
        }
    };
    let probes = listeners.metrics.serve(metrics_router(endpoints.clone()), stop(&shutdown));
    let probes = tokio::spawn(probes);
    let peers = tokio::spawn(listeners.peer.serve(empty_router(), stop(&shutdown)));

    until_ready(&handle).await;
    let context = Context { handle: handle.clone(), options: options(&config) };
    let rules = AccessRules::from_config(&config);
    let http = client_router(endpoints, rules);
    let grpc = Service::new(context);
    let secure = listeners.client.is_secure();
    let client_http = tokio::spawn(listeners.client_http.serve(http.clone(), stop(&shutdown)));
    let front = GrpcFront::new(rpc::Routed::new(grpc, http), metrics);
    tokio::spawn(run_auto_compaction(handle.clone(), config.auto_compaction));
    log_ready(&config, &handle, secure);
    sd_notify::ready();
    listeners.client.serve(front, stop(&shutdown)).await?;

    for other in [client_http, probes, peers] {
        other.await??;
    }
    drop(stop_core);
    core.await?;
    drop(lock);
    Ok(())
}
