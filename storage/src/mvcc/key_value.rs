//! The protobuf encoding of `mvccpb.KeyValue`, byte-identical to etcd's: fields
//! 1 to 6 in order, zero and empty fields left out (contract 1.2, 1.12).
//!
//! Three forms exist: a live version (all fields), a tombstone as stored (its
//! key alone) and the key-value of a deletion *event* (key and mod_revision).

use std::sync::Arc;

use crate::types::{EncodedKeyValue, Key, KeyValueRef, LeaseId, RecordMeta};

const KEY_TAG: u8 = 0x0a;
const CREATE_REVISION_TAG: u8 = 0x10;
const MOD_REVISION_TAG: u8 = 0x18;
const VERSION_TAG: u8 = 0x20;
const VALUE_TAG: u8 = 0x2a;
const LEASE_TAG: u8 = 0x30;

/// The six fields of a KeyValue, borrowed. Absent fields are zero or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Field 1.
    pub key: &'a [u8],
    /// Field 2.
    pub create_revision: i64,
    /// Field 3.
    pub mod_revision: i64,
    /// Field 4.
    pub version: i64,
    /// Field 5.
    pub value: &'a [u8],
    /// Field 6.
    pub lease: i64,
}

impl Fields<'_> {
    /// Length of the encoding, bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len_with(self.value.len())
    }

    /// Length of the encoding if the value had `value_length` bytes.
    pub(super) fn encoded_len_with(&self, value_length: usize) -> usize {
        bytes_field_len(self.key.len())
            + integer_field_len(self.create_revision)
            + integer_field_len(self.mod_revision)
            + integer_field_len(self.version)
            + bytes_field_len(value_length)
            + integer_field_len(self.lease)
    }

    /// Appends the encoding.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        put_bytes(out, KEY_TAG, self.key);
        put_integer(out, CREATE_REVISION_TAG, self.create_revision);
        put_integer(out, MOD_REVISION_TAG, self.mod_revision);
        put_integer(out, VERSION_TAG, self.version);
        put_bytes(out, VALUE_TAG, self.value);
        put_integer(out, LEASE_TAG, self.lease);
    }

    /// The encoding as a shared allocation.
    #[must_use]
    pub fn encode(&self) -> EncodedKeyValue {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        debug_assert_eq!(
            out.len(),
            self.encoded_len(),
            "the length is known beforehand"
        );
        EncodedKeyValue(Arc::from(out))
    }
}

impl RecordMeta {
    /// The fields that are stored for this record. A tombstone keeps its key
    /// alone; `value` must then be empty.
    #[must_use]
    pub fn fields<'a>(&'a self, value: &'a [u8]) -> Fields<'a> {
        if self.tombstone {
            assert!(value.is_empty(), "a tombstone has no value");
            return Fields {
                key: &self.key,
                ..Fields::default()
            };
        }
        Fields {
            key: &self.key,
            create_revision: self.create_revision,
            mod_revision: self.revision.main,
            version: self.version,
            value,
            lease: self.lease.0,
        }
    }

    /// Encodes the stored record with the value fetched from its place; the
    /// value's length must be the place's.
    #[must_use]
    pub fn encode(&self, value: &[u8]) -> EncodedKeyValue {
        assert_eq!(
            value.len(),
            self.value_length(),
            "a value has the length of its place"
        );
        self.fields(value).encode()
    }

    /// Length of the stored encoding, bytes, without having the value.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.fields(&[]).encoded_len_with(self.value_length())
    }

    /// Length of the value, bytes.
    #[must_use]
    pub fn value_length(&self) -> usize {
        usize::try_from(self.place.length).expect("a length of 32 bits fits")
    }
}

impl EncodedKeyValue {
    /// The key-value of a deletion event: key and mod_revision only.
    #[must_use]
    pub fn of_deletion(key: &[u8], mod_revision: i64) -> Self {
        Fields {
            key,
            mod_revision,
            ..Fields::default()
        }
        .encode()
    }

    /// Reads the fields back. The bytes were written by this module.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        decode(&self.0).expect("an EncodedKeyValue holds what this module encoded")
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        // The key is always the first field, so that no other need be looked at.
        match self.0.split_first() {
            Some((&KEY_TAG, rest)) => {
                let (key, _) = take_bytes(rest).expect("written by this module");
                key
            }
            _ => &[],
        }
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.fields().value
    }
}

impl KeyValueRef {
    /// All fields but the value (which is empty when not resident).
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        match self {
            KeyValueRef::Resident(encoded) => encoded.fields(),
            KeyValueRef::Stored(meta) => meta.fields(&[]),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            KeyValueRef::Resident(encoded) => encoded.key(),
            KeyValueRef::Stored(meta) => &meta.key,
        }
    }

    /// Length of the encoded KeyValue, bytes, resident or not.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            KeyValueRef::Resident(encoded) => encoded.0.len(),
            KeyValueRef::Stored(meta) => meta.encoded_len(),
        }
    }

    /// The attached lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        LeaseId(self.fields().lease)
    }

    /// The fields of a `keys_only` answer: without value *and lease* (contract 1.5). They stand
    /// before the value, which is not looked at.
    #[must_use]
    pub fn keys_only(&self) -> Fields<'_> {
        match self {
            KeyValueRef::Resident(encoded) => decode_before(&encoded.0, VALUE_TAG)
                .expect("an EncodedKeyValue holds what this module encoded"),
            KeyValueRef::Stored(meta) => Fields {
                lease: 0,
                ..meta.fields(&[])
            },
        }
    }
}

/// Reads an encoded KeyValue; None when the bytes are not one in the canonical
/// form that etcd and this module write.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Fields<'_>> {
    decode_before(bytes, u8::MAX)
}

/// The fields whose tags are below `end_tag`.
fn decode_before(mut bytes: &[u8], end_tag: u8) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    let mut last_tag = 0;
    while let Some((&tag, rest)) = bytes.split_first() {
        if tag <= last_tag {
            return None;
        }
        if tag >= end_tag {
            break;
        }
        last_tag = tag;
        bytes = match tag {
            KEY_TAG | VALUE_TAG => {
                let (content, rest) = take_bytes(rest)?;
                let field = if tag == KEY_TAG {
                    &mut fields.key
                } else {
                    &mut fields.value
                };
                *field = content;
                rest
            }
            _ => {
                let (number, rest) = take_varint(rest)?;
                let field = match tag {
                    CREATE_REVISION_TAG => &mut fields.create_revision,
                    MOD_REVISION_TAG => &mut fields.mod_revision,
                    VERSION_TAG => &mut fields.version,
                    LEASE_TAG => &mut fields.lease,
                    _ => return None,
                };
                *field = number.cast_signed();
                rest
            }
        };
    }
    Some(fields)
}

/// A key as the index shares it.
#[must_use]
pub fn shared_key(key: &[u8]) -> Key {
    Key::from(key)
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    if !content.is_empty() {
        out.push(tag);
        put_varint(
            out,
            u64::try_from(content.len()).expect("a length fits 64 bits"),
        );
        out.extend_from_slice(content);
    }
}

fn put_integer(out: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        out.push(tag);
        put_varint(out, number.cast_unsigned());
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits fit") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits fit"));
}

fn bytes_field_len(length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    1 + varint_len(u64::try_from(length).expect("a length fits 64 bits")) + length
}

fn integer_field_len(number: i64) -> usize {
    if number == 0 {
        0
    } else {
        1 + varint_len(number.cast_unsigned())
    }
}

fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    let mut rest = bytes;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, rest));
        }
    }
    None
}

fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Place, Revision};

    fn meta(length: u32, lease: i64) -> RecordMeta {
        RecordMeta {
            key: Key::from(b"foo".as_ref()),
            revision: Revision::new(300, 0),
            create_revision: 2,
            version: 5,
            lease: LeaseId(lease),
            tombstone: false,
            place: Place {
                length,
                ..Place::default()
            },
        }
    }

    /// The expected bytes are protobuf's wire format by hand.
    #[test]
    fn encodes_the_fields_in_order() {
        let encoded = meta(3, 7).encode(b"bar");
        let expected = b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x05\x2a\x03bar\x30\x07";
        assert_eq!(encoded.0.as_ref(), expected);
        assert_eq!(encoded.key(), b"foo");
        assert_eq!(encoded.value(), b"bar");
    }

    #[test]
    fn leaves_out_what_is_zero_or_empty() {
        assert_eq!(
            meta(0, 0).encode(b"").0.as_ref(),
            b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x05"
        );
    }

    #[test]
    fn a_negative_lease_takes_ten_bytes() {
        let encoded = meta(0, -1).encode(b"");
        assert!(
            encoded
                .0
                .ends_with(b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
        );
        assert_eq!(encoded.fields().lease, -1);
        assert_eq!(encoded.0.len(), meta(0, -1).encoded_len());
    }

    #[test]
    fn a_tombstone_is_its_key_and_a_deletion_has_the_revision() {
        let tombstone = RecordMeta {
            tombstone: true,
            version: 0,
            create_revision: 0,
            ..meta(0, 0)
        };
        assert_eq!(tombstone.encode(b"").0.as_ref(), b"\x0a\x03foo");
        assert_eq!(tombstone.encoded_len(), 5);
        let event = EncodedKeyValue::of_deletion(b"foo", 300);
        assert_eq!(event.0.as_ref(), b"\x0a\x03foo\x18\xac\x02");
    }

    #[test]
    fn a_stored_reference_knows_its_length_and_its_keys_only_form() {
        let stored = KeyValueRef::Stored(Arc::new(meta(200, 9)));
        let resident = KeyValueRef::Resident(meta(200, 9).encode(&[1; 200]));
        assert_eq!(stored.encoded_len(), resident.encoded_len());
        assert_eq!(stored.keys_only(), resident.keys_only());
        assert_eq!(
            resident.keys_only().encode().0.as_ref(),
            b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x05"
        );
        assert_eq!(stored.lease(), LeaseId(9));
    }

    #[test]
    fn lengths_of_varints_at_their_borders() {
        for (number, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16383, 2),
            (16384, 3),
            (u64::MAX, 10),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!((out.len(), varint_len(number)), (length, length));
            assert_eq!(take_varint(&out), Some((number, [].as_ref())));
        }
    }

    #[test]
    fn garbage_is_no_key_value() {
        for garbage in [
            b"\x0a\x05foo".as_ref(),
            b"\x0a",
            b"\x30",
            b"\x18\x01\x10\x01",
            b"\x08\x01",
        ] {
            assert_eq!(decode(garbage), None, "{garbage:?}");
        }
        assert_eq!(decode(&[&[0x30][..], &[0xff; 11][..]].concat()), None);
    }
}
