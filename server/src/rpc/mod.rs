//! The etcd services: gRPC requests in, answers out. Connections run here; all
//! state is behind the [`Handle`].
//!
//! A call goes dispatch -> validate -> convert -> core loop -> convert. What is
//! not built answers UNIMPLEMENTED by not being in [`dispatch`]'s table.

mod cluster;
mod convert;
mod dispatch;
pub mod grpc;
mod health;
mod kv;
mod large;
mod lease;
mod maintenance;
mod range;
mod slow;
mod snapshot;
pub mod status;
mod unserved;
mod validate;

pub use dispatch::{METHODS, Routed, Service};
pub use unserved::UNSERVED;

use std::time::Duration;

use crate::runtime::Handle;
use crate::watch::StreamOptions;

/// What the services share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The core loop.
    pub handle: Handle,
    /// Limits and times from the configuration.
    pub options: Options,
}

/// What the services must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `--max-request-bytes`: the largest entry.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_operations_max: usize,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// The smallest lease, seconds (contract 1.10).
    pub lease_ttl_seconds_min: i64,
    /// `--warning-apply-duration`: slower reads are logged.
    pub slow_apply: Duration,
    /// `--warning-unary-request-duration`: slower unary calls are logged.
    pub slow_request: Duration,
    /// `--quota-backend-bytes` as Status shows it; negative is no quota.
    pub quota_bytes: i64,
}

/// Bytes that gRPC allows a message above the request limit (contract 8).
const RECEIVE_OVERHEAD_BYTES: usize = 512 << 10;

impl Options {
    /// The largest message that is read from a client.
    #[must_use]
    pub fn receive_bytes_max(&self) -> usize {
        self.request_bytes_max
            .saturating_add(RECEIVE_OVERHEAD_BYTES)
    }

    /// How a watch stream is served.
    #[must_use]
    pub fn watch(&self) -> StreamOptions {
        StreamOptions {
            progress_interval: self.watch_progress_interval,
            fragment_bytes: self.receive_bytes_max(),
        }
    }
}
