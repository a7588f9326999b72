//! Writes commands; the order of the fields is docs/format.md's.
//!
//! Owns nothing; appends to the caller's buffer. Limit: [`TXN_DEPTH_MAX`].

use bytes::{BufMut, BytesMut};

use super::super::command::{
    Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp, Txn,
};
use super::{CodecError, Problem};
use crate::limits::TXN_DEPTH_MAX;
use crate::types::LeaseId;

type Written = Result<(), CodecError>;

/// Writes the kind of the command and its body.
pub(super) fn command(out: &mut BytesMut, command: &Command) -> Written {
    match command {
        Command::Put(put) => {
            out.put_u8(1);
            write_put(out, put)
        }
        Command::DeleteRange(delete) => {
            out.put_u8(2);
            write_delete_range(out, delete)
        }
        Command::Txn(txn) => {
            out.put_u8(3);
            write_txn(out, txn, 1)
        }
        Command::Compact { revision } => {
            out.put_u8(4);
            signed(out, *revision);
            Ok(())
        }
        Command::LeaseGrant { lease, ttl_seconds } => {
            out.put_u8(5);
            write_lease(out, *lease)?;
            signed(out, *ttl_seconds);
            Ok(())
        }
        Command::LeaseRevoke { lease } => {
            out.put_u8(6);
            write_lease(out, *lease)
        }
        Command::Alarm {
            activate,
            member,
            alarm,
        } => {
            out.put_u8(7);
            out.put_u8(u8::from(*activate));
            unsigned(out, member.0);
            out.put_u8(alarm.number());
            Ok(())
        }
    }
}

fn write_put(out: &mut BytesMut, put: &Put) -> Written {
    let flags =
        u8::from(put.prev_kv) | u8::from(put.ignore_value) << 1 | u8::from(put.ignore_lease) << 2;
    out.put_u8(flags);
    key(out, &put.key)?;
    signed(out, put.lease.0);
    bytes(out, &put.value);
    Ok(())
}

fn write_delete_range(out: &mut BytesMut, delete: &DeleteRange) -> Written {
    out.put_u8(u8::from(delete.prev_kv));
    key_range(out, &delete.range)
}

fn write_txn(out: &mut BytesMut, txn: &Txn, depth: usize) -> Written {
    if depth > TXN_DEPTH_MAX {
        return Err(error(out, Problem::TooDeep));
    }
    count(out, txn.compare.len());
    for compare in &txn.compare {
        write_compare(out, compare)?;
    }
    for list in [&txn.success, &txn.failure] {
        count(out, list.len());
        for op in list {
            write_op(out, op, depth)?;
        }
    }
    Ok(())
}

fn write_op(out: &mut BytesMut, op: &RequestOp, depth: usize) -> Written {
    match op {
        RequestOp::Range(range) => {
            out.put_u8(1);
            write_range(out, range)
        }
        RequestOp::Put(put) => {
            out.put_u8(2);
            write_put(out, put)
        }
        RequestOp::DeleteRange(delete) => {
            out.put_u8(3);
            write_delete_range(out, delete)
        }
        RequestOp::Txn(txn) => {
            out.put_u8(4);
            write_txn(out, txn, depth + 1)
        }
    }
}

fn write_compare(out: &mut BytesMut, compare: &Compare) -> Written {
    signed(out, i64::from(compare.result));
    match &compare.target {
        CompareTarget::Version(wanted) => number_target(out, 0, *wanted),
        CompareTarget::Create(wanted) => number_target(out, 1, *wanted),
        CompareTarget::Mod(wanted) => number_target(out, 2, *wanted),
        CompareTarget::Value(wanted) => {
            out.put_u8(3);
            bytes(out, wanted);
        }
        CompareTarget::Lease(wanted) => number_target(out, 4, *wanted),
    }
    key_range(out, &compare.range)
}

fn number_target(out: &mut BytesMut, target: u8, wanted: i64) {
    out.put_u8(target);
    signed(out, wanted);
}

fn write_range(out: &mut BytesMut, range: &Range) -> Written {
    out.put_u8(u8::from(range.keys_only) | u8::from(range.count_only) << 1);
    key_range(out, &range.range)?;
    signed(out, range.limit);
    signed(out, range.revision);
    out.put_u8(range.sort_order.number());
    out.put_u8(range.sort_target.number());
    signed(out, range.min_mod_revision);
    signed(out, range.max_mod_revision);
    signed(out, range.min_create_revision);
    signed(out, range.max_create_revision);
    Ok(())
}

fn write_lease(out: &mut BytesMut, lease: LeaseId) -> Written {
    if lease.is_none() {
        return Err(error(out, Problem::NoLease));
    }
    signed(out, lease.0);
    Ok(())
}

fn key_range(out: &mut BytesMut, range: &KeyRange) -> Written {
    key(out, &range.key)?;
    bytes(out, &range.range_end);
    Ok(())
}

fn key(out: &mut BytesMut, key: &[u8]) -> Written {
    if key.is_empty() {
        return Err(error(out, Problem::EmptyKey));
    }
    bytes(out, key);
    Ok(())
}

fn bytes(out: &mut BytesMut, bytes: &[u8]) {
    count(out, bytes.len());
    out.put_slice(bytes);
}

fn count(out: &mut BytesMut, count: usize) {
    unsigned(
        out,
        u64::try_from(count).expect("a length fits into 64 bits"),
    );
}

/// Zigzag, so that small negative numbers stay short.
fn signed(out: &mut BytesMut, number: i64) {
    unsigned(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn unsigned(out: &mut BytesMut, mut number: u64) {
    loop {
        let low = (number & 0x7f).to_le_bytes()[0];
        number >>= 7;
        if number == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

fn error(out: &BytesMut, problem: Problem) -> CodecError {
    CodecError {
        offset: out.len(),
        problem,
    }
}
