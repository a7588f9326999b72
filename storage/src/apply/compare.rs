//! The guards of a transaction (contract 1.7).
//!
//! Pure. All of them, those of nested transactions on the taken path too, see
//! the state before the transaction (trap 4): so they are evaluated on [`Mvcc`]
//! before anything is written.

use super::command::{Compare, CompareTarget, RequestOp, Txn};
use super::range::resident_value;
use crate::mvcc::key_value::Fields;
use crate::mvcc::{Bounds, Mvcc};
use crate::types::KeyValueRef;

/// Keys per slice of a guard over an interval: it stops at the first key that
/// fails, so that little is collected in vain.
const SLICE_KEYS: usize = 512;

/// Which list each transaction takes.
#[derive(Debug)]
pub(super) struct Path<'a> {
    /// Whether all guards held.
    pub(super) succeeded: bool,
    /// The list taken.
    pub(super) ops: &'a [RequestOp],
    /// The paths of the nested transactions in `ops`, in order.
    pub(super) nested: Vec<Path<'a>>,
}

impl<'a> Path<'a> {
    /// Evaluates the guards of `txn` and of what it takes.
    pub(super) fn of(mvcc: &Mvcc, txn: &'a Txn) -> Path<'a> {
        let succeeded = txn.compare.iter().all(|compare| holds(mvcc, compare));
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let nested = ops.iter().filter_map(|op| match op {
            RequestOp::Txn(nested) => Some(Path::of(mvcc, nested)),
            _ => None,
        });
        Path {
            succeeded,
            ops,
            nested: nested.collect(),
        }
    }
}

/// True when every key of the interval satisfies the guard.
fn holds(mvcc: &Mvcc, compare: &Compare) -> bool {
    let at = mvcc.current_revision();
    let mut rest = Bounds::of_request(&compare.range.key, &compare.range.range_end);
    let mut slice = Vec::new();
    let mut found = false;
    loop {
        slice.clear();
        let next = mvcc.range_slice(&rest, at, SLICE_KEYS, SLICE_KEYS, &mut slice);
        found |= !slice.is_empty();
        if !slice
            .iter()
            .all(|key_value| key_value_holds(compare, key_value))
        {
            return false;
        }
        match next {
            Some(key) => rest = rest.resume_at(&key),
            None => break,
        }
    }
    found || missing_holds(compare)
}

/// A key that does not exist has all numbers 0, but no value at all: even
/// "not equal" fails.
fn missing_holds(compare: &Compare) -> bool {
    match &compare.target {
        CompareTarget::Value(_) => false,
        target => answers(compare.result, order_of_number(target, &Fields::default())),
    }
}

fn key_value_holds(compare: &Compare, key_value: &KeyValueRef) -> bool {
    let order = match &compare.target {
        CompareTarget::Value(wanted) => resident_value(key_value).cmp(wanted),
        target => order_of_number(target, &key_value.fields()),
    };
    answers(compare.result, order)
}

fn order_of_number(target: &CompareTarget, fields: &Fields<'_>) -> std::cmp::Ordering {
    match target {
        CompareTarget::Version(wanted) => fields.version.cmp(wanted),
        CompareTarget::Create(wanted) => fields.create_revision.cmp(wanted),
        CompareTarget::Mod(wanted) => fields.mod_revision.cmp(wanted),
        CompareTarget::Lease(wanted) => fields.lease.cmp(wanted),
        CompareTarget::Value(wanted) => fields.value.cmp(wanted),
    }
}

/// Numbers that etcd does not know always hold.
fn answers(result: i32, order: std::cmp::Ordering) -> bool {
    match result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}
