//! Verification of client certificates: the CA file, revocation, and names that are allowed.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::{TlsError, TlsOptions, certificate, files};

/// What a client must show; None when it need not show anything.
pub(super) fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(ca_file) = &options.trusted_ca_file else {
        if options.client_cert_auth {
            return Err(TlsError::option(
                "--client-cert-auth",
                "needs --trusted-ca-file",
            ));
        }
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(ca_file, "trusted CA file")? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::file(ca_file, "trusted CA file", error))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if let Some(crl_file) = &options.crl_file {
        // etcd looks the serial up in the list and asks no more of it; a client of another issuer
        // is not refused.
        builder = builder
            .with_crls(files::revocation_lists(crl_file)?)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status();
    }
    let inner = builder.build().map_err(|error| {
        let path = options.crl_file.as_ref().unwrap_or(ca_file);
        TlsError::file(path, "client verification", error)
    })?;
    if options.allowed_hostnames.is_empty() && options.allowed_common_names.is_empty() {
        return Ok(Some(inner));
    }
    let hostnames: Result<Vec<_>, TlsError> = options.allowed_hostnames.iter().map(name).collect();
    let common_names = options.allowed_common_names.clone();
    Ok(Some(Arc::new(AllowedNames {
        inner,
        hostnames: hostnames?,
        common_names,
    })))
}

fn name(text: &String) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(text.clone()).map_err(|_| {
        TlsError::option(
            "--client-cert-allowed-hostname",
            format!("{text:?} is no host name"),
        )
    })
}

/// A certificate must verify *and* carry one of the names.
#[derive(Debug)]
struct AllowedNames {
    inner: Arc<dyn ClientCertVerifier>,
    hostnames: Vec<ServerName<'static>>,
    common_names: Vec<String>,
}

impl ClientCertVerifier for AllowedNames {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let by_host = self
            .hostnames
            .iter()
            .any(|name| verify_server_name(&parsed, name).is_ok());
        let by_name =
            certificate::common_name(leaf).is_some_and(|name| self.common_names.contains(&name));
        if by_host || by_name {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
