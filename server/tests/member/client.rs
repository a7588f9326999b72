//! A small gRPC and HTTP client over hyper: what a test needs, and nothing that
//! shares code with the server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// A gRPC status that is not OK: code and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub u16, pub String);

/// One HTTP/2 connection.
pub struct Client {
    sender: conn::http2::SendRequest<Body>,
}

impl Client {
    pub async fn tcp(port: u16) -> Client {
        Client::over(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await
    }

    pub async fn unix(path: &Path) -> Client {
        Client::over(UnixStream::connect(path).await.unwrap()).await
    }

    pub async fn tls(port: u16, connector: &TlsConnector) -> Client {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Client::over_tls(tcp, connector).await
    }

    pub async fn unix_tls(path: &Path, connector: &TlsConnector) -> Client {
        Client::over_tls(UnixStream::connect(path).await.unwrap(), connector).await
    }

    async fn over_tls(
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connector: &TlsConnector,
    ) -> Client {
        let name = "localhost".try_into().unwrap();
        let wire = connector.connect(name, socket).await.unwrap();
        assert_eq!(wire.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Client::over(wire).await
    }

    async fn over(wire: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
        let made = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await;
        let (sender, connection) = made.unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    /// A unary call; an error is the connection's.
    pub async fn try_unary<A: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> hyper::Result<Result<A, Refused>> {
        self.try_open(path, request).await?.finish().await
    }

    /// A unary call whose answer has begun; it waits to be read.
    pub async fn open(&mut self, path: &str, request: &impl Message) -> Unread {
        self.try_open(path, request).await.unwrap()
    }

    async fn try_open(&mut self, path: &str, request: &impl Message) -> hyper::Result<Unread> {
        self.sender.ready().await?;
        let request = grpc_request(path, Body::from(framed(request)));
        let response = self.sender.send_request(request).await?;
        assert_eq!(response.status(), StatusCode::OK);
        Ok(Unread(response))
    }

    /// A unary call on a connection that must hold.
    pub async fn unary<A: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Refused> {
        self.try_unary(path, request).await.unwrap()
    }

    /// Opens a stream in both directions.
    pub async fn stream(&mut self, path: &str) -> Stream {
        self.sender.ready().await.unwrap();
        let (requests, body) = mpsc::channel(8);
        let request = grpc_request(path, Body::new(Requests(body)));
        let response = self.sender.send_request(request).await.unwrap();
        Stream {
            requests,
            response,
            buffer: BytesMut::new(),
            messages: VecDeque::new(),
        }
    }

    /// A plain GET over HTTP/2.
    pub async fn get(&mut self, path: &str) -> (StatusCode, String) {
        self.sender.ready().await.unwrap();
        let request = Request::get(format!("http://localhost{path}"));
        let request = request.body(Body::empty()).unwrap();
        text(self.sender.send_request(request).await.unwrap()).await
    }
}

/// An answer that has begun.
pub struct Unread(Response<Incoming>);

impl Unread {
    /// Reads it to its end.
    pub async fn finish<A: Message + Default>(self) -> hyper::Result<Result<A, Refused>> {
        let headers = self.0.headers().clone();
        let collected = self.0.into_body().collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or(headers);
        let body = collected.to_bytes();
        Ok(match status(&trailers) {
            Some(refused) => Err(refused),
            None => Ok(A::decode(body.slice(5..)).unwrap()),
        })
    }
}

/// A plain GET over HTTP/1.1.
pub async fn get(port: u16, path: &str) -> (StatusCode, String) {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    text(sender.send_request(request).await.unwrap()).await
}

async fn text(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// A stream in both directions.
pub struct Stream {
    requests: mpsc::Sender<Bytes>,
    response: Response<Incoming>,
    buffer: BytesMut,
    messages: VecDeque<Bytes>,
}

impl Stream {
    pub async fn send(&self, request: &impl Message) {
        self.requests.send(framed(request)).await.unwrap();
    }

    /// The next message; the status when the stream has ended.
    pub async fn next<A: Message + Default>(&mut self) -> Result<A, Option<Refused>> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(A::decode(message).unwrap());
            }
            let frame = match self.response.body_mut().frame().await {
                Some(frame) => frame.unwrap(),
                None => return Err(status(self.response.headers())),
            };
            match frame.into_data() {
                Ok(data) => self.take(&data),
                Err(frame) => return Err(status(frame.trailers_ref().unwrap())),
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.buffer.put_slice(data);
        while let Some(prefix) = self.buffer.first_chunk::<5>() {
            let [_, a, b, c, d] = *prefix;
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if self.buffer.len() < 5 + length {
                return;
            }
            self.buffer.advance(5);
            self.messages
                .push_back(self.buffer.split_to(length).freeze());
        }
    }
}

/// A request body fed by hand.
struct Requests(mpsc::Receiver<Bytes>);

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = ready!(self.0.poll_recv(context));
        Poll::Ready(message.map(|message| Ok(Frame::data(message))))
    }
}

fn grpc_request(path: &str, body: Body) -> Request<Body> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

fn status(headers: &HeaderMap) -> Option<Refused> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap());
    let code = text("grpc-status").expect("every call ends with a status");
    let code: u16 = code.parse().unwrap();
    let message = text("grpc-message").unwrap_or("").replace("%20", " ");
    (code != 0).then_some(Refused(code, message))
}
