//! The byte form of an [`Envelope`], as it stands in the data of a log entry
//! (docs/format.md, "Command").
//!
//! Owns nothing. Invariants: `decode(encode(e)) == e`, every envelope has
//! exactly one byte form, and what is decoded are slices of the input, so that
//! the place of a value in the log follows from where its slice lies
//! ([`offset_in`]). Limits: [`TXN_DEPTH_MAX`] levels of transactions; memory
//! taken is bounded by a constant times the length of the input.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::command::{Command, Envelope};
use crate::limits::TXN_DEPTH_MAX;
use crate::types::RequestId;
use reader::Reader;

/// The version of the format that this binary writes, and the only one it reads.
pub const COMMAND_VERSION: u8 = 1;

/// Version byte, request id, command kind.
const HEADER_BYTES: usize = 10;

/// Bytes to reserve for an envelope besides its keys and values.
const RESERVE_BYTES: usize = 64;

/// Why bytes are not an envelope, or an envelope has no byte form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError {
    /// Byte offset within the entry's data of what is wrong (of an envelope
    /// without byte form: where that part would have been written).
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with an encoded envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The data ends within a field.
    Truncated,
    /// Bytes follow the command.
    Trailing,
    /// A version that this binary does not know; perhaps a newer one.
    UnknownVersion(u8),
    /// An enumeration holds a number that the format does not give a meaning.
    UnknownNumber {
        /// The field.
        field: &'static str,
        /// The number found.
        found: u8,
    },
    /// A number takes more bytes than it needs, or more than 64 bits.
    BadVarint,
    /// Transactions are nested deeper than [`TXN_DEPTH_MAX`].
    TooDeep,
    /// A key is empty.
    EmptyKey,
    /// A grant or revocation names no lease.
    NoLease,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} of the command: ", self.offset)?;
        match self.problem {
            Problem::Truncated => write!(f, "the data ends within a field"),
            Problem::Trailing => write!(f, "bytes follow the command"),
            Problem::UnknownVersion(found) => write!(
                f,
                "version {found}; this binary knows version {COMMAND_VERSION}"
            ),
            Problem::UnknownNumber { field, found } => {
                write!(f, "{field} holds the unknown number {found}")
            }
            Problem::BadVarint => write!(f, "a number is not in its shortest form"),
            Problem::TooDeep => write!(
                f,
                "transactions are nested deeper than {TXN_DEPTH_MAX} levels"
            ),
            Problem::EmptyKey => write!(f, "a key is empty"),
            Problem::NoLease => write!(f, "a lease is 0"),
        }
    }
}

impl std::error::Error for CodecError {}

/// The byte form of `envelope`.
///
/// # Errors
/// Only for what no validated request holds: an empty key, a grant of lease 0,
/// transactions nested deeper than [`TXN_DEPTH_MAX`].
pub fn encode(envelope: &Envelope) -> Result<Bytes, CodecError> {
    let mut out = BytesMut::with_capacity(RESERVE_BYTES + payload_bytes(&envelope.command));
    out.put_u8(COMMAND_VERSION);
    out.put_u64_le(envelope.request_id.0);
    writer::command(&mut out, &envelope.command)?;
    assert!(
        out.len() >= HEADER_BYTES,
        "a command has at least its header"
    );
    Ok(out.freeze())
}

/// Reads an envelope; all keys and values are slices of `data`.
///
/// # Errors
/// Any input that [`encode`] does not produce.
pub fn decode(data: &Bytes) -> Result<Envelope, CodecError> {
    let mut reader = Reader::new(data);
    let version = reader.byte()?;
    if version != COMMAND_VERSION {
        return Err(CodecError {
            offset: 0,
            problem: Problem::UnknownVersion(version),
        });
    }
    let request_id = RequestId(reader.fixed_u64()?);
    let command = reader.command()?;
    reader.finish()?;
    Ok(Envelope {
        request_id,
        command,
    })
}

/// Where `slice` begins within `data`, bytes; None when it is not a part of
/// `data`, which an empty slice need not be.
#[must_use]
pub fn offset_in(data: &Bytes, slice: &[u8]) -> Option<usize> {
    let offset = slice
        .as_ptr()
        .addr()
        .checked_sub(data.as_ptr().addr())
        .filter(|offset| {
            offset
                .checked_add(slice.len())
                .is_some_and(|end| end <= data.len())
        })?;
    Some(offset)
}

/// Length of the keys and values of the frequent commands, to reserve once.
fn payload_bytes(command: &Command) -> usize {
    match command {
        Command::Put(put) => put.key.len() + put.value.len(),
        Command::Txn(txn) => txn
            .success
            .iter()
            .chain(&txn.failure)
            .map(|op| match op {
                super::command::RequestOp::Put(put) => {
                    RESERVE_BYTES + put.key.len() + put.value.len()
                }
                _ => RESERVE_BYTES,
            })
            .sum(),
        _ => 0,
    }
}
