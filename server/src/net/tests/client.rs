//! A small client over hyper.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::Address;

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// One message, then silence.
#[derive(Default)]
pub(super) struct Endless {
    begun: bool,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.begun {
            return Poll::Pending;
        }
        self.begun = true;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"begun")))))
    }
}

pub(super) enum Connection {
    Old(conn::http1::SendRequest<Body>),
    New(conn::http2::SendRequest<Body>),
}

pub(super) async fn connect(address: &Address) -> Box<dyn Wire> {
    match address {
        Address::Tcp(address) => Box::new(tokio::net::TcpStream::connect(address).await.unwrap()),
        Address::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await.unwrap()),
    }
}

pub(super) async fn http1(wire: impl Wire) -> Connection {
    let (sender, connection) = conn::http1::handshake(TokioIo::new(wire)).await.unwrap();
    tokio::spawn(connection);
    Connection::Old(sender)
}

pub(super) async fn http2(wire: impl Wire) -> Connection {
    let made = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await;
    let (sender, connection) = made.unwrap();
    tokio::spawn(connection);
    Connection::New(sender)
}

impl Connection {
    pub(super) async fn try_get(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = |target: String| {
            Request::builder()
                .uri(target)
                .header("host", "test")
                .body(Body::empty())
                .unwrap()
        };
        match self {
            Connection::Old(sender) => sender.send_request(request(path.to_owned())).await,
            Connection::New(sender) => {
                sender.ready().await?;
                let mut request = request(format!("http://test{path}"));
                *request.version_mut() = Version::HTTP_2;
                sender.send_request(request).await
            }
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.try_get(path).await.unwrap()
    }

    /// Sends a request and drops it once it is on its way.
    pub(super) async fn start_and_cancel(&mut self, path: &str) {
        tokio::select! {
            biased;
            answer = self.try_get(path) => panic!("answered: {answer:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
}

pub(super) async fn body_text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
