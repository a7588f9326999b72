//! TLS handshakes on a thread of their own.
//!
//! An RSA handshake costs 0.27 ms of CPU, more than a turn of the core loop may take (architecture,
//! section 2, idea 6). So a stream that may speak TLS leaves the I/O runtime, is sniffed and shaken
//! hands with here, and goes back.
//!
//! Owns: the thread `tls-handshake` with its runtime. Invariant: at most `HANDSHAKES_MAX` streams
//! are here; the oldest is cut when one more comes. Limits: `HANDSHAKES_MAX`, `HANDSHAKE_TIMEOUT`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rustls::ServerConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HEADER_READ_TIMEOUT};
use super::socket::{DetachedStream, Stream};
use crate::tls::ServerTls;

/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// What a stream turned out to be, on its way back to the I/O runtime.
pub(super) enum Shaken {
    Plain(DetachedStream),
    Tls(DetachedStream, Box<ServerConnection>),
}

/// A stream as it is served.
pub(super) enum Ready {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

struct Job {
    stream: DetachedStream,
    tls: Arc<ServerTls>,
    /// Plaintext is spoken on the same address.
    sniff: bool,
    answer: oneshot::Sender<io::Result<Shaken>>,
}

/// The way to the handshake thread.
#[derive(Clone)]
pub(super) struct Handshakes {
    jobs: mpsc::Sender<Job>,
}

impl Handshakes {
    /// Starts the thread; it ends when the last handle is gone. Errors: the thread or its runtime
    /// cannot be made.
    pub(super) fn start() -> io::Result<Handshakes> {
        Handshakes::with_limit(HANDSHAKES_MAX)
    }

    pub(super) fn with_limit(limit: usize) -> io::Result<Handshakes> {
        assert!(limit > 0, "a handshake must be allowed");
        let (jobs, inbox) = mpsc::channel(limit);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("tls-handshake".to_owned())
            .spawn(move || runtime.block_on(run(inbox, limit)))?;
        Ok(Handshakes { jobs })
    }

    /// Sniffs if asked to, shakes hands if it is TLS. Errors: the peer failed or dawdled, or was
    /// the oldest of too many.
    pub(super) async fn shake(
        &self,
        stream: Stream,
        tls: Arc<ServerTls>,
        sniff: bool,
    ) -> io::Result<Ready> {
        let (answer, shaken) = oneshot::channel();
        let job = Job {
            stream: stream.detach()?,
            tls: tls.clone(),
            sniff,
            answer,
        };
        let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "handshake was cut");
        self.jobs.send(job).await.map_err(|_| gone())?;
        match shaken.await.map_err(|_| gone())?? {
            Shaken::Plain(stream) => Ok(Ready::Plain(stream.attach()?)),
            Shaken::Tls(stream, session) => {
                // tokio-rustls makes its stream only by accepting: we hand it the finished session,
                // and it finds nothing left to shake.
                let acceptor = TlsAcceptor::from(tls.current());
                let accept = acceptor.accept_with(stream.attach()?, |fresh| *fresh = *session);
                Ok(Ready::Tls(Box::new(accept.await?)))
            }
        }
    }
}

async fn run(mut inbox: mpsc::Receiver<Job>, limit: usize) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(limit);
    while let Some(job) = inbox.recv().await {
        if open.len() >= limit {
            open.retain(|task| !task.is_finished());
        }
        if open.len() >= limit
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        assert!(open.len() < limit, "more handshakes than allowed");
        open.push_back(tokio::spawn(perform(job)));
    }
}

async fn perform(job: Job) {
    let Job {
        stream,
        tls,
        sniff,
        answer,
    } = job;
    let outcome = shake_here(stream, &tls, sniff).await;
    if answer.send(outcome).is_err() {
        tracing::debug!("a stream was given up while it shook hands");
    }
}

async fn shake_here(stream: DetachedStream, tls: &ServerTls, sniff: bool) -> io::Result<Shaken> {
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long");
    let stream = stream.attach()?;
    if sniff {
        let first = tokio::time::timeout(HEADER_READ_TIMEOUT, stream.peek()).await;
        match first.map_err(timed_out)?? {
            Some(TLS_HANDSHAKE_RECORD) => {}
            Some(_) => return Ok(Shaken::Plain(stream.detach()?)),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    let acceptor = TlsAcceptor::from(tls.refreshed());
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let (stream, session) = shaken.map_err(timed_out)??.into_inner();
    Ok(Shaken::Tls(stream.detach()?, Box::new(session)))
}
