//! Go's names of cipher suites and versions, as etcd's flags take them.

use rustls::SupportedCipherSuite;
use rustls::SupportedProtocolVersion;
use rustls::crypto::ring::cipher_suite as ring;
use rustls::version::{TLS12, TLS13};

use super::TlsError;
use crate::config::TlsVersion;

/// The suites of TLS 1.2 that we have, by Go's names. Those of TLS 1.3 are not configurable in Go,
/// nor here.
const TLS12_SUITES: [(&str, SupportedCipherSuite); 8] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites that Go has and rustls leaves out on purpose: CBC, 3DES, RC4 and key exchange without
/// forward secrecy.
const OLD_SUITES: [&str; 15] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

const TLS13_SUITES: [SupportedCipherSuite; 3] = [
    ring::TLS13_AES_256_GCM_SHA384,
    ring::TLS13_AES_128_GCM_SHA256,
    ring::TLS13_CHACHA20_POLY1305_SHA256,
];

/// The suites named, in the order given; all when none is named. Errors: an unknown name, none that
/// we have, or a list together with a minimum of TLS 1.3.
pub(super) fn select(
    names: &[String],
    min_version: Option<TlsVersion>,
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let refuse = |cause: String| TlsError::option("--cipher-suites", cause);
    if names.is_empty() {
        return Ok(rustls::crypto::ring::DEFAULT_CIPHER_SUITES.to_vec());
    }
    if min_version == Some(TlsVersion::Tls13) {
        return Err(refuse(
            "cipher suites cannot be configured when TLS1.3 is the minimum".to_owned(),
        ));
    }
    let mut suites = TLS13_SUITES.to_vec();
    for name in names {
        match TLS12_SUITES.iter().find(|(known, _)| known == name) {
            Some((_, suite)) if suites.contains(suite) => {}
            Some((_, suite)) => suites.push(*suite),
            None if OLD_SUITES.contains(&name.as_str()) => {
                tracing::warn!(suite = %name, "cipher suite is not offered: it lacks forward secrecy or is broken");
            }
            None if name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_") => {}
            None => return Err(refuse(format!("unexpected TLS cipher suite {name:?}"))),
        }
    }
    if suites.len() == TLS13_SUITES.len() {
        return Err(refuse(format!("none of {names:?} is offered for TLS1.2")));
    }
    Ok(suites)
}

/// The versions between two flags' values. Errors: an empty range.
pub(super) fn versions(
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let range = min.unwrap_or(TlsVersion::Tls12)..=max.unwrap_or(TlsVersion::Tls13);
    if range.is_empty() {
        return Err(TlsError::option(
            "--tls-min-version",
            "is above --tls-max-version",
        ));
    }
    let all = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    Ok(all
        .into_iter()
        .filter(|(version, _)| range.contains(version))
        .map(|(_, known)| known)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn suites_by_go_names() {
        let one = names(&[
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_RSA_WITH_AES_128_CBC_SHA",
        ]);
        assert_eq!(select(&one, None).unwrap().len(), TLS13_SUITES.len() + 1);
        assert_eq!(select(&[], None).unwrap().len(), 9);
        assert!(
            select(&names(&["TLS_MADE_UP"]), None)
                .unwrap_err()
                .to_string()
                .contains("TLS_MADE_UP")
        );
        assert!(select(&names(&["TLS_RSA_WITH_AES_128_CBC_SHA"]), None).is_err());
        assert!(select(&one, Some(TlsVersion::Tls13)).is_err());
    }

    #[test]
    fn versions_in_a_range() {
        let (tls12, tls13) = (Some(TlsVersion::Tls12), Some(TlsVersion::Tls13));
        assert_eq!(versions(None, None).unwrap().len(), 2);
        assert_eq!(versions(tls13, None).unwrap(), vec![&TLS13]);
        assert_eq!(versions(tls12, tls12).unwrap(), vec![&TLS12]);
        assert!(versions(tls13, tls12).is_err());
    }
}
