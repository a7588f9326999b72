//! Real sockets on loopback, in this process.

mod client;
mod gather;
mod tls;

use std::future::Future;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::get;
use http::{Request, StatusCode, Version};
use tokio::sync::oneshot;

use super::*;
use client::{body_text, connect, http1, http2};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// `/version` tells the protocol, `/peer` the peer, `/hang` never answers, `/stream` answers and
/// never ends.
fn router() -> Router {
    Router::new()
        .route(
            "/version",
            get(async |request: Request<Body>| format!("{:?}", request.version())),
        )
        .route(
            "/peer",
            get(async |Extension(peer): Extension<PeerInfo>| format!("{peer:?}")),
        )
        .route(
            "/hang",
            get(async || std::future::pending::<String>().await),
        )
        .route(
            "/stream",
            get(async || Body::new(client::Endless::default())),
        )
}

struct Served {
    address: Address,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Served {
    fn start(options: &ListenOptions) -> Served {
        let listeners = Listeners::bind(options).unwrap();
        let address = listeners.client.addresses().unwrap().remove(0);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap_or(()) };
        let task = tokio::spawn(listeners.client.serve(router(), shutdown));
        Served {
            address,
            stop: Some(stop),
            task,
        }
    }

    fn plain() -> Served {
        let client_urls = vec![url("http://127.0.0.1:0")];
        Served::start(&ListenOptions {
            client_urls,
            ..ListenOptions::default()
        })
    }

    fn stop(&mut self) -> impl Future<Output = io::Result<()>> + '_ {
        self.stop.take().unwrap().send(()).unwrap();
        async { (&mut self.task).await.unwrap() }
    }
}

#[tokio::test]
async fn one_port_speaks_both_versions_without_tls() {
    let served = Served::plain();
    let mut old = http1(connect(&served.address).await).await;
    let mut new = http2(connect(&served.address).await).await;
    assert_eq!(body_text(old.get("/version").await).await, "HTTP/1.1");
    assert_eq!(body_text(new.get("/version").await).await, "HTTP/2.0");
    let peer = body_text(new.get("/peer").await).await;
    assert!(
        peer.contains("127.0.0.1") && peer.contains("tls: false"),
        "{peer}"
    );
}

#[tokio::test]
async fn a_unix_socket_serves_and_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("etcd.sock");
    std::fs::write(&path, "left by a killed process").unwrap();
    let client_urls = vec![url(&format!("unix://{}", path.display()))];
    let mut served = Served::start(&ListenOptions {
        client_urls,
        ..ListenOptions::default()
    });
    assert_eq!(served.address, Address::Unix(path.clone()));
    let mut connection = http2(connect(&served.address).await).await;
    assert_eq!(
        body_text(connection.get("/version").await).await,
        "HTTP/2.0"
    );
    drop(connection);
    served.stop().await.unwrap();
    assert!(!path.exists());
}

#[test]
fn a_taken_port_and_a_missing_certificate_name_the_url() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("http://{}", taken.local_addr().unwrap());
    let peer_urls = vec![url(&text)];
    let error = Listeners::bind(&ListenOptions {
        peer_urls,
        ..ListenOptions::default()
    })
    .unwrap_err();
    assert!(
        matches!(error, NetError::Bind { .. }) && error.to_string().contains(&text),
        "{error}"
    );
    let metrics_urls = vec![url("https://127.0.0.1:0")];
    let error = Listeners::bind(&ListenOptions {
        metrics_urls,
        ..ListenOptions::default()
    })
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("must be provided for metrics url"),
        "{error}"
    );
}

#[test]
fn connections_leave_descriptors_for_the_rest() {
    assert_eq!(client_connections_max(Some(1024)).unwrap(), 1024 - 150);
    assert_eq!(client_connections_max(None).unwrap(), 1 << 20);
    assert!(client_connections_max(Some(150)).is_err());
}

#[tokio::test]
async fn a_storm_of_cancels_leaves_the_connection_alive() {
    let served = Served::plain();
    let mut connection = http2(connect(&served.address).await).await;
    for _ in 0..10_000 {
        connection.start_and_cancel("/hang").await;
    }
    assert_eq!(
        body_text(connection.get("/version").await).await,
        "HTTP/2.0"
    );
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_cuts_endless_ones() {
    let mut served = Served::plain();
    let silent = connect(&served.address).await;
    let mut idle = http2(connect(&served.address).await).await;
    assert_eq!(idle.get("/version").await.status(), StatusCode::OK);
    let mut busy = http2(connect(&served.address).await).await;
    let endless = busy.get("/stream").await;
    assert_eq!(endless.version(), Version::HTTP_2);
    served.stop().await.unwrap();
    assert!(idle.try_get("/version").await.is_err());
    assert!(
        http_body_util::BodyExt::collect(endless.into_body())
            .await
            .is_err()
    );
    drop(silent);
    let Address::Tcp(address) = served.address else {
        panic!("not a TCP address")
    };
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
