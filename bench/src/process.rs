//! A server that the bench starts itself: the same flags for every store, a fresh data directory,
//! loopback ports of its own, killed when the bench is done with it.
//!
//! Invariant: a server whose fsync is off, or whose directory lies in memory, is never started.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvproto::etcdserverpb::{RangeRequest, RangeResponse};

use crate::connection::{Connection, Method};
use crate::failure::Failure;
use crate::procfs;
use crate::tls;

/// Room for the largest run; both stores refuse writes above it.
const QUOTA_BYTES: u64 = 32 << 30;
/// Pause between two attempts to reach a server that is starting.
const START_POLL: Duration = Duration::from_millis(1);
/// A server that does not answer by then has failed.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How much of the server's log an error shows.
const LOG_TAIL_LINES: usize = 5;

/// How to start a store.
#[derive(Clone, Debug)]
pub struct Launch {
    pub binary: PathBuf,
    pub extra_flags: Vec<String>,
    /// Holds the data directory and the server's log; made by [`Launch::start`].
    pub home: PathBuf,
    environment: Vec<(String, String)>,
    client_port: u16,
    tls_port: u16,
    peer_port: u16,
}

impl Launch {
    /// Prepares a start in `parent`, in a directory that no other run uses, with these variables
    /// beside those of the bench.
    ///
    /// # Errors
    /// When they turn fsync off, or when the directory lies in memory.
    pub fn new(
        binary: &Path,
        extra_flags: &[String],
        environment: &[(String, String)],
        parent: &Path,
    ) -> Result<Launch, Failure> {
        // Variables of etcd's are taken away from the server; others reach it.
        let all: Vec<String> = std::env::vars()
            .filter(|(name, _)| !name.starts_with("ETCD_"))
            .chain(environment.iter().cloned())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if let Some(reason) = procfs::fsync_off_by(extra_flags, &all) {
            return Err(Failure::Refused(format!(
                "a server whose fsync is off: {reason}"
            )));
        }
        fs::create_dir_all(parent)?;
        let kind = procfs::file_system(parent)?;
        if matches!(kind.as_str(), "tmpfs" | "ramfs") {
            let parent = parent.display();
            return Err(Failure::Refused(format!(
                "{parent} lies in memory ({kind}): name a disk"
            )));
        }
        // Held together, so that they differ.
        let client = TcpListener::bind("127.0.0.1:0")?;
        let tls = TcpListener::bind("127.0.0.1:0")?;
        let peer = TcpListener::bind("127.0.0.1:0")?;
        let client_port = client.local_addr()?.port();
        Ok(Launch {
            binary: binary.to_owned(),
            extra_flags: extra_flags.to_vec(),
            home: parent.join(format!("bench-{}-{client_port}", std::process::id())),
            environment: environment.to_vec(),
            client_port,
            tls_port: tls.local_addr()?.port(),
            peer_port: peer.local_addr()?.port(),
        })
    }

    /// `host:port` of the client listener.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// `host:port` of the client listener with TLS.
    pub fn tls_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.tls_port)
    }

    /// What trusts the certificate of the server, and takes up no session again.
    pub fn tls_connector(&self) -> Result<tokio_rustls::TlsConnector, Failure> {
        tls::connector(&self.certificate_path(), &[])
    }

    fn certificate_path(&self) -> PathBuf {
        self.home.join("server.crt")
    }

    fn key_path(&self) -> PathBuf {
        self.home.join("server.key")
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// Starts the server on its directory, as it is, and waits for its first answered read.
    /// Returns how long that took.
    pub async fn start(&self) -> Result<(ServerProcess, Duration), Failure> {
        fs::create_dir_all(&self.home)?;
        if !self.certificate_path().exists() {
            tls::self_signed(&self.certificate_path(), &self.key_path())?;
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let (client, peer) = (
            format!("http://127.0.0.1:{}", self.client_port),
            format!("http://127.0.0.1:{}", self.peer_port),
        );
        let with_tls = format!("https://{}", self.tls_endpoint());
        let mut command = Command::new(&self.binary);
        command
            .arg("--name=bench")
            .arg(format!("--data-dir={}", self.home.join("data").display()))
            .arg(format!("--listen-client-urls={client},{with_tls}"))
            .arg(format!("--cert-file={}", self.certificate_path().display()))
            .arg(format!("--key-file={}", self.key_path().display()))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=bench={peer}"))
            .arg(format!("--quota-backend-bytes={QUOTA_BYTES}"))
            .arg("--log-level=warn")
            .args(&self.extra_flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCD_")) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let begin = Instant::now();
        let child = command.spawn().map_err(|error| {
            Failure::Refused(format!("cannot start {}: {error}", self.binary.display()))
        })?;
        let mut server = ServerProcess { child };
        loop {
            if read_once(&self.endpoint()).await.is_ok() {
                return Ok((server, begin.elapsed()));
            }
            let ended = server.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > START_TIMEOUT {
                let tail = self.log_tail();
                let what = ended.map_or("does not answer".to_owned(), |status| status.to_string());
                return Err(Failure::Refused(format!(
                    "{}: {what}\n{tail}",
                    self.binary.display()
                )));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Removes the directory. The server must be gone.
    pub fn remove(&self) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(&self.home)?)
    }
}

/// One linearizable read on a connection of its own.
async fn read_once(endpoint: &str) -> Result<(), Failure> {
    let connection = Connection::open(endpoint).await?;
    let request = RangeRequest {
        key: Bytes::from_static(b"/"),
        ..RangeRequest::default()
    };
    connection
        .unary::<RangeResponse>(Method::Range, &request)
        .await
        .map(|_| ())
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
}

impl ServerProcess {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Either fails only when the process is gone already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(flags: &[&str], environment: &[(&str, &str)], parent: &Path) -> bool {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        match Launch::new(Path::new("store"), &flags, &environment, parent) {
            Ok(_) => true,
            Err(Failure::Refused(_)) => false,
            Err(other) => panic!("another failure: {other}"),
        }
    }

    #[test]
    fn a_server_without_fsync_or_disk_is_refused() {
        let disk = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(prepared(&[], &[("A", "b")], disk));
        assert!(!prepared(&["--unsafe-no-fsync"], &[], disk));
        assert!(!prepared(&[], &[("ETCD_UNSAFE_NO_FSYNC", "true")], disk));
        assert!(!prepared(&[], &[], Path::new("/dev/shm")));
    }
}
