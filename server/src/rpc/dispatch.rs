//! From a path to the function that serves it, and what all calls have in
//! common: metadata, deadlines, the answer to what does not exist.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use kvproto::etcdserverpb as pb;
use prost::Message;
use tonic::Status;
use tower::ServiceExt;

use super::grpc::{
    BodySender, MessageStream, empty_status, frame_message, read_unary, streaming, unary,
};
use super::status::invalid;
use super::{Context, cluster, health, kv, lease, maintenance, range, slow, snapshot};
use crate::metrics::{GrpcMethod, MethodKind};
use crate::runtime::Rejected;

/// Every method that is served.
pub const METHODS: &[GrpcMethod] = &[
    method("etcdserverpb.KV", "Range", MethodKind::Unary),
    method("etcdserverpb.KV", "RangeStream", MethodKind::ServerStream),
    method("etcdserverpb.KV", "Put", MethodKind::Unary),
    method("etcdserverpb.KV", "DeleteRange", MethodKind::Unary),
    method("etcdserverpb.KV", "Txn", MethodKind::Unary),
    method("etcdserverpb.KV", "Compact", MethodKind::Unary),
    method("etcdserverpb.Watch", "Watch", MethodKind::BidiStream),
    method("etcdserverpb.Lease", "LeaseGrant", MethodKind::Unary),
    method("etcdserverpb.Lease", "LeaseRevoke", MethodKind::Unary),
    method(
        "etcdserverpb.Lease",
        "LeaseKeepAlive",
        MethodKind::BidiStream,
    ),
    method("etcdserverpb.Lease", "LeaseTimeToLive", MethodKind::Unary),
    method("etcdserverpb.Lease", "LeaseLeases", MethodKind::Unary),
    method("etcdserverpb.Cluster", "MemberList", MethodKind::Unary),
    method("etcdserverpb.Maintenance", "Alarm", MethodKind::Unary),
    method("etcdserverpb.Maintenance", "Status", MethodKind::Unary),
    method("etcdserverpb.Maintenance", "Defragment", MethodKind::Unary),
    method("etcdserverpb.Maintenance", "Hash", MethodKind::Unary),
    method("etcdserverpb.Maintenance", "HashKV", MethodKind::Unary),
    method(
        "etcdserverpb.Maintenance",
        "Snapshot",
        MethodKind::ServerStream,
    ),
    method("etcdserverpb.Maintenance", "MoveLeader", MethodKind::Unary),
    method("grpc.health.v1.Health", "Check", MethodKind::Unary),
    method("grpc.health.v1.Health", "Watch", MethodKind::ServerStream),
];

const fn method(service: &'static str, method: &'static str, kind: MethodKind) -> GrpcMethod {
    GrpcMethod {
        service,
        method,
        kind,
    }
}

/// The gRPC services over one core loop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    context: Context,
}

impl Service {
    /// Serves this context.
    #[must_use]
    pub fn new(context: Context) -> Service {
        Service { context }
    }
}

/// gRPC to the services, everything else to the plain endpoints.
#[derive(Clone, Debug)]
pub struct Routed {
    grpc: Service,
    plain: Router,
}

impl Routed {
    /// Puts both behind one port.
    #[must_use]
    pub fn new(grpc: Service, plain: Router) -> Routed {
        Routed { grpc, plain }
    }
}

impl<B> tower::Service<Request<B>> for Routed
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_grpc =
            content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let request = request.map(Body::new);
        if is_grpc {
            let context = self.grpc.context.clone();
            Box::pin(async move { Ok(serve(context, request).await) })
        } else {
            Box::pin(self.plain.clone().oneshot(request))
        }
    }
}

async fn serve(context: Context, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    if let Err(status) = check_metadata(&context, &head.headers) {
        return empty_status(status);
    }
    let slow_request = context.options.slow_request;
    let began = Instant::now();
    let call = dispatch(context, head.uri.path(), body);
    let response = match timeout(&head.headers) {
        None => call.await,
        // Bounds the call until its answer begins; a stream's client ends it itself.
        Some(limit) => match tokio::time::timeout(limit, call).await {
            Ok(response) => response,
            Err(_) => empty_status(Status::deadline_exceeded("context deadline exceeded")),
        },
    };
    slow::log_slow_unary(slow_request, &head, &response, began.elapsed());
    response
}

async fn dispatch(context: Context, path: &str, body: Body) -> Response<Body> {
    match path {
        "/etcdserverpb.KV/Range" => match read(&context, body).await {
            Ok(request) => timed_range(&context, request).await,
            Err(status) => empty_status(status),
        },
        "/etcdserverpb.KV/RangeStream" => match read(&context, body).await {
            Ok(request) => range::range_stream(&context, request).await,
            Err(status) => empty_status(status),
        },
        "/etcdserverpb.KV/Put" => one(&context, body, kv::put).await,
        "/etcdserverpb.KV/DeleteRange" => one(&context, body, kv::delete_range).await,
        "/etcdserverpb.KV/Txn" => one(&context, body, kv::txn).await,
        "/etcdserverpb.KV/Compact" => one(&context, body, kv::compact).await,
        "/etcdserverpb.Watch/Watch" => {
            let requests = MessageStream::new(body, context.options.receive_bytes_max());
            let options = context.options.watch();
            spawned(|sender| crate::watch::serve(requests, sender, context.handle, options))
        }
        "/etcdserverpb.Lease/LeaseGrant" => one(&context, body, lease::grant).await,
        "/etcdserverpb.Lease/LeaseRevoke" => one(&context, body, lease::revoke).await,
        "/etcdserverpb.Lease/LeaseKeepAlive" => {
            let requests = MessageStream::new(body, context.options.receive_bytes_max());
            spawned(|sender| lease::keep_alive(context, requests, sender))
        }
        "/etcdserverpb.Lease/LeaseTimeToLive" => one(&context, body, lease::time_to_live).await,
        "/etcdserverpb.Lease/LeaseLeases" => one(&context, body, lease::leases).await,
        "/etcdserverpb.Cluster/MemberList" => one(&context, body, cluster::member_list).await,
        "/etcdserverpb.Maintenance/Alarm" => one(&context, body, maintenance::alarm).await,
        "/etcdserverpb.Maintenance/Status" => one(&context, body, maintenance::status).await,
        "/etcdserverpb.Maintenance/Defragment" => {
            one(&context, body, maintenance::defragment).await
        }
        "/etcdserverpb.Maintenance/Hash" => one(&context, body, maintenance::hash).await,
        "/etcdserverpb.Maintenance/HashKV" => one(&context, body, maintenance::hash_kv).await,
        "/etcdserverpb.Maintenance/MoveLeader" => {
            one(&context, body, maintenance::move_leader).await
        }
        "/etcdserverpb.Maintenance/Snapshot" => {
            match read::<pb::SnapshotRequest>(&context, body).await {
                Ok(_) => spawned(|sender| async move { snapshot::stream(context, sender).await }),
                Err(status) => empty_status(status),
            }
        }
        "/grpc.health.v1.Health/Check" => one(&context, body, health::check).await,
        "/grpc.health.v1.Health/Watch" => match read(&context, body).await {
            Ok(request) => spawned(|sender| health::watch(context, request, sender)),
            Err(status) => empty_status(status),
        },
        _ => empty_status(unknown(path)),
    }
}

async fn timed_range(context: &Context, request: pb::RangeRequest) -> Response<Body> {
    let began = Instant::now();
    let keys = (request.key.clone(), request.range_end.clone());
    let response = range::unary_range(context, request).await;
    slow::range_answered(context, &keys, &response, began.elapsed());
    response
}

async fn read<M: Message + Default>(context: &Context, body: Body) -> Result<M, Status> {
    read_unary(body, context.options.receive_bytes_max()).await
}

/// A unary call.
async fn one<'a, M, A, F>(
    context: &'a Context,
    body: Body,
    function: impl FnOnce(&'a Context, M) -> F,
) -> Response<Body>
where
    M: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>> + 'a,
{
    let answer: Result<Bytes, Status> = async {
        let request = read(context, body).await?;
        frame_message(&function(context, request).await?)
    }
    .await;
    unary(answer)
}

/// A call whose answer is fed by a task of its own.
fn spawned<F>(task: impl FnOnce(BodySender) -> F) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, response) = streaming();
    tokio::spawn(task(sender));
    response
}

/// Metadata that bears on every call (contract 1.17).
fn check_metadata(context: &Context, headers: &HeaderMap) -> Result<(), Status> {
    let requires_leader = headers
        .get("hasleader")
        .is_some_and(|value| value == "true");
    if requires_leader && context.handle.view().leader().is_none() {
        return Err(Rejected::NoLeader.into());
    }
    if let Some(version) = headers.get("client-api-version")
        && std::str::from_utf8(version.as_bytes()).is_err()
    {
        return Err(invalid::client_api_version());
    }
    Ok(())
}

/// The client's deadline: up to 8 digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// grpc-go's words for what is not registered.
fn unknown(path: &str) -> Status {
    let Some((service, method)) = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
    else {
        return Status::unimplemented(format!("malformed method name: {path:?}"));
    };
    if METHODS.iter().any(|known| known.service == service) {
        Status::unimplemented(format!("unknown method {method} for service {service}"))
    } else {
        Status::unimplemented(format!("unknown service {service}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1999m"), Some(Duration::from_millis(1999)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "5", "123456789S", "-1S", "5x"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_built_is_unimplemented() {
        let message = |path| unknown(path).message().to_owned();
        assert_eq!(
            message("/etcdserverpb.Auth/AuthEnable"),
            "unknown service etcdserverpb.Auth"
        );
        assert_eq!(
            message("/etcdserverpb.Cluster/MemberAdd"),
            "unknown method MemberAdd for service etcdserverpb.Cluster"
        );
    }
}
