//! One HTTP/2 connection to an etcd endpoint, on the `h2` crate alone: no tower, no tonic, no
//! boxed futures, so that the load generator stays well below the cost of the server it measures.
//!
//! Limits: plaintext only; frames of 16 KiB as grpc-go receives them; a stream window of
//! [`STREAM_WINDOW_BYTES`].

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method as HttpMethod, Request};
use prost::Message;
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::frames::{FieldCounter, MessageBuffer, frame};

/// Receive window of one stream: several round trips of a large list.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Receive window of one connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// The calls that the bench makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Range,
    RangeStream,
    Put,
    Transaction,
    Compact,
    Watch,
    LeaseGrant,
    LeaseKeepAlive,
    Status,
}

/// In the order of [`Method`].
const PATHS: [&str; 9] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Maintenance/Status",
];

/// A connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    templates: std::sync::Arc<[Request<()>]>,
}

impl Connection {
    /// Connects to `host:port`. The connection ends when its last clone is dropped.
    pub async fn open(endpoint: &str) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // A broken connection shows itself in every call on it.
        drop(tokio::spawn(connection));
        let templates = PATHS
            .iter()
            .map(|path| template(endpoint, path))
            .collect::<Result<_, _>>();
        let templates =
            templates.map_err(|error| Failure::Refused(format!("{endpoint}: {error}")))?;
        Ok(Connection { sender, templates })
    }

    async fn request(
        &self,
        method: Method,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        let request = self
            .templates
            .get(method as usize)
            .expect("a template for every method");
        let mut sender = self.sender.clone().ready().await?;
        Ok(sender.send_request(request.clone(), end)?)
    }

    async fn answer(&self, method: Method, request: Bytes) -> Result<RecvStream, Failure> {
        let (response, mut stream) = self.request(method, false).await?;
        stream.send_data(request, true)?;
        begun(response).await
    }

    /// A unary call with a framed request: the bytes of the answer's message.
    async fn unary_bytes(&self, method: Method, request: Bytes) -> Result<Bytes, Failure> {
        let mut body = self.answer(method, request).await?;
        let mut buffer = MessageBuffer::default();
        while let Some(chunk) = next_chunk(&mut body).await? {
            buffer.push(chunk);
        }
        ended(&mut body).await?;
        let missing = || Failure::Wrong("OK without a message".to_owned());
        buffer.take()?.ok_or_else(missing)
    }

    /// A unary call.
    pub async fn unary<R: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<R, Failure> {
        Ok(R::decode(self.unary_bytes(method, frame(request)).await?)?)
    }

    /// A unary or server-streaming call whose answer is counted, not kept.
    pub async fn count(
        &self,
        method: Method,
        request: Bytes,
        mut counter: FieldCounter,
    ) -> Result<FieldCounter, Failure> {
        let mut body = self.answer(method, request).await?;
        while let Some(chunk) = next_chunk(&mut body).await? {
            counter.push(&chunk)?;
        }
        ended(&mut body).await?;
        if !counter.is_between_messages() {
            return Err(Failure::Wrong(
                "the answer ends inside a message".to_owned(),
            ));
        }
        Ok(counter)
    }

    /// A call whose answer is read bit by bit.
    pub async fn read(&self, method: Method, request: Bytes) -> Result<Reading, Failure> {
        let body = self.answer(method, request).await?;
        Ok(Reading { body })
    }

    /// Opens a stream in both directions. The server need not answer before the first message.
    pub async fn duplex(&self, method: Method) -> Result<Duplex, Failure> {
        let (response, send) = self.request(method, false).await?;
        Ok(Duplex {
            send,
            response: Some(response),
            body: None,
            buffer: MessageBuffer::default(),
        })
    }
}

/// An answer that is being read; dropping it resets the stream.
pub struct Reading {
    body: RecvStream,
}

impl Reading {
    /// Reads until so many bytes have come, and leaves the rest to the windows.
    ///
    /// # Errors
    /// When the answer ends before.
    pub async fn read_up_to(&mut self, bytes: u64) -> Result<(), Failure> {
        let mut seen = 0;
        while seen < bytes {
            let Some(chunk) = next_chunk(&mut self.body).await? else {
                ended(&mut self.body).await?;
                return Err(Failure::Wrong(format!(
                    "{seen} bytes where {bytes} are due"
                )));
            };
            seen += chunk.len() as u64;
        }
        Ok(())
    }
}

/// A stream in both directions; dropping it resets it.
pub struct Duplex {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    buffer: MessageBuffer,
}

impl Duplex {
    /// Sends a framed message. What the window does not take yet is buffered.
    pub fn send(&mut self, message: Bytes) -> Result<(), Failure> {
        Ok(self.send.send_data(message, false)?)
    }

    /// The next message. The end of the stream is an error: nothing here ends on its own.
    pub async fn next<R: Message + Default>(&mut self) -> Result<R, Failure> {
        loop {
            if let Some(message) = self.buffer.take()? {
                return Ok(R::decode(message)?);
            }
            let chunk = self.chunk().await?;
            self.buffer.push(chunk);
        }
    }

    /// The next bytes of the body, whatever they hold, past those in [`Duplex::take_rest`].
    pub async fn chunk(&mut self) -> Result<Bytes, Failure> {
        if let Some(response) = self.response.take() {
            self.body = Some(begun(response).await?);
        }
        let gone = || Failure::Wrong("the stream is over".to_owned());
        let body = self.body.as_mut().ok_or_else(gone)?;
        match next_chunk(body).await? {
            Some(chunk) => Ok(chunk),
            None => {
                ended(body).await?;
                Err(Failure::Wrong(
                    "the server ended the stream with OK".to_owned(),
                ))
            }
        }
    }

    /// What was received behind the last message taken.
    pub fn take_rest(&mut self) -> Bytes {
        self.buffer.take_rest()
    }
}

fn template(endpoint: &str, path: &str) -> Result<Request<()>, http::Error> {
    Request::builder()
        .method(HttpMethod::POST)
        .uri(format!("http://{endpoint}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
}

/// Waits for the head of the answer; an answer of trailers only is its status.
async fn begun(response: ResponseFuture) -> Result<RecvStream, Failure> {
    let response = response.await?;
    if response.status() != http::StatusCode::OK {
        return Err(Failure::Transport(format!(
            "HTTP status {}",
            response.status()
        )));
    }
    if response.headers().contains_key("grpc-status") {
        status(response.headers())?;
    }
    Ok(response.into_body())
}

async fn next_chunk(body: &mut RecvStream) -> Result<Option<Bytes>, Failure> {
    match body.data().await {
        Some(chunk) => {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            Ok(Some(chunk))
        }
        None => Ok(None),
    }
}

async fn ended(body: &mut RecvStream) -> Result<(), Failure> {
    match body.trailers().await? {
        Some(trailers) => status(&trailers),
        None => Err(Failure::Wrong(
            "the answer ends without a gRPC status".to_owned(),
        )),
    }
}

fn status(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse::<u32>().ok()) {
        Some(0) => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default().to_owned();
            Err(Failure::Status { code, message })
        }
        None => Err(Failure::Wrong("the answer has no gRPC status".to_owned())),
    }
}
