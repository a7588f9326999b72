//! TLS of the bench: a certificate for the servers that it starts, and clients that trust one file
//! and nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::failure::Failure;

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Transport(format!("TLS: {error}"))
}

/// Writes a new key and a certificate of `localhost` and the loopback address.
pub fn self_signed(certificate: &Path, key: &Path) -> Result<(), Failure> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(failed)?;
    fs::write(certificate, made.cert.pem())?;
    Ok(fs::write(key, made.signing_key.serialize_pem())?)
}

/// A client that trusts the certificates in a file, speaks these protocols, and makes every
/// handshake a full one.
pub fn connector(trusted: &Path, protocols: &[&[u8]]) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trusted).map_err(failed)? {
        roots.add(certificate.map_err(failed)?).map_err(failed)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}
