//! Requests to a kube-apiserver over HTTP/2 with TLS and a token.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;

/// How much of a refusal is shown.
const REFUSAL_CHARACTERS: usize = 200;

/// A connection; clones share it.
#[derive(Clone)]
pub struct KubeClient {
    sender: SendRequest<Bytes>,
    address: String,
    token: &'static str,
}

impl KubeClient {
    /// Connects to `host:port`.
    pub async fn open(
        address: &str,
        connector: &TlsConnector,
        token: &'static str,
    ) -> Result<KubeClient, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Failure::Refused(format!("{host}: {error}")))?;
        let stream = connector.connect(name, stream).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // A broken connection shows itself in every call on it.
        drop(tokio::spawn(connection));
        Ok(KubeClient {
            sender,
            address: address.to_owned(),
            token,
        })
    }

    /// One request: the body of its answer.
    ///
    /// # Errors
    /// When the answer is no success.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(())
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(Bytes::from(body.to_string()), true)?;
        }
        let response = response.await?;
        let status = response.status();
        let mut answer = Vec::new();
        let mut chunks = response.into_body();
        while let Some(chunk) = chunks.data().await {
            let chunk = chunk?;
            chunks.flow_control().release_capacity(chunk.len())?;
            answer.extend_from_slice(&chunk);
        }
        if matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return Ok(Bytes::from(answer));
        }
        let text: String = String::from_utf8_lossy(&answer)
            .chars()
            .take(REFUSAL_CHARACTERS)
            .collect();
        Err(Failure::Wrong(format!("{path}: {status}: {text}")))
    }
}
