//! TLS: ALPN, client certificates, rotation, both protocols on one port, and streams that never
//! speak.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::handshake::Handshakes;
use crate::tls::TlsOptions;

/// An authority and files signed by it.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let der = certificate.der().clone();
        Authority {
            directory,
            issuer: Issuer::new(params, key),
            certificate: der,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `name.pem` and `name-key.pem`.
    fn sign(&self, name: &str, common_name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }

    fn options(&self) -> TlsOptions {
        let (cert_file, key_file) = (self.path("server.pem"), self.path("server-key.pem"));
        TlsOptions {
            cert_file,
            key_file,
            ..TlsOptions::default()
        }
    }

    fn client(&self, identity: Option<&str>, protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let read = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
                let key =
                    PrivateKeyDer::from_pem_file(self.path(&format!("{name}-key.pem"))).unwrap();
                let chain = vec![read(&self.path(&format!("{name}.pem")))];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsConnector::from(Arc::new(config))
    }
}

fn serve(urls: &[&str], tls: TlsOptions) -> Served {
    let client_urls = urls.iter().map(|text| url(text)).collect();
    Served::start(&ListenOptions {
        client_urls,
        client_tls: Some(tls),
        ..ListenOptions::default()
    })
}

async fn dial(
    client: &TlsConnector,
    address: &Address,
) -> io::Result<TlsStream<tokio::net::TcpStream>> {
    let Address::Tcp(address) = address else {
        panic!("not a TCP address")
    };
    let stream = tokio::net::TcpStream::connect(address).await?;
    client
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

#[tokio::test]
async fn alpn_chooses_the_version() {
    let authority = Authority::new();
    authority.sign("server", "server");
    let served = serve(&["https://127.0.0.1:0"], authority.options());
    let stream = dial(&authority.client(None, &["h2"]), &served.address)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut new = http2(stream).await;
    assert_eq!(body_text(new.get("/version").await).await, "HTTP/2.0");
    let stream = dial(&authority.client(None, &["http/1.1"]), &served.address)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut old = http1(stream).await;
    assert_eq!(body_text(old.get("/version").await).await, "HTTP/1.1");
    let peer = body_text(old.get("/peer").await).await;
    assert!(
        peer.contains("tls: true") && peer.contains("common_name: None"),
        "{peer}"
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_asked_for() {
    let authority = Authority::new();
    authority.sign("server", "server");
    authority.sign("client", "kube-apiserver-etcd-client");
    let trusted_ca_file = Some(authority.path("ca.pem"));
    let options = TlsOptions {
        trusted_ca_file,
        client_cert_auth: true,
        ..authority.options()
    };
    let served = serve(&["https://127.0.0.1:0"], options.clone());
    let mut known = http2(
        dial(&authority.client(Some("client"), &["h2"]), &served.address)
            .await
            .unwrap(),
    )
    .await;
    let peer = body_text(known.get("/peer").await).await;
    assert!(peer.contains("kube-apiserver-etcd-client"), "{peer}");
    // With TLS 1.3 the client learns of the refusal at its first read.
    let refused = dial(&authority.client(None, &["h2"]), &served.address).await;
    if let Ok(mut stream) = refused {
        assert!(stream.read_u8().await.is_err());
    }
    let allowed_hostnames = vec!["elsewhere".to_owned()];
    let served = serve(
        &["https://127.0.0.1:0"],
        TlsOptions {
            allowed_hostnames,
            ..options
        },
    );
    let refused = dial(&authority.client(Some("client"), &["h2"]), &served.address).await;
    if let Ok(mut stream) = refused {
        assert!(stream.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn certificates_on_disk_are_followed() {
    let authority = Authority::new();
    authority.sign("server", "first");
    let served = serve(&["https://127.0.0.1:0"], authority.options());
    let client = authority.client(None, &["h2"]);
    let name = async || {
        let stream = dial(&client, &served.address).await.unwrap();
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        crate::tls::certificate::common_name(&leaf).unwrap()
    };
    assert_eq!(name().await, "first");
    authority.sign("server", "second");
    assert_eq!(name().await, "second");
    // Half of a rotation: the certificate before stays in use.
    std::fs::write(authority.path("server.pem"), "nothing").unwrap();
    assert_eq!(name().await, "second");
    authority.sign("server", "third");
    assert_eq!(name().await, "third");
}

#[tokio::test]
async fn plain_and_tls_share_a_port() {
    let authority = Authority::new();
    authority.sign("server", "server");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let urls = [format!("http://{free}"), format!("https://{free}")];
    let served = serve(&[&urls[0], &urls[1]], authority.options());
    let mut plain = http2(connect(&served.address).await).await;
    assert_eq!(body_text(plain.get("/version").await).await, "HTTP/2.0");
    let mut secure = http1(
        dial(&authority.client(None, &["http/1.1"]), &served.address)
            .await
            .unwrap(),
    )
    .await;
    let peer = body_text(secure.get("/peer").await).await;
    assert!(peer.contains("tls: true"), "{peer}");
}

#[tokio::test]
async fn the_oldest_silent_stream_makes_room() {
    const LIMIT: usize = 4;
    let authority = Authority::new();
    authority.sign("server", "server");
    let tls = ServerTls::open(&authority.options()).unwrap();
    let handshakes = Handshakes::with_limit(LIMIT).unwrap();
    let socket = Bound::new(
        &Address::Tcp("127.0.0.1:0".parse().unwrap()),
        SocketOptions::default(),
    )
    .unwrap();
    let listener = accept::Listener {
        socket,
        plain: false,
        secure: true,
    };
    let group = ListenerGroup::new(
        vec![listener],
        Some((tls, handshakes)),
        100,
        ConnectionOptions::default(),
    );
    let address = group.addresses().unwrap().remove(0);
    tokio::spawn(group.serve(router(), std::future::pending()));
    let mut silent = Vec::new();
    for _ in 0..2 * LIMIT {
        silent.push(connect(&address).await);
    }
    let mut honest = http2(
        dial(&authority.client(None, &["h2"]), &address)
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(body_text(honest.get("/version").await).await, "HTTP/2.0");
    // Those before the last LIMIT were cut: they end, or are reset.
    for stream in silent.iter_mut().take(LIMIT) {
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
    assert!(silent.last_mut().unwrap().write_all(b"\x16").await.is_ok());
}

#[test]
fn a_bad_file_is_named() {
    let authority = Authority::new();
    authority.sign("server", "server");
    let missing = TlsOptions {
        cert_file: authority.path("missing.pem"),
        ..authority.options()
    };
    let text = ServerTls::open(&missing).unwrap_err().to_string();
    assert!(text.contains("missing.pem"), "{text}");
    let swapped = TlsOptions {
        key_file: authority.path("server.pem"),
        ..authority.options()
    };
    let text = ServerTls::open(&swapped).unwrap_err().to_string();
    assert!(
        text.contains("server.pem") && text.contains("private key"),
        "{text}"
    );
    authority.sign("other", "other");
    let foreign = TlsOptions {
        key_file: authority.path("other-key.pem"),
        ..authority.options()
    };
    assert!(
        ServerTls::open(&foreign)
            .unwrap_err()
            .to_string()
            .contains("other-key.pem")
    );
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_once_and_serves() {
    let directory = tempfile::tempdir().unwrap();
    let ensure = || {
        crate::tls::self_signed::ensure(
            directory.path(),
            &["127.0.0.1".to_owned()],
            1,
            SystemTime::now(),
        )
    };
    let (cert_file, key_file) = ensure().unwrap();
    let first = std::fs::read(&cert_file).unwrap();
    ensure().unwrap();
    assert_eq!(std::fs::read(&cert_file).unwrap(), first);
    let options = TlsOptions {
        cert_file,
        key_file,
        ..TlsOptions::default()
    };
    assert!(ServerTls::open(&options).is_ok());
}
