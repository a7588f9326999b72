//! Expectations are what etcd 3.7.3 answered to the same requests on loopback.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tower::ServiceExt;

use super::*;
use crate::config::AllowedOrigins;
use crate::metrics::{GrpcMethod, MethodKind};

const METHODS: &[GrpcMethod] = &[
    GrpcMethod {
        service: "etcdserverpb.KV",
        method: "Range",
        kind: MethodKind::Unary,
    },
    GrpcMethod {
        service: "etcdserverpb.Watch",
        method: "Watch",
        kind: MethodKind::BidiStream,
    },
];

#[derive(Default)]
struct Member {
    alarms: Mutex<Vec<ActiveAlarm>>,
    leaderless: bool,
    learner: bool,
    stuck: bool,
}

impl MemberView for Member {
    fn alarms(&self) -> Vec<ActiveAlarm> {
        self.alarms.lock().clone()
    }
    fn has_leader(&self) -> bool {
        !self.leaderless
    }
    fn is_learner(&self) -> bool {
        self.learner
    }
    fn read(&self, serializable: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            match (serializable, self.leaderless) {
                (false, _) if self.stuck => std::future::pending().await,
                (false, true) => Err("etcdserver: leader changed".to_owned()),
                _ => Ok(()),
            }
        })
    }
    fn cluster_version(&self) -> Option<String> {
        (!self.leaderless).then(|| "3.7.0".to_owned())
    }
    fn storage_version(&self) -> Option<String> {
        (!self.leaderless).then(|| "3.7.0".to_owned())
    }
    fn refresh(&self, _: &Metrics) {}

    fn raft(&self) -> RaftView {
        RaftView {
            member: 1,
            leader: 1,
            ..RaftView::default()
        }
    }
}

fn endpoints(member: Member) -> Endpoints {
    let metrics = Metrics::new(METHODS, false);
    Endpoints {
        member: Arc::new(member),
        metrics,
        request_timeout: Duration::from_millis(20),
    }
}

fn open_rules() -> AccessRules {
    AccessRules {
        cors: AllowedOrigins::All,
        hosts: AllowedOrigins::All,
    }
}

async fn ask(router: &Router, method: &str, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "foreign:2379");
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes().to_vec();
    (head.status, head.headers, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_healthy_member_answers_as_etcd() {
    let router = client_router(endpoints(Member::default()), open_rules());
    for (path, body, content_type, nosniff) in [
        (
            "/version",
            r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#,
            "application/json",
            false,
        ),
        (
            "/health",
            r#"{"health":"true","reason":""}"#,
            "text/plain; charset=utf-8",
            false,
        ),
        ("/livez", "ok\n", "text/plain; charset=utf-8", true),
        (
            "/livez?verbose",
            "[+]serializable_read ok\nok\n",
            "text/plain; charset=utf-8",
            true,
        ),
        (
            "/readyz?verbose",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
            "text/plain; charset=utf-8",
            true,
        ),
        (
            "/readyz?exclude=foo&exclude=linearizable_read&verbose",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\nok\n",
            "text/plain; charset=utf-8",
            true,
        ),
        (
            "/livez/serializable_read?verbose=x",
            "[+]serializable_read ok\nok\n",
            "text/plain; charset=utf-8",
            true,
        ),
    ] {
        let (status, headers, text) = ask(&router, "GET", path).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, body), "{path}");
        assert_eq!(headers["content-type"], content_type, "{path}");
        assert_eq!(
            headers.contains_key("x-content-type-options"),
            nosniff,
            "{path}"
        );
        assert_eq!(headers["access-control-allow-origin"], "*", "{path}");
        assert_eq!(
            headers["access-control-allow-methods"], "POST, GET, OPTIONS, PUT, DELETE",
            "{path}"
        );
    }
}

#[tokio::test]
async fn other_methods_and_paths() {
    let router = client_router(endpoints(Member::default()), open_rules());
    for path in [
        "/version",
        "/health",
        "/livez",
        "/readyz",
        "/livez/serializable_read",
        "/debug/vars",
    ] {
        for method in ["POST", "HEAD", "DELETE"] {
            let (status, headers, text) = ask(&router, method, path).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(headers["allow"], "GET", "{method} {path}");
            assert_eq!(
                text,
                if method == "HEAD" {
                    ""
                } else {
                    "Method Not Allowed\n"
                }
            );
        }
    }
    for path in [
        "/",
        "/nope",
        "/v2/keys",
        "/members",
        "/livez/nope",
        "/health/",
        "/debug/pprof/",
    ] {
        let (status, headers, text) = ask(&router, "GET", path).await;
        assert_eq!(
            (status, text.as_str()),
            (StatusCode::NOT_FOUND, "404 page not found\n"),
            "{path}"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let (status, headers, text) = ask(&router, "OPTIONS", path).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, ""), "{path}");
        assert_eq!(
            headers["access-control-allow-headers"],
            "accept, content-type, authorization"
        );
    }
    let (status, headers, text) = ask(&router, "POST", "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    assert!(text.contains("\netcd_mvcc_put_total 0\n"));
}

#[tokio::test]
async fn metrics_urls_have_no_version_and_no_cors() {
    let router = metrics_router(endpoints(Member::default()));
    assert_eq!(
        ask(&router, "GET", "/version").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        ask(&router, "OPTIONS", "/health").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let (status, headers, _) = ask(&router, "GET", "/health").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn alarms_come_before_the_leader_and_the_leader_before_the_read() {
    let alarm = |kind| ActiveAlarm { member: 1, kind };
    let member = Member {
        leaderless: true,
        ..Member::default()
    };
    *member.alarms.lock() = vec![alarm(AlarmKind::NoSpace), alarm(AlarmKind::Corrupt)];
    let endpoints = endpoints(member);
    let router = client_router(endpoints.clone(), open_rules());
    for (path, reason) in [
        ("/health", "ALARM NOSPACE"),
        ("/health?exclude=NOSPACE", "ALARM CORRUPT"),
        ("/health?exclude=NOSPACE&exclude=CORRUPT", "RAFT NO LEADER"),
    ] {
        let (status, headers, text) = ask(&router, "GET", path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            text,
            format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n")
        );
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    }
    let (status, _, _) = ask(
        &router,
        "GET",
        "/health?exclude=NOSPACE&exclude=CORRUPT&serializable=true",
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, text) = ask(&router, "GET", "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let lines = "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
                 [-]linearizable_read failed: etcdserver: leader changed\n[+]non_learner ok\n\n";
    assert_eq!(text, lines);
    assert_eq!(ask(&router, "GET", "/livez").await.0, StatusCode::OK);
    let (_, _, text) = ask(&router, "GET", "/version").await;
    assert_eq!(
        text,
        r#"{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"unknown"}"#
    );
    let page = endpoints.metrics.render(&[]);
    assert!(
        page.contains("etcd_server_health_failures 3\n")
            && page.contains("etcd_server_health_success 1\n")
    );
    assert!(page.contains("etcd_server_healthcheck{name=\"data_corruption\",type=\"readyz\"} 0\n"));
}

#[tokio::test]
async fn a_read_that_hangs_is_a_failed_one() {
    let router = metrics_router(endpoints(Member {
        stuck: true,
        learner: true,
        ..Member::default()
    }));
    let (_, _, text) = ask(&router, "GET", "/health").await;
    assert!(
        text.contains("RANGE ERROR:context deadline exceeded"),
        "{text}"
    );
    let (_, _, text) = ask(&router, "GET", "/readyz/linearizable_read").await;
    assert_eq!(
        text,
        "[-]linearizable_read failed: context deadline exceeded\n\n"
    );
    let (_, _, text) = ask(&router, "GET", "/readyz/non_learner").await;
    assert_eq!(text, "[-]non_learner failed: not supported for learner\n\n");
}

#[tokio::test]
async fn a_foreign_host_is_misdirected_without_tls() {
    let listed = |name: &str| AllowedOrigins::Listed(vec![name.to_owned()]);
    let rules = AccessRules {
        cors: listed("https://a"),
        hosts: listed("example.com"),
    };
    let router = client_router(endpoints(Member::default()), rules.clone());
    let (status, headers, text) = ask(&router, "GET", "/version").await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
    assert!(text.contains("--host-whitelist \"foreign\""), "{text}");
    assert!(!headers.contains_key("access-control-allow-origin"));
    let request = Request::get("http://foreign:1/version")
        .extension(crate::net::PeerInfo::new(None, true, None));
    let request = request
        .header("origin", "https://a")
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        "https://a"
    );
}

/// Two messages (3 bytes and none), then what the test asks for.
#[derive(Clone)]
struct Answer {
    status: Option<&'static str>,
}

impl tower::Service<Request<grpc::CountedRequest<Body>>> for Answer {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future =
        Pin<Box<dyn Future<Output = Result<axum::response::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<grpc::CountedRequest<Body>>) -> Self::Future {
        let status = self.status;
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let data = Bytes::from_static(b"\0\0\0\0\x03abc\0\0\0\0\0");
            let mut frames = vec![Frame::data(data)];
            if let Some(status) = status {
                let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())];
                frames.push(Frame::trailers(trailers.into_iter().collect()));
            }
            Ok(axum::response::Response::new(Body::new(Frames(
                frames.into_iter(),
            ))))
        })
    }
}

/// A body of these frames.
struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

fn call(path: &str) -> Request<Body> {
    let message = Bytes::from_static(b"\0\0\0\0\x02hi");
    let request = Request::post(path).header("content-type", "application/grpc");
    request
        .header("client-api-version", "3.7.0")
        .body(Body::from(message))
        .unwrap()
}

#[tokio::test]
async fn calls_messages_and_bytes_are_counted() {
    let metrics = Metrics::new(METHODS, true);
    let front = |status| GrpcFront::new(Answer { status }, metrics.clone());
    let whole = front(Some("11"))
        .oneshot(call("/etcdserverpb.KV/Range"))
        .await
        .unwrap();
    assert!(
        whole
            .into_body()
            .collect()
            .await
            .unwrap()
            .trailers()
            .is_some()
    );
    // Dropped before its end: the client went away.
    let mut dropped = front(None)
        .oneshot(call("/etcdserverpb.Watch/Watch"))
        .await
        .unwrap()
        .into_body();
    assert!(dropped.frame().await.unwrap().unwrap().is_data());
    drop(dropped);
    let page = metrics.render(&[]);
    for line in [
        r#"grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0"#,
        r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
        r#"grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
        r#"grpc_server_msg_received_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_msg_sent_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2"#,
        r#"grpc_server_handling_seconds_count{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"etcd_server_client_requests_total{client_api_version="3.7.0",type="stream"} 1"#,
        "etcd_network_client_grpc_received_bytes_total 4",
        "etcd_network_client_grpc_sent_bytes_total 6",
    ] {
        assert!(page.contains(&format!("{line}\n")), "{line}");
    }
}

#[tokio::test]
async fn unknown_calls_are_answered_as_grpc_go_does() {
    let front = GrpcFront::new(Answer { status: None }, Metrics::new(METHODS, false));
    for (path, message) in [
        (
            "/etcdserverpb.KV/Nope",
            "unknown method Nope for service etcdserverpb.KV",
        ),
        ("/made.Up/Range", "unknown service made.Up"),
        ("/nothing", "malformed method name: %22/nothing%22"),
    ] {
        let response = front.clone().oneshot(call(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "12");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let sent = response.headers()["grpc-message"].to_str().unwrap();
        assert_eq!(sent, message.replace("%22", "\""));
    }
}

#[test]
fn messages_are_found_however_the_bytes_are_cut() {
    let bytes = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01z";
    for cut in 0..=bytes.len() {
        let mut count = MessageCount::default();
        let (first, second) = bytes.split_at(cut);
        let (a, b) = (count.feed(first), count.feed(second));
        assert_eq!((a.0 + b.0, a.1 + b.1), (3, 4), "cut at {cut}");
    }
}
