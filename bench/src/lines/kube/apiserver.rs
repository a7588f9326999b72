//! The kube-apiserver: its keys, its token, its process.
//!
//! Invariant: it is gone before its store is; a store that is asked to stop waits for it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;

use super::client::KubeClient;
use crate::failure::Failure;
use crate::tls;

/// The bearer token of a member of system:masters.
const TOKEN: &str = "bench-token";
/// Pause between two looks at whether it is ready.
const READY_POLL: Duration = Duration::from_millis(200);
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Its hooks after the start go on for some seconds once it calls itself ready.
const SETTLE: Duration = Duration::from_secs(5);

/// A running kube-apiserver; killed when dropped.
pub struct Apiserver {
    child: Child,
    address: String,
    certificate: PathBuf,
}

impl Apiserver {
    /// Starts it on the store at `endpoint` and waits until it is ready. `home` takes its files.
    ///
    /// # Errors
    /// When it ends or is not ready in time; its log is then in `home`.
    pub async fn start(binary: &Path, endpoint: &str, home: &Path) -> Result<Apiserver, Failure> {
        let home = home.join("apiserver");
        let certificates = home.join("certificates");
        fs::create_dir_all(&home)?;
        let (key, public, tokens) = (
            home.join("sa.key"),
            home.join("sa.pub"),
            home.join("tokens"),
        );
        let pair = rcgen::KeyPair::generate()
            .map_err(|error| Failure::Transport(format!("no key: {error}")))?;
        fs::write(&key, pair.serialize_pem())?;
        fs::write(&public, pair.public_key_pem())?;
        fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::File::create(home.join("log"))?;
        let path = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let child = Command::new(binary)
            .arg(format!("--etcd-servers=http://{endpoint}"))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(path("service-account-key-file", &public))
            .arg(path("service-account-signing-key-file", &key))
            .arg(path("cert-dir", &certificates))
            .arg(path("token-auth-file", &tokens))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--secure-port={port}"))
            .arg("--authorization-mode=RBAC")
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            // No controller makes the service account that a pod would need.
            .arg("--disable-admission-plugins=ServiceAccount")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::Refused(format!("{}: {error}", binary.display())))?;
        let mut apiserver = Apiserver {
            child,
            address: format!("127.0.0.1:{port}"),
            certificate: certificates.join("apiserver.crt"),
        };
        apiserver.wait().await?;
        Ok(apiserver)
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let last = match self.connect().await {
                Ok(client) => client.call(Method::GET, "/readyz", None).await,
                Err(failure) => Err(failure),
            };
            let Err(failure) = last else { break };
            let ended = self.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > READY_TIMEOUT {
                let how = ended.map_or("is not ready".to_owned(), |status| status.to_string());
                return Err(Failure::Refused(format!("kube-apiserver {how}: {failure}")));
            }
            tokio::time::sleep(READY_POLL).await;
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// A new connection to it.
    pub async fn connect(&self) -> Result<KubeClient, Failure> {
        let connector = tls::connector(&self.certificate, &[b"h2"])?;
        KubeClient::open(&self.address, &connector, TOKEN).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        // Either fails only when the process is gone already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
