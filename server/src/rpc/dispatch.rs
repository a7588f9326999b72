//! From a path to the function that serves it, and what all calls have in
//! common: metadata, deadlines, the answer to what does not exist.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use kvproto::etcdserverpb as pb;
use prost::Message;
use tonic::Status;
use tower::ServiceExt;

use super::grpc::{
    AnswerBody, BodySender, Incoming, MessageStream, deflated, empty_status, frame_message,
    is_gzip, read_one, read_unary, streaming, unary,
};
use super::status::invalid;
use super::{Context, cluster, health, kv, lease, maintenance, range, slow, snapshot};
use crate::http::{is_grpc, unknown_method};
use crate::metrics::{GrpcMethod, MethodKind};
use crate::runtime::Rejected;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
static HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

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
    method("grpc.health.v1.Health", "List", MethodKind::Unary),
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
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_grpc = is_grpc(request.headers());
        let request = request.map(Body::new);
        if is_grpc {
            let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
            let context = self.grpc.context.clone();
            // Answered in the client's own words for the same encoding.
            Box::pin(async move {
                let mut response = serve(context, request).await;
                if let Some(content_type) = content_type {
                    let headers = response.headers_mut();
                    headers.insert(header::CONTENT_TYPE, content_type);
                }
                Ok(response)
            })
        } else {
            let answer = self.plain.clone().oneshot(request);
            Box::pin(async move { Ok(answer.await?.map(AnswerBody::Plain)) })
        }
    }
}

async fn serve(context: Context, request: Request<Body>) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    let limit = match timeout(&head.headers) {
        Ok(limit) => limit,
        Err(status) => {
            let mut response = empty_status(status);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        }
    };
    if let Err(status) = check_metadata(&context, &head.headers) {
        return empty_status(status);
    }
    let slow_request = context.options.slow_request;
    let began = Instant::now();
    let incoming = Incoming {
        body,
        gzip: is_gzip(&head.headers),
        bytes_max: context.options.receive_bytes_max(),
        path: head.uri.path_and_query().cloned(),
    };
    let call = dispatch(context, head.uri.path(), incoming, limit);
    let response = match limit {
        None => call.await,
        Some(Duration::ZERO) => empty_status(deadline_exceeded()),
        // Bounds the call until its answer begins; `spawned` bounds the answer.
        Some(limit) => match tokio::time::timeout(limit, call).await {
            Ok(response) => response,
            Err(_) => empty_status(deadline_exceeded()),
        },
    };
    slow::log_slow_unary(slow_request, &head, &response, began.elapsed());
    deflated(response, &head.headers)
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// The calls that come by the thousand. What they wait for is small, so that a call costs one small
/// allocation; the others bring their own.
async fn dispatch(
    context: Context,
    path: &str,
    incoming: Incoming,
    limit: Option<Duration>,
) -> Response<AnswerBody> {
    match path {
        "/etcdserverpb.KV/Range" => match read_unary(incoming).await {
            Ok(request) => timed_range(&context, request).await,
            Err(status) => empty_status(status),
        },
        "/etcdserverpb.KV/Put" => one(&context, incoming, kv::put).await,
        "/etcdserverpb.KV/Txn" => answered(&context, incoming, kv::txn).await,
        _ => Box::pin(dispatch_rare(context, path, incoming, limit)).await,
    }
}

async fn dispatch_rare(
    context: Context,
    path: &str,
    incoming: Incoming,
    limit: Option<Duration>,
) -> Response<AnswerBody> {
    match path {
        "/etcdserverpb.KV/RangeStream" => match read_one(incoming).await {
            Ok(request) => range::range_stream(&context, request).await,
            Err(status) => empty_status(status),
        },
        "/etcdserverpb.KV/DeleteRange" => answered(&context, incoming, kv::delete_range).await,
        "/etcdserverpb.KV/Compact" => one(&context, incoming, kv::compact).await,
        "/etcdserverpb.Watch/Watch" => {
            let requests = MessageStream::new(incoming);
            let options = context.options.watch();
            spawned(limit, |sender| {
                crate::watch::serve(requests, sender, context.handle, options)
            })
        }
        "/etcdserverpb.Lease/LeaseGrant" => one(&context, incoming, lease::grant).await,
        "/etcdserverpb.Lease/LeaseRevoke" => one(&context, incoming, lease::revoke).await,
        "/etcdserverpb.Lease/LeaseKeepAlive" => {
            let requests = MessageStream::new(incoming);
            spawned(limit, |sender| lease::keep_alive(context, requests, sender))
        }
        "/etcdserverpb.Lease/LeaseTimeToLive" => one(&context, incoming, lease::time_to_live).await,
        "/etcdserverpb.Lease/LeaseLeases" => one(&context, incoming, lease::leases).await,
        "/etcdserverpb.Cluster/MemberList" => one(&context, incoming, cluster::member_list).await,
        "/etcdserverpb.Maintenance/Alarm" => one(&context, incoming, maintenance::alarm).await,
        "/etcdserverpb.Maintenance/Status" => one(&context, incoming, maintenance::status).await,
        "/etcdserverpb.Maintenance/Defragment" => {
            one(&context, incoming, maintenance::defragment).await
        }
        "/etcdserverpb.Maintenance/Hash" => one(&context, incoming, maintenance::hash).await,
        "/etcdserverpb.Maintenance/HashKV" => one(&context, incoming, maintenance::hash_kv).await,
        "/etcdserverpb.Maintenance/MoveLeader" => {
            one(&context, incoming, maintenance::move_leader).await
        }
        "/etcdserverpb.Maintenance/Snapshot" => {
            match read_one::<pb::SnapshotRequest>(incoming).await {
                Ok(_) => spawned(limit, |sender| async move {
                    snapshot::stream(context, sender).await;
                }),
                Err(status) => empty_status(status),
            }
        }
        "/grpc.health.v1.Health/Check" => one(&context, incoming, health::check).await,
        "/grpc.health.v1.Health/List" => one(&context, incoming, health::list).await,
        "/grpc.health.v1.Health/Watch" => match read_one(incoming).await {
            Ok(request) => spawned(limit, |sender| health::watch(context, request, sender)),
            Err(status) => empty_status(status),
        },
        _ => empty_status(Status::unimplemented(unknown_method(path, is_served))),
    }
}

async fn timed_range(context: &Context, request: pb::RangeRequest) -> Response<AnswerBody> {
    let began = Instant::now();
    let keys = (request.key.clone(), request.range_end.clone());
    let response = range::unary_range(context, request).await;
    slow::range_answered(context, &keys, &response, began.elapsed());
    response
}

/// A unary call.
async fn one<'a, M, A, F>(
    context: &'a Context,
    incoming: Incoming,
    function: impl FnOnce(&'a Context, M) -> F,
) -> Response<AnswerBody>
where
    M: Message + Default + 'static,
    A: Message,
    F: Future<Output = Result<A, Status>> + 'a,
{
    let answer: Result<Bytes, Status> = async {
        let request = read_unary(incoming).await?;
        frame_message(&function(context, request).await?)
    }
    .await;
    unary(answer)
}

/// A call that decides itself how its answer leaves.
async fn answered<'a, M, F>(
    context: &'a Context,
    incoming: Incoming,
    function: impl FnOnce(&'a Context, M) -> F,
) -> Response<AnswerBody>
where
    M: Message + Default + 'static,
    F: Future<Output = Result<Response<AnswerBody>, Status>> + 'a,
{
    let answer: Result<_, Status> =
        async { function(context, read_unary(incoming).await?).await }.await;
    answer.unwrap_or_else(empty_status)
}

/// A call whose answer is fed by a task of its own, until the client's deadline.
fn spawned<F>(limit: Option<Duration>, task: impl FnOnce(BodySender) -> F) -> Response<AnswerBody>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, response) = streaming();
    match limit {
        None => {
            tokio::spawn(task(sender));
        }
        Some(limit) => {
            let late = sender.clone();
            let task = task(sender);
            tokio::spawn(async move {
                if tokio::time::timeout(limit, task).await.is_err() {
                    late.end(deadline_exceeded()).await;
                }
            });
        }
    }
    response
}

/// Metadata that bears on every call (contract 1.17).
fn check_metadata(context: &Context, headers: &HeaderMap) -> Result<(), Status> {
    if let Some(encoding) = headers.get(&GRPC_ENCODING)
        && encoding != "identity"
        && encoding != "gzip"
    {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        return Err(Status::unimplemented(format!(
            "grpc: Decompressor is not installed for grpc-encoding {encoding:?}"
        )));
    }
    if let Some(version) = headers.get(&CLIENT_API_VERSION)
        && std::str::from_utf8(version.as_bytes()).is_err()
    {
        return Err(invalid::client_api_version());
    }
    let requires_leader = headers
        .get(&HAS_LEADER)
        .is_some_and(|value| value == "true");
    if requires_leader && context.handle.view().leader().is_none() {
        return Err(Rejected::NoLeader.into());
    }
    Ok(())
}

/// The client's deadline: up to 8 digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(&GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let malformed = |why: String| Status::internal(format!("malformed grpc-timeout: {why}"));
    let text = String::from_utf8_lossy(value.as_bytes());
    let parts = text
        .char_indices()
        .next_back()
        .map(|(at, unit)| (text.split_at(at).0, unit));
    let (digits, unit) = match parts {
        Some((digits, unit)) if !digits.is_empty() => (digits, unit),
        _ => {
            return Err(malformed(format!(
                "transport: timeout string is too short: {text:?}"
            )));
        }
    };
    if digits.len() > 8 {
        return Err(malformed(format!(
            "transport: timeout string is too long: {text:?}"
        )));
    }
    let duration: fn(u64) -> Duration = match unit {
        'H' => |amount| Duration::from_secs(amount * 3600),
        'M' => |amount| Duration::from_secs(amount * 60),
        'S' => Duration::from_secs,
        'm' => Duration::from_millis,
        'u' => Duration::from_micros,
        'n' => Duration::from_nanos,
        _ => {
            return Err(malformed(format!(
                "transport: timeout unit is not recognized: {text:?}"
            )));
        }
    };
    let amount = Some(digits)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    match amount {
        Some(amount) => Ok(Some(duration(amount))),
        None => Err(malformed(format!(
            "strconv.ParseUint: parsing {digits:?}: invalid syntax"
        ))),
    }
}

/// True when a service has a method that is served.
fn is_served(service: &str) -> bool {
    METHODS.iter().any(|known| known.service == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers).map_err(|status| status.message().to_owned())
        };
        assert_eq!(read("2S"), Ok(Some(Duration::from_secs(2))));
        assert_eq!(read("1999m"), Ok(Some(Duration::from_millis(1999))));
        assert_eq!(
            read("99999999H"),
            Ok(Some(Duration::from_secs(99_999_999 * 3600)))
        );
        for (bad, why) in [
            ("", "transport: timeout string is too short: \"\""),
            ("S", "transport: timeout string is too short: \"S\""),
            ("5x", "transport: timeout unit is not recognized: \"5x\""),
            (
                "123456789S",
                "transport: timeout string is too long: \"123456789S\"",
            ),
            ("-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("+1S", "strconv.ParseUint: parsing \"+1\": invalid syntax"),
        ] {
            assert_eq!(
                read(bad),
                Err(format!("malformed grpc-timeout: {why}")),
                "{bad:?}"
            );
        }
    }
}
