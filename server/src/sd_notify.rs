//! Tells systemd that the server is ready (`Type=notify` units, contract 4.1).
//!
//! One datagram to the socket that systemd names in `NOTIFY_SOCKET`. Invariants, limits: none.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the server serves. Returns whether anyone wanted to know.
///
/// # Errors
/// The socket that systemd named cannot be written to.
pub fn ready() -> io::Result<bool> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(false);
    };
    send(name.as_bytes(), b"READY=1")?;
    Ok(true)
}

/// A name that begins with `@` is in Linux' abstract namespace.
fn send(name: &[u8], state: &[u8]) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_hear_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("sternpost-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let cases = [
            (
                path.to_str().unwrap().to_owned(),
                UnixDatagram::bind(&path).unwrap(),
            ),
            (
                format!("@{name}"),
                UnixDatagram::bind_addr(&abstract_address).unwrap(),
            ),
        ];
        for (name, socket) in cases {
            send(name.as_bytes(), b"READY=1").unwrap();
            let mut heard = [0; 16];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        assert!(send(b"/nonexistent/notify", b"READY=1").is_err());
    }
}
