//! The accept loop of a group of listeners, its connection limit, and its shutdown.
//!
//! Owns: the group's permits (one per connection, held from before accept until the connection is
//! gone) and its phase. Invariant: when `serve` returns, every permit is back, so no connection of
//! the group is left.

use std::future::Future;
use std::io;
use std::sync::Arc;

use http_body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::address::Address;
use super::connection::{self, ConnectionOptions, Serve};
use super::handshake::{Handshakes, Ready};
use super::limits::{ACCEPT_PAUSE, DRAIN_TIMEOUT, HEADER_READ_TIMEOUT};
use super::peer_info::PeerInfo;
use super::socket::{Acceptor, Bound, Stream};
use crate::tls::{ServerTls, certificate};

/// A bound socket and what may be spoken on it.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Bound,
    pub(super) plain: bool,
    pub(super) secure: bool,
}

/// Listeners that serve the same thing and share one connection limit.
pub struct ListenerGroup {
    listeners: Vec<Listener>,
    tls: Option<(Arc<ServerTls>, Handshakes)>,
    connections_max: usize,
    options: ConnectionOptions,
}

impl std::fmt::Debug for ListenerGroup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ListenerGroup")
            .field("listeners", &self.listeners)
            .finish()
    }
}

/// How far shutdown has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Serving,
    /// Nothing new is accepted; what is open may finish.
    Draining,
    /// What is still open is dropped.
    Cut,
}

impl ListenerGroup {
    pub(super) fn new(
        listeners: Vec<Listener>,
        tls: Option<(Arc<ServerTls>, Handshakes)>,
        connections_max: usize,
        options: ConnectionOptions,
    ) -> ListenerGroup {
        assert!(
            listeners
                .iter()
                .all(|listener| listener.plain || listener.secure)
        );
        assert!(
            listeners
                .iter()
                .all(|listener| !listener.secure || tls.is_some())
        );
        ListenerGroup {
            listeners,
            tls,
            connections_max,
            options,
        }
    }

    /// Where the group listens, with the ports the kernel chose.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        self.listeners
            .iter()
            .map(|listener| listener.socket.local_address())
            .collect()
    }

    /// Whether no URL was given.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Whether any listener speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.listeners.iter().any(|listener| listener.secure)
    }

    /// Accepts and serves until `shutdown` resolves; then stops accepting, tells every client
    /// (GOAWAY), waits for at most `DRAIN_TIMEOUT` and cuts what is left. Must run inside a tokio
    /// runtime; connections stay on it. Errors: a socket cannot be registered with the runtime.
    pub async fn serve<S, B>(self, service: S, shutdown: impl Future<Output = ()>) -> io::Result<()>
    where
        S: Serve<B> + Sync,
        B: Body<Data: Send> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (phase, phases) = watch::channel(Phase::Serving);
        let permits = Arc::new(Semaphore::new(self.connections_max));
        let mut loops = JoinSet::new();
        for listener in self.listeners {
            let accepting = Accepting {
                plain: listener.plain,
                tls: self.tls.clone().filter(|_| listener.secure),
                acceptor: listener.socket.into_acceptor()?,
                options: self.options,
                permits: permits.clone(),
                phases: phases.clone(),
            };
            loops.spawn(accepting.run(service.clone()));
        }
        shutdown.await;
        phase.send_replace(Phase::Draining);
        while let Some(ended) = loops.join_next().await {
            ended.expect("an accept loop ends by itself and never panics");
        }
        let all = u32::try_from(self.connections_max).expect("at most CONNECTIONS_MAX");
        if tokio::time::timeout(DRAIN_TIMEOUT, permits.acquire_many(all))
            .await
            .is_err()
        {
            let open = self.connections_max - permits.available_permits();
            tracing::info!(
                connections = open,
                "cutting connections that did not end in time"
            );
        }
        phase.send_replace(Phase::Cut);
        let rest = permits.acquire_many(all).await;
        assert!(rest.is_ok(), "nobody closes the permits");
        Ok(())
    }
}

struct Accepting {
    acceptor: Acceptor,
    plain: bool,
    tls: Option<(Arc<ServerTls>, Handshakes)>,
    options: ConnectionOptions,
    permits: Arc<Semaphore>,
    phases: watch::Receiver<Phase>,
}

impl Accepting {
    async fn run<S, B>(self, service: S)
    where
        S: Serve<B> + Sync,
        B: Body<Data: Send> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut phases = self.phases.clone();
        let mut draining = std::pin::pin!(reached(&mut phases, Phase::Draining));
        loop {
            let accepted = tokio::select! {
                () = draining.as_mut() => return,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((permit, stream)) => {
                    let connection = self.connection(stream, service.clone());
                    let mut phases = self.phases.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = reached(&mut phases, Phase::Cut) => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for a permit first: beyond the limit, connections queue in the kernel.
    async fn accept(&self) -> io::Result<(OwnedSemaphorePermit, Stream)> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .expect("nobody closes the permits");
        Ok((permit, self.acceptor.accept().await?))
    }

    fn connection<S, B>(
        &self,
        stream: Stream,
        service: S,
    ) -> impl Future<Output = ()> + Send + use<S, B>
    where
        S: Serve<B> + Sync,
        B: Body<Data: Send> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (tls, plain, options) = (self.tls.clone(), self.plain, self.options);
        let mut phases = self.phases.clone();
        async move {
            let remote = stream.remote();
            // A connection that has not asked for anything yet is not waited for.
            let made = tokio::select! {
                made = make_ready(stream, tls, plain) => made,
                () = reached(&mut phases, Phase::Draining) => return,
            };
            let ready = match made {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!(?remote, %error, "rejected connection");
                    return;
                }
            };
            let stop = async move { reached(&mut phases, Phase::Draining).await };
            match ready {
                Ready::Plain(stream) => {
                    let peer = PeerInfo::new(remote, false, None);
                    let builder = connection::builder(options, false);
                    connection::serve(stream, peer, builder, service, stop).await;
                }
                Ready::Tls(stream) => {
                    let leaf = stream
                        .get_ref()
                        .1
                        .peer_certificates()
                        .and_then(<[_]>::first);
                    let name = leaf.map(|leaf| certificate::common_name(leaf).unwrap_or_default());
                    let builder = connection::builder(options, name.is_some());
                    let peer = PeerInfo::new(remote, true, name);
                    connection::serve(stream, peer, builder, service, stop).await;
                }
            }
        }
    }
}

async fn make_ready(
    stream: Stream,
    tls: Option<(Arc<ServerTls>, Handshakes)>,
    plain: bool,
) -> io::Result<Ready> {
    match tls {
        Some((tls, handshakes)) => handshakes.shake(stream, tls, plain).await,
        None => {
            tokio::time::timeout(HEADER_READ_TIMEOUT, stream.readable()).await??;
            Ok(Ready::Plain(stream))
        }
    }
}

async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    // A dropped sender means that `serve` itself was dropped: everything stops.
    if phases.wait_for(|now| *now >= phase).await.is_err() {
        tracing::debug!("the listeners were dropped while serving");
    }
}
