//! The codec against itself, against arbitrary bytes, and one frozen byte form.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::command::{
    Alarm, Command, Compare, CompareTarget, DeleteRange, Envelope, KeyRange, Put, Range, RequestOp,
    SortOrder, SortTarget, Txn,
};
use super::{CodecError, Problem, decode, encode, offset_in};
use crate::limits::TXN_DEPTH_MAX;
use crate::types::{LeaseId, MemberId, RequestId};

fn any_key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..20).prop_map(Bytes::from)
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn any_key_range() -> impl Strategy<Value = KeyRange> {
    (any_key(), any_bytes()).prop_map(|(key, range_end)| KeyRange { key, range_end })
}

fn any_put() -> impl Strategy<Value = Put> {
    (any_key(), any_bytes(), any::<i64>(), any::<[bool; 3]>()).prop_map(
        |(key, value, lease, [prev_kv, ignore_value, ignore_lease])| Put {
            key,
            value,
            lease: LeaseId(lease),
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn any_delete() -> impl Strategy<Value = DeleteRange> {
    (any_key_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

fn any_range() -> impl Strategy<Value = Range> {
    (
        any_key_range(),
        any::<[i64; 6]>(),
        0_u8..3,
        0_u8..5,
        any::<[bool; 2]>(),
    )
        .prop_map(
            |(range, numbers, order, target, [keys_only, count_only])| Range {
                range,
                limit: numbers[0],
                revision: numbers[1],
                sort_order: SortOrder::from_number(order).unwrap(),
                sort_target: SortTarget::from_number(target).unwrap(),
                keys_only,
                count_only,
                min_mod_revision: numbers[2],
                max_mod_revision: numbers[3],
                min_create_revision: numbers[4],
                max_create_revision: numbers[5],
            },
        )
}

fn any_compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::Create),
        any::<i64>().prop_map(CompareTarget::Mod),
        any::<i64>().prop_map(CompareTarget::Lease),
        any_bytes().prop_map(CompareTarget::Value),
    ];
    (any::<i32>(), target, any_key_range()).prop_map(|(result, target, range)| Compare {
        result,
        target,
        range,
    })
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let flat = (
        vec(any_compare(), 0..3),
        vec(any_flat_op(), 0..3),
        vec(any_flat_op(), 0..3),
    )
        .prop_map(|(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        });
    flat.prop_recursive(4, 12, 3, |inner| {
        let ops = || {
            vec(
                prop_oneof![any_flat_op(), inner.clone().prop_map(RequestOp::Txn)],
                0..3,
            )
        };
        (vec(any_compare(), 0..2), ops(), ops()).prop_map(|(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        })
    })
}

fn any_flat_op() -> impl Strategy<Value = RequestOp> {
    prop_oneof![
        any_put().prop_map(RequestOp::Put),
        any_delete().prop_map(RequestOp::DeleteRange),
        any_range().prop_map(RequestOp::Range),
    ]
}

fn any_lease() -> impl Strategy<Value = LeaseId> {
    any::<i64>()
        .prop_filter("0 is no lease", |lease| *lease != 0)
        .prop_map(LeaseId)
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let command = prop_oneof![
        any_put().prop_map(Command::Put),
        any_delete().prop_map(Command::DeleteRange),
        any_txn().prop_map(Command::Txn),
        any::<i64>().prop_map(|revision| Command::Compact { revision }),
        (any_lease(), any::<i64>())
            .prop_map(|(lease, ttl_seconds)| Command::LeaseGrant { lease, ttl_seconds }),
        any_lease().prop_map(|lease| Command::LeaseRevoke { lease }),
        (any::<bool>(), any::<u64>(), 1_u8..3).prop_map(|(activate, member, alarm)| {
            Command::Alarm {
                activate,
                member: MemberId(member),
                alarm: Alarm::from_number(alarm).unwrap(),
            }
        }),
    ];
    (any::<u64>(), command).prop_map(|(request_id, command)| Envelope {
        request_id: RequestId(request_id),
        command,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_encoded_decodes_to_itself(envelope in any_envelope()) {
        let data = encode(&envelope).unwrap();
        prop_assert_eq!(decode(&data).unwrap(), envelope);
    }

    #[test]
    fn every_cut_and_every_longer_input_is_an_error(envelope in any_envelope(), more: u8) {
        let data = encode(&envelope).unwrap();
        for end in 0..data.len() {
            prop_assert!(decode(&data.slice(..end)).is_err(), "cut at {}", end);
        }
        let mut longer = data.to_vec();
        longer.push(more);
        let problem = decode(&Bytes::from(longer)).unwrap_err().problem;
        prop_assert_eq!(problem, Problem::Trailing);
    }

    /// What decodes at all is the one byte form of what it decodes to.
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200), kind in 0_u8..9) {
        if let Some(first) = bytes.get_mut(0) {
            *first = 1;
        }
        if let Some(at_kind) = bytes.get_mut(9) {
            *at_kind = kind;
        }
        let data = Bytes::from(bytes);
        if let Ok(envelope) = decode(&data) {
            prop_assert_eq!(encode(&envelope).unwrap(), data);
        }
    }

    #[test]
    fn one_changed_byte_is_an_error_or_another_envelope(
        envelope in any_envelope(),
        at: prop::sample::Index,
        mask in 1_u8..,
    ) {
        let mut bytes = encode(&envelope).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok(other) = decode(&Bytes::from(bytes)) {
            prop_assert_ne!(other, envelope);
        }
    }

    #[test]
    fn a_decoded_value_lies_in_the_data(put in any_put()) {
        let envelope = Envelope { request_id: RequestId(1), command: Command::Put(put) };
        let data = encode(&envelope).unwrap();
        let Command::Put(put) = decode(&data).unwrap().command else { unreachable!() };
        if !put.value.is_empty() {
            let offset = offset_in(&data, &put.value).unwrap();
            prop_assert_eq!(&data[offset..offset + put.value.len()], &put.value[..]);
        }
    }
}

fn nested(levels: usize) -> Envelope {
    let mut txn = Txn::default();
    for _ in 1..levels {
        txn = Txn {
            success: vec![RequestOp::Txn(txn)],
            ..Txn::default()
        };
    }
    Envelope {
        request_id: RequestId(7),
        command: Command::Txn(txn),
    }
}

#[test]
fn nesting_ends_at_the_limit_in_both_directions() {
    let deepest = nested(TXN_DEPTH_MAX);
    let data = encode(&deepest).unwrap();
    assert_eq!(decode(&data).unwrap(), deepest);
    let too_deep = encode(&nested(TXN_DEPTH_MAX + 1)).unwrap_err();
    assert_eq!(too_deep.problem, Problem::TooDeep);

    // The same as bytes: each level is "no compare, one operation, a transaction".
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 3];
    for _ in 0..100_000 {
        bytes.extend([0, 1, 4]);
    }
    let problem = decode(&Bytes::from(bytes)).unwrap_err().problem;
    assert_eq!(problem, Problem::TooDeep);
}

#[test]
fn a_claimed_count_takes_no_memory() {
    // A transaction that claims 2^63 compares.
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 3];
    bytes.extend([0xff; 8]);
    bytes.push(0x7f);
    let problem = decode(&Bytes::from(bytes)).unwrap_err().problem;
    assert_eq!(problem, Problem::Truncated);
}

#[test]
fn an_unknown_version_is_named() {
    let error = decode(&Bytes::from_static(&[2, 0, 0])).unwrap_err();
    let expected = CodecError {
        offset: 0,
        problem: Problem::UnknownVersion(2),
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "at byte 0 of the command: version 2; this binary knows version 1"
    );
}

#[test]
fn a_number_has_one_form() {
    // Compact at revision 0, as one byte and as two.
    let short = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    assert!(decode(&short).is_ok());
    let long = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0x80, 0]);
    assert_eq!(decode(&long).unwrap_err().problem, Problem::BadVarint);
    let mut over = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    over.extend([0xff; 9]);
    over.push(2);
    let over = Bytes::from(over);
    assert_eq!(decode(&over).unwrap_err().problem, Problem::BadVarint);
}

#[test]
fn an_empty_key_and_lease_0_have_no_form() {
    let put = Command::Put(Put::default());
    let grant = Command::LeaseGrant {
        lease: LeaseId::NONE,
        ttl_seconds: 5,
    };
    for (command, problem) in [(put, Problem::EmptyKey), (grant, Problem::NoLease)] {
        let request_id = RequestId(1);
        let envelope = Envelope {
            request_id,
            command,
        };
        assert_eq!(encode(&envelope).unwrap_err().problem, problem);
    }
}

/// The bytes of docs/format.md's example: changing them needs a new version.
#[test]
fn the_byte_form_of_version_1_is_frozen() {
    let put = Put {
        key: Bytes::from_static(b"foo"),
        value: Bytes::from_static(b"bar"),
        lease: LeaseId(-2),
        prev_kv: true,
        ..Put::default()
    };
    let envelope = Envelope {
        request_id: RequestId(0x0102),
        command: Command::Put(put),
    };
    let expected = [
        1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1, 3, b'f', b'o', b'o', 3, 3, b'b', b'a', b'r',
    ];
    assert_eq!(encode(&envelope).unwrap()[..], expected);
}
