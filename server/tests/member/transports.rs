//! The same put and get over each kind of socket, and HTTP beside it (contract 3.3).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use kvproto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use super::client::{self, Client};
use super::running::{InProcess, flags, free_port, until_listening};

async fn put_and_get(client: &mut Client) {
    let put = PutRequest {
        key: "name".into(),
        value: "sternpost".into(),
        ..Default::default()
    };
    let answer: PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await.unwrap();
    assert_eq!(answer.header.unwrap().revision, 2);
    let range = RangeRequest {
        key: "name".into(),
        ..Default::default()
    };
    let path = "/etcdserverpb.KV/Range";
    let answer: RangeResponse = client.unary(path, &range).await.unwrap();
    assert_eq!(answer.count, 1);
    assert_eq!(&answer.kvs[0].value[..], b"sternpost");
    assert_eq!(answer.kvs[0].mod_revision, 2);
}

/// What probes and scrapers ask on the client port.
async fn plain_endpoints(client: &mut Client) {
    let health = (
        StatusCode::OK,
        "{\"health\":\"true\",\"reason\":\"\"}".to_owned(),
    );
    assert_eq!(client.get("/health").await, health);
    assert_eq!(
        client.get("/readyz").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    let (status, version) = client.get("/version").await;
    assert_eq!(status, StatusCode::OK);
    assert!(version.contains("\"etcdserver\":\"3.7.3\""), "{version}");
    let (status, page) = client.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("\netcd_mvcc_put_total 1\n"), "{page}");
}

#[tokio::test]
async fn plaintext_and_metrics_urls() {
    let directory = tempfile::tempdir().unwrap();
    let (port, metrics_port) = (free_port(), free_port());
    let mut flags = flags(directory.path(), &format!("http://127.0.0.1:{port}"));
    flags.push(format!(
        "--listen-metrics-urls=http://127.0.0.1:{metrics_port}"
    ));
    let member = InProcess::start(&flags);
    until_listening(port);
    let mut client = Client::tcp(port).await;
    put_and_get(&mut client).await;
    plain_endpoints(&mut client).await;
    for port in [port, metrics_port] {
        assert_eq!(client::get(port, "/readyz").await.0, StatusCode::OK);
        assert_eq!(client::get(port, "/livez").await.0, StatusCode::OK);
        assert_eq!(client::get(port, "/health").await.0, StatusCode::OK);
        let (_, page) = client::get(port, "/metrics").await;
        assert!(page.contains("\netcd_mvcc_put_total 1\n"), "{page}");
    }
    // Contract 3.2: the version is told on the client port only.
    assert_eq!(client::get(port, "/version").await.0, StatusCode::OK);
    assert_eq!(
        client::get(metrics_port, "/version").await.0,
        StatusCode::NOT_FOUND
    );
    member.stop();
}

#[tokio::test]
async fn unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("etcd.sock");
    let url = format!("unix://{}", socket.display());
    let member = InProcess::start(&flags(&directory.path().join("data"), &url));
    while UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut client = Client::unix(&socket).await;
    put_and_get(&mut client).await;
    plain_endpoints(&mut client).await;
    member.stop();
}

#[tokio::test]
async fn tls() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let port = free_port();
    let url = format!("https://127.0.0.1:{port}");
    let mut flags = flags(&directory.path().join("data"), &url);
    flags.extend(authority.server_flags());
    let member = InProcess::start(&flags);
    until_listening(port);
    let mut client = Client::tls(port, &authority.connector(None)).await;
    put_and_get(&mut client).await;
    plain_endpoints(&mut client).await;
    member.stop();
}

#[tokio::test]
async fn mutual_tls() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let port = free_port();
    let url = format!("https://127.0.0.1:{port}");
    let mut flags = flags(&directory.path().join("data"), &url);
    flags.extend(authority.server_flags());
    flags.push("--client-cert-auth".to_owned());
    flags.push(format!(
        "--trusted-ca-file={}",
        authority.path("ca.pem").display()
    ));
    let member = InProcess::start(&flags);
    until_listening(port);

    // In TLS 1.3 the refusal comes after the client's part of the handshake.
    let mut stranger = Client::tls(port, &authority.connector(None)).await;
    let range = RangeRequest::default();
    let path = "/etcdserverpb.KV/Range";
    let refused = stranger.try_unary::<RangeResponse>(path, &range).await;
    assert!(
        refused.is_err(),
        "served without a certificate: {refused:?}"
    );

    let mut client = Client::tls(port, &authority.connector(Some("client"))).await;
    put_and_get(&mut client).await;
    plain_endpoints(&mut client).await;
    member.stop();
}

/// `--client-crl-file` (contract 3.3): the serial in the list is refused, another is served.
/// The list is read at each handshake, so a certificate can be revoked while the member runs.
#[tokio::test]
async fn a_revoked_client_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    authority.revoke(&["revoked"]);
    let port = free_port();
    let url = format!("https://127.0.0.1:{port}");
    let mut flags = flags(&directory.path().join("data"), &url);
    flags.extend(authority.server_flags());
    flags.push("--client-cert-auth".to_owned());
    for (flag, file) in [
        ("trusted-ca-file", "ca.pem"),
        ("client-crl-file", "crl.der"),
    ] {
        flags.push(format!("--{flag}={}", authority.path(file).display()));
    }
    let member = InProcess::start(&flags);
    until_listening(port);
    assert!(!is_served(port, &authority, "revoked").await);
    let mut client = Client::tls(port, &authority.connector(Some("client"))).await;
    put_and_get(&mut client).await;
    authority.revoke(&["revoked", "client"]);
    assert!(!is_served(port, &authority, "client").await);
    member.stop();
}

/// Whether a new connection that shows this certificate is answered.
async fn is_served(port: u16, authority: &Authority, identity: &str) -> bool {
    let mut client = Client::tls(port, &authority.connector(Some(identity))).await;
    let request = RangeRequest {
        key: "name".into(),
        ..Default::default()
    };
    let path = "/etcdserverpb.KV/Range";
    let answer = client.try_unary::<RangeResponse>(path, &request).await;
    answer.is_ok()
}

#[tokio::test]
async fn tls_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let socket = directory.path().join("etcd.sock");
    let url = format!("unixs://{}", socket.display());
    let mut flags = flags(&directory.path().join("data"), &url);
    flags.extend(authority.server_flags());
    let member = InProcess::start(&flags);
    while UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut client = Client::unix_tls(&socket, &authority.connector(None)).await;
    put_and_get(&mut client).await;
    plain_endpoints(&mut client).await;
    member.stop();
}

/// An authority, and a certificate by it for each side, as files.
struct Authority {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom the authority has certified; the serial number tells the place in the list.
const NAMES: [&str; 3] = ["server", "client", "revoked"];

impl Authority {
    fn new(directory: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let authority = Authority {
            directory: directory.to_owned(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        };
        std::fs::write(authority.path("ca.pem"), certificate.pem()).unwrap();
        for name in NAMES {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.serial_number = Some(serial(name));
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority.issuer).unwrap();
            let files = [
                (format!("{name}.pem"), certificate.pem()),
                (format!("{name}-key.pem"), key.serialize_pem()),
            ];
            for (file, text) in files {
                std::fs::write(authority.path(&file), text).unwrap();
            }
        }
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes the list of these certificates, as Go's tools do: one list in DER.
    fn revoke(&self, names: &[&str]) {
        let revoked = names.iter().map(|name| RevokedCertParams {
            serial_number: serial(name),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2126, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        std::fs::write(self.path("crl.der"), list.der()).unwrap();
    }

    fn server_flags(&self) -> [String; 2] {
        [
            format!("--cert-file={}", self.path("server.pem").display()),
            format!("--key-file={}", self.path("server-key.pem").display()),
        ]
    }

    fn connector(&self, identity: Option<&str>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let path = self.path(&format!("{name}.pem"));
                let chain = vec![CertificateDer::from_pem_file(path).unwrap()];
                let path = self.path(&format!("{name}-key.pem"));
                let key = PrivateKeyDer::from_pem_file(path).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

fn serial(name: &str) -> SerialNumber {
    let place = NAMES.iter().position(|known| *known == name).unwrap();
    SerialNumber::from(100 + place as u64)
}
