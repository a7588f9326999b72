//! Bound sockets and accepted streams: TCP and unix behind one type.
//!
//! Binding needs no runtime, so that a taken port is an error of the start-up; a bound socket
//! already queues connections in the kernel, which is what etcd's client port does before its
//! member is ready (contract 3.3).

use std::io;
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::address::Address;
use super::limits::LISTEN_BACKLOG;

/// A bound socket that nobody accepts from yet.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener, PathBuf),
}

/// Socket options of `--socket-reuse-port` and `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// SO_REUSEADDR. Go and we set it on every listener anyway; kept so that the flag has a place.
    pub reuse_address: bool,
}

impl Bound {
    pub(super) fn new(address: &Address, options: SocketOptions) -> io::Result<Bound> {
        match address {
            Address::Tcp(address) => {
                let socket = Socket::new(
                    Domain::for_address(*address),
                    Type::STREAM,
                    Some(Protocol::TCP),
                )?;
                socket.set_reuse_address(true)?;
                if options.reuse_port {
                    socket.set_reuse_port(true)?;
                }
                if address.is_ipv6() && address.ip().is_unspecified() {
                    socket.set_only_v6(false)?;
                }
                socket.set_nonblocking(true)?;
                socket.bind(&(*address).into())?;
                socket.listen(LISTEN_BACKLOG)?;
                Ok(Bound::Tcp(socket.into()))
            }
            Address::Unix(path) => {
                // A file left by a killed process would refuse the bind; the lock on the data
                // directory, taken before, is what keeps two members apart. etcd removes it as
                // well.
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let listener = unix::UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Bound::Unix(listener, path.clone()))
            }
        }
    }

    pub(super) fn local_address(&self) -> io::Result<Address> {
        match self {
            Bound::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Bound::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// Registers the socket with the runtime of the caller.
    pub(super) fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(match self {
            Bound::Tcp(listener) => Acceptor::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Bound::Unix(listener, path) => Acceptor::Unix(
                tokio::net::UnixListener::from_std(listener)?,
                SocketFile(path),
            ),
        })
    }
}

/// Removes the file of a unix socket when its listener is gone.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "socket file was gone already");
        }
    }
}

/// A listener registered with a runtime.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    /// With the file, which goes when the listener goes.
    #[allow(dead_code, reason = "the file is held for its Drop")]
    Unix(tokio::net::UnixListener, SocketFile),
}

impl Acceptor {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Acceptor::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream, remote))
            }
            Acceptor::Unix(listener, _file) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// An accepted stream, registered with the runtime that accepted it.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(tokio::net::TcpStream, std::net::SocketAddr),
    Unix(tokio::net::UnixStream),
}

/// The same stream between two runtimes.
#[derive(Debug)]
pub(super) enum DetachedStream {
    Tcp(std::net::TcpStream, std::net::SocketAddr),
    Unix(unix::UnixStream),
}

impl Stream {
    pub(super) fn remote(&self) -> Option<std::net::SocketAddr> {
        match self {
            Stream::Tcp(_, remote) => Some(*remote),
            Stream::Unix(_) => None,
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream, _) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    /// The first byte, left in the stream; None at its end. Only TCP can be asked: on a unix socket
    /// plain and TLS are never shared.
    pub(super) async fn peek(&self) -> io::Result<Option<u8>> {
        match self {
            Stream::Tcp(stream, _) => {
                let mut first = [0_u8; 1];
                let read = stream.peek(&mut first).await?;
                let [byte] = first;
                Ok((read == 1).then_some(byte))
            }
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes the stream from its runtime, so that another thread may register it.
    pub(super) fn detach(self) -> io::Result<DetachedStream> {
        Ok(match self {
            Stream::Tcp(stream, remote) => DetachedStream::Tcp(stream.into_std()?, remote),
            Stream::Unix(stream) => DetachedStream::Unix(stream.into_std()?),
        })
    }
}

impl DetachedStream {
    /// Registers the stream with the runtime of the caller.
    pub(super) fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            DetachedStream::Tcp(stream, remote) => {
                Stream::Tcp(tokio::net::TcpStream::from_std(stream)?, remote)
            }
            DetachedStream::Unix(stream) => Stream::Unix(tokio::net::UnixStream::from_std(stream)?),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
