//! PEM and DER files, and how a change of one is noticed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::TlsError;

/// What the file system says about a file; equal means not replaced or written since. None: not
/// readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, i64, i64)>);

impl Stamp {
    pub(super) fn of(path: &Path) -> Stamp {
        Stamp(std::fs::metadata(path).ok().map(|metadata| {
            (
                metadata.ino(),
                metadata.size(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            )
        }))
    }
}

pub(super) fn read(path: &Path, purpose: &'static str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::file(path, purpose, error))
}

/// Every certificate of a PEM file; at least one.
pub(super) fn certificates(
    path: &Path,
    purpose: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, purpose)?;
    let certificates: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| TlsError::file(path, purpose, error))?;
    if certificates.is_empty() {
        return Err(TlsError::file(path, purpose, "holds no PEM certificate"));
    }
    Ok(certificates)
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path, "key file")?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::file(path, "key file", "holds no PEM private key"),
        error => TlsError::file(path, "key file", error),
    })
}

/// The lists of a CRL file: PEM, or one list in DER as Go's tools write it.
pub(super) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(path, "CRL file")?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let lists: Result<Vec<_>, PemError> =
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    lists.map_err(|error| TlsError::file(path, "CRL file", error))
}
