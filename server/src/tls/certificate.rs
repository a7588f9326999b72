//! The common name of a certificate, read from its DER.
//!
//! The certificate was verified by rustls before; this walks to its subject and no further.
//! Anything unexpected gives None.

/// The last common name of the subject, as Go's `pkix.Name` takes it; None when it has none.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, EXPLICIT_VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer, validity stand before the subject.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (mut names, _) = element(fields, SEQUENCE)?;
    let mut found = None;
    while !names.is_empty() {
        let (mut set, rest) = element(names, SET)?;
        names = rest;
        while !set.is_empty() {
            let (attribute, rest) = element(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = element(attribute, OBJECT_IDENTIFIER)?;
            if kind == COMMON_NAME {
                found = Some(text(value)?);
            }
        }
    }
    found
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_VERSION: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

fn text(value: &[u8]) -> Option<String> {
    let tag = *value.first()?;
    if !matches!(
        tag,
        UTF8_STRING | PRINTABLE_STRING | TELETEX_STRING | IA5_STRING
    ) {
        return None;
    }
    let (bytes, _) = element(value, tag)?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// The contents of the element at the front, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    if first < 0x80 {
        return rest.split_at_checked(usize::from(first));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    // Four bytes of length hold any certificate; the indefinite form (none) is no DER.
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    let length = digits
        .iter()
        .fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(names: &[&str]) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:masters");
        for name in names {
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, *name);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found() {
        assert_eq!(
            common_name(&der(&["kube-apiserver-etcd-client"])).unwrap(),
            "kube-apiserver-etcd-client"
        );
        assert_eq!(common_name(&der(&["fjord æøå"])).unwrap(), "fjord æøå");
        assert_eq!(common_name(&der(&[])), None);
    }

    #[test]
    fn no_prefix_of_a_certificate_panics() {
        let whole = der(&["name"]);
        for end in 0..whole.len() {
            assert_eq!(common_name(&whole[..end]), None);
        }
    }
}
