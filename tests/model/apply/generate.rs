//! Requests over a few keys, so that they meet each other.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use storage::apply::command::{
    Alarm, Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp,
    SortOrder, SortTarget, Txn,
};
use storage::types::{LeaseId, MemberId};

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Step {
    Command(Command),
    Range(Range),
    ReadTxn(Txn),
    /// One member purges what is compacted.
    Purge,
    /// One member forgets superseded values.
    Evict,
    /// One member is loaded anew from its records, without any value.
    Restart,
}

pub fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => any_command().prop_map(Step::Command),
        12 => any_range().prop_map(Step::Range),
        3 => any_read_txn().prop_map(Step::ReadTxn),
        1 => Just(Step::Purge),
        1 => Just(Step::Evict),
        2 => Just(Step::Restart),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let ttl = select(vec![1, 60, 9_000_000_000, 9_000_000_001]);
    prop_oneof![
        8 => any_put().prop_map(Command::Put),
        3 => any_delete().prop_map(Command::DeleteRange),
        8 => any_txn().prop_map(Command::Txn),
        2 => any_revision().prop_map(|revision| Command::Compact { revision }),
        3 => (any_lease(), ttl)
            .prop_map(|(lease, ttl_seconds)| Command::LeaseGrant { lease, ttl_seconds }),
        1 => any_lease().prop_map(|lease| Command::LeaseRevoke { lease }),
        1 => (any::<bool>(), 1_u64..3, any::<bool>()).prop_map(|(activate, member, space)| {
            let alarm = if space { Alarm::NoSpace } else { Alarm::Corrupt };
            Command::Alarm { activate, member: MemberId(member), alarm }
        }),
    ]
}

fn any_bytes(choice: &'static [&'static [u8]]) -> impl Strategy<Value = Bytes> {
    select(choice).prop_map(Bytes::from_static)
}

fn any_key() -> impl Strategy<Value = Bytes> {
    any_bytes(&[b"a", b"a\0", b"b", b"ba", b"c", b"d", b"\xff"])
}

fn any_value() -> impl Strategy<Value = Bytes> {
    any_bytes(&[b"", b"x", b"y", b"yy", b"a longer value \x00\xff"])
}

fn any_key_range() -> impl Strategy<Value = KeyRange> {
    let start = prop_oneof![4 => any_key(), 1 => any_bytes(&[b"\0"])];
    let end = any_bytes(&[b"", b"", b"\0", b"a", b"b", b"c", b"z", b"\xff\xff"]);
    (start, end).prop_map(|(key, range_end)| KeyRange { key, range_end })
}

fn any_lease() -> impl Strategy<Value = LeaseId> {
    select(vec![LeaseId(1), LeaseId(2), LeaseId(-3)])
}

fn any_revision() -> impl Strategy<Value = i64> {
    prop_oneof![2 => -2_i64..3, 6 => 3_i64..25]
}

fn any_put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![3 => Just(LeaseId::NONE), 1 => any_lease()];
    let rare = || prop::bool::weighted(0.2);
    (any_key(), any_value(), lease, any::<bool>(), rare(), rare()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            // What validation lets through (contract 1.6).
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { LeaseId::NONE } else { lease },
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
    let order = select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let revision = prop_oneof![3 => Just(0), 1 => any_revision()];
    let filter = || prop_oneof![8 => Just(0_i64), 1 => -1_i64..25];
    let filters = (filter(), filter(), filter(), filter());
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.15));
    (
        any_key_range(),
        -1_i64..6,
        revision,
        order,
        target,
        filters,
        flags,
    )
        .prop_map(
            |(range, limit, revision, sort_order, sort_target, filters, flags)| Range {
                range,
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only: flags.0,
                count_only: flags.1,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
            },
        )
}

fn any_compare() -> impl Strategy<Value = Compare> {
    let number = || prop_oneof![3 => 0_i64..3, 1 => any_revision()];
    let target = prop_oneof![
        number().prop_map(CompareTarget::Version),
        number().prop_map(CompareTarget::Create),
        number().prop_map(CompareTarget::Mod),
        number().prop_map(CompareTarget::Lease),
        any_value().prop_map(CompareTarget::Value),
    ];
    (-1_i32..6, target, any_key_range()).prop_map(|(result, target, range)| Compare {
        result,
        target,
        range,
    })
}

fn any_read_txn() -> impl Strategy<Value = Txn> {
    let reads = || vec(any_range().prop_map(RequestOp::Range), 0..3);
    (vec(any_compare(), 0..3), reads(), reads()).prop_map(|(compare, success, failure)| Txn {
        compare,
        success,
        failure,
    })
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let flat = (any_guards(), vec(any_op(), 0..4), vec(any_op(), 0..3)).prop_map(to_txn);
    flat.prop_recursive(3, 16, 4, |inner| {
        let ops = || {
            let nested = inner.clone().prop_map(RequestOp::Txn);
            vec(prop_oneof![2 => any_op(), 1 => nested], 0..4)
        };
        (any_guards(), ops(), ops()).prop_map(to_txn)
    })
}

fn any_guards() -> impl Strategy<Value = Vec<Compare>> {
    prop_oneof![1 => Just(Vec::new()), 2 => vec(any_compare(), 1..3)]
}

fn to_txn((compare, success, failure): (Vec<Compare>, Vec<RequestOp>, Vec<RequestOp>)) -> Txn {
    Txn {
        compare,
        success,
        failure,
    }
}

fn any_op() -> impl Strategy<Value = RequestOp> {
    prop_oneof![
        3 => any_put().prop_map(RequestOp::Put),
        1 => any_delete().prop_map(RequestOp::DeleteRange),
        2 => any_range().prop_map(RequestOp::Range),
    ]
}
