//! Connections of the tests to a member: the generated stubs over tonic's transport. A
//! request is sent once and never repeated: an unknown outcome stays unknown.
//! Limits: [`CALL_WITHIN`] bounds every unary call.

use std::time::Duration;

use kvproto::etcdserverpb::kv_client::KvClient;
use kvproto::etcdserverpb::lease_client::LeaseClient;
use kvproto::etcdserverpb::maintenance_client::MaintenanceClient;
use kvproto::etcdserverpb::watch_client::WatchClient;
use kvproto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::transport::{Channel, Endpoint};

/// How long a call may take before the test gives it up.
pub const CALL_WITHIN: Duration = Duration::from_secs(60);

/// A range end that means "all keys from here on".
pub const OPEN_END: &[u8] = &[0];

/// One connection and the services on it.
#[derive(Clone, Debug)]
pub struct Client {
    /// The connection itself.
    pub channel: Channel,
    /// Keys and transactions.
    pub kv: KvClient<Channel>,
    /// Leases.
    pub lease: LeaseClient<Channel>,
    /// Change streams.
    pub watch: WatchClient<Channel>,
    /// Status, hashes, snapshots.
    pub maintenance: MaintenanceClient<Channel>,
}

impl Client {
    /// Connects to a member on loopback.
    pub async fn connect(port: u16) -> Client {
        let channel = endpoint(port).timeout(CALL_WITHIN).connect().await;
        Client::on(channel.expect("the member serves"))
    }

    /// Connects with HTTP/2 windows of `bytes` and no limit of time, for a reader that
    /// stops: what it does not read stays with the server.
    pub async fn connect_with_window(port: u16, bytes: u32) -> Client {
        let endpoint = endpoint(port)
            .initial_stream_window_size(bytes)
            .initial_connection_window_size(bytes);
        Client::on(endpoint.connect().await.expect("the member serves"))
    }

    fn on(channel: Channel) -> Client {
        Client {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            maintenance: MaintenanceClient::new(channel.clone()),
            channel,
        }
    }

    /// Puts one key and returns the revision; the call must succeed.
    pub async fn put(&mut self, key: &str, value: Vec<u8>) -> i64 {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.into(),
            ..PutRequest::default()
        };
        let response = self.kv.put(request).await.expect("a put").into_inner();
        response.header.expect("a header").revision
    }
}

/// A request for every key.
pub fn all_keys() -> RangeRequest {
    RangeRequest {
        key: OPEN_END.into(),
        range_end: OPEN_END.into(),
        ..RangeRequest::default()
    }
}

fn endpoint(port: u16) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"));
    endpoint
        .expect("a valid address")
        .connect_timeout(CALL_WITHIN)
}
