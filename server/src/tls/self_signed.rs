//! `--auto-tls`: a self-signed certificate, made once and kept under the data directory
//! (`fixtures/client`), as etcd does.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::TlsError;

/// One year as `--self-signed-cert-validity` counts it.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The certificate and key in `directory`, made for `hosts` and `years` if they are not there.
/// `now` is the wall clock. Errors: a validity of zero, or a directory that cannot be written.
pub fn ensure(
    directory: &Path,
    hosts: &[String],
    years: u32,
    now: SystemTime,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert_path, key_path) = (directory.join("cert.pem"), directory.join("key.pem"));
    if cert_path.exists() && key_path.exists() {
        return Ok((cert_path, key_path));
    }
    if years == 0 {
        return Err(TlsError::option(
            "--self-signed-cert-validity",
            "must be greater than 0",
        ));
    }
    let failed = |error: rcgen::Error| TlsError::file(&cert_path, "self-signed certificate", error);
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "sternpost");
    params.not_before = now.into();
    params.not_after = (now + YEAR * years).into();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    std::fs::create_dir_all(directory)
        .map_err(|error| TlsError::file(directory, "certificate directory", error))?;
    // The key first: a certificate without its key would be taken for half of a rotation.
    write(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    write(&cert_path, certificate.pem().as_bytes(), 0o644)?;
    tracing::warn!(path = %cert_path.display(), years, "made a self-signed certificate");
    Ok((cert_path, key_path))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let outcome = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    outcome.map_err(|error| TlsError::file(path, "self-signed certificate", error))
}
