//! Durations of calls, and the log lines of slow ones, in etcd's words. Costs two
//! looks at the clock per call; everything else only when a call was slow.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body::Body as _;

use super::grpc::AnswerBody;
use super::{Context, METHODS};
use crate::metrics::{MethodKind, Operation};
use crate::net::PeerInfo;

/// A range was answered, or its answer begins. `keys` are its key and range end.
pub(super) fn range_answered(
    context: &Context,
    keys: &(Bytes, Bytes),
    response: &Response<AnswerBody>,
    took: Duration,
) {
    let success = !response.headers().contains_key("grpc-status");
    let metrics = context.handle.metrics();
    let durations = &metrics.request_durations;
    let duration = durations.of(Operation::Range, success);
    duration.observe_seconds(took);
    let duration = if success {
        &metrics.member.range_duration
    } else {
        &metrics.member.refused_range_duration
    };
    duration.observe_seconds(took);
    if took > context.options.slow_apply {
        metrics.member.slow_apply.increment();
        tracing::warn!(
            ?took,
            expected_duration = ?context.options.slow_apply,
            prefix = "read-only range ",
            request = %format_args!("key:{:?} range_end:{:?}", keys.0, keys.1),
            success,
            "apply request took too long"
        );
    }
}

/// A unary call was answered after `took`.
pub(super) fn log_slow_unary(
    limit: Duration,
    head: &Parts,
    response: &Response<AnswerBody>,
    took: Duration,
) {
    if took <= limit {
        return;
    }
    let path = head.uri.path();
    let name = path.strip_prefix('/').and_then(|name| name.split_once('/'));
    let is_unary = METHODS
        .iter()
        .any(|row| row.kind == MethodKind::Unary && Some((row.service, row.method)) == name);
    if !is_unary {
        return;
    }
    let peer = head.extensions.get::<PeerInfo>();
    let remote = match peer.map(PeerInfo::remote) {
        Some(Some(address)) => address.to_string(),
        Some(None) => "unix socket".to_owned(),
        None => "unknown".to_owned(),
    };
    tracing::warn!(
        time_spent = ?took,
        %remote,
        response_type = path,
        response_size = response.body().size_hint().exact(),
        success = !response.headers().contains_key("grpc-status"),
        "request stats"
    );
}
