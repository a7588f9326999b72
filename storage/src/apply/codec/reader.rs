//! Reads commands out of the data of an entry, without copying.
//!
//! Owns a position within borrowed data. Invariants: the position never passes
//! the end; a field is read in full or not at all. Limits: nesting by
//! [`TXN_DEPTH_MAX`]; lists are pre-allocated by at most [`LIST_RESERVE`]
//! elements, because a count is only a claim until its elements were read.

use bytes::Bytes;

use super::super::command::{
    Alarm, Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp,
    SortOrder, SortTarget, Txn,
};
use super::{CodecError, Problem};
use crate::limits::TXN_DEPTH_MAX;
use crate::types::{LeaseId, MemberId};

/// Nested lists could each claim a large count; so this much at once and no more.
const LIST_RESERVE: usize = 16;

/// A cursor over the data of one entry.
pub(super) struct Reader<'a> {
    data: &'a Bytes,
    position: usize,
}

type Read<T> = Result<T, CodecError>;

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a Bytes) -> Self {
        Reader { data, position: 0 }
    }

    /// Refuses bytes behind the last field.
    pub(super) fn finish(self) -> Read<()> {
        if self.position == self.data.len() {
            Ok(())
        } else {
            Err(self.error(Problem::Trailing))
        }
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        let byte = self.data.get(self.position).copied();
        let byte = byte.ok_or_else(|| self.error(Problem::Truncated))?;
        self.position += 1;
        Ok(byte)
    }

    pub(super) fn fixed_u64(&mut self) -> Read<u64> {
        let field = self.data.get(self.position..);
        let field = field.and_then(|rest| rest.first_chunk::<8>());
        let field = field.ok_or_else(|| self.error(Problem::Truncated))?;
        self.position += 8;
        Ok(u64::from_le_bytes(*field))
    }

    pub(super) fn command(&mut self) -> Read<Command> {
        let start = self.position;
        Ok(match self.byte()? {
            1 => Command::Put(self.put()?),
            2 => Command::DeleteRange(self.delete_range()?),
            3 => Command::Txn(self.txn(1)?),
            4 => Command::Compact {
                revision: self.signed()?,
            },
            5 => Command::LeaseGrant {
                lease: self.lease()?,
                ttl_seconds: self.signed()?,
            },
            6 => Command::LeaseRevoke {
                lease: self.lease()?,
            },
            7 => Command::Alarm {
                activate: self.flags("alarm action", 1)? == 1,
                member: MemberId(self.unsigned()?),
                alarm: self.numbered("alarm", Alarm::from_number)?,
            },
            found => return Err(unknown(start, "command kind", found)),
        })
    }

    fn put(&mut self) -> Read<Put> {
        let flags = self.flags("put flags", 0b111)?;
        Ok(Put {
            prev_kv: flags & 1 != 0,
            ignore_value: flags & 2 != 0,
            ignore_lease: flags & 4 != 0,
            key: self.key()?,
            lease: LeaseId(self.signed()?),
            value: self.bytes()?,
        })
    }

    fn delete_range(&mut self) -> Read<DeleteRange> {
        Ok(DeleteRange {
            prev_kv: self.flags("delete flags", 1)? == 1,
            range: self.key_range()?,
        })
    }

    fn txn(&mut self, depth: usize) -> Read<Txn> {
        if depth > TXN_DEPTH_MAX {
            return Err(self.error(Problem::TooDeep));
        }
        Ok(Txn {
            compare: self.list(Self::compare)?,
            success: self.list(|reader| reader.op(depth))?,
            failure: self.list(|reader| reader.op(depth))?,
        })
    }

    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.count()?;
        let mut list = Vec::with_capacity(count.min(LIST_RESERVE));
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    fn op(&mut self, depth: usize) -> Read<RequestOp> {
        let start = self.position;
        Ok(match self.byte()? {
            1 => RequestOp::Range(self.range()?),
            2 => RequestOp::Put(self.put()?),
            3 => RequestOp::DeleteRange(self.delete_range()?),
            4 => RequestOp::Txn(self.txn(depth + 1)?),
            found => return Err(unknown(start, "operation kind", found)),
        })
    }

    fn compare(&mut self) -> Read<Compare> {
        let start = self.position;
        let result = i32::try_from(self.signed()?).map_err(|_| CodecError {
            offset: start,
            problem: Problem::BadVarint,
        })?;
        let start = self.position;
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.signed()?),
            1 => CompareTarget::Create(self.signed()?),
            2 => CompareTarget::Mod(self.signed()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.signed()?),
            found => return Err(unknown(start, "compare target", found)),
        };
        Ok(Compare {
            result,
            target,
            range: self.key_range()?,
        })
    }

    fn range(&mut self) -> Read<Range> {
        let flags = self.flags("range flags", 0b11)?;
        Ok(Range {
            keys_only: flags & 1 != 0,
            count_only: flags & 2 != 0,
            range: self.key_range()?,
            limit: self.signed()?,
            revision: self.signed()?,
            sort_order: self.numbered("sort order", SortOrder::from_number)?,
            sort_target: self.numbered("sort target", SortTarget::from_number)?,
            min_mod_revision: self.signed()?,
            max_mod_revision: self.signed()?,
            min_create_revision: self.signed()?,
            max_create_revision: self.signed()?,
        })
    }

    fn lease(&mut self) -> Read<LeaseId> {
        let offset = self.position;
        let lease = LeaseId(self.signed()?);
        if lease.is_none() {
            let problem = Problem::NoLease;
            return Err(CodecError { offset, problem });
        }
        Ok(lease)
    }

    fn key_range(&mut self) -> Read<KeyRange> {
        Ok(KeyRange {
            key: self.key()?,
            range_end: self.bytes()?,
        })
    }

    fn key(&mut self) -> Read<Bytes> {
        let offset = self.position;
        let key = self.bytes()?;
        if key.is_empty() {
            let problem = Problem::EmptyKey;
            return Err(CodecError { offset, problem });
        }
        Ok(key)
    }

    fn bytes(&mut self) -> Read<Bytes> {
        let length = self.count()?;
        let end = self.position + length;
        let slice = self.data.slice(self.position..end);
        self.position = end;
        Ok(slice)
    }

    /// A count of bytes or of elements, each at least one byte long: so never
    /// more than what is left.
    fn count(&mut self) -> Read<usize> {
        let count = self.unsigned()?;
        let left = self.data.len() - self.position;
        match usize::try_from(count) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(self.error(Problem::Truncated)),
        }
    }

    fn flags(&mut self, field: &'static str, known: u8) -> Read<u8> {
        let start = self.position;
        let flags = self.byte()?;
        if flags & !known != 0 {
            return Err(unknown(start, field, flags));
        }
        Ok(flags)
    }

    fn numbered<T>(&mut self, field: &'static str, known: impl Fn(u8) -> Option<T>) -> Read<T> {
        let start = self.position;
        let number = self.byte()?;
        known(number).ok_or_else(|| unknown(start, field, number))
    }

    fn signed(&mut self) -> Read<i64> {
        let zigzag = self.unsigned()?;
        Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
    }

    fn unsigned(&mut self) -> Read<u64> {
        let start = self.position;
        let bad = CodecError {
            offset: start,
            problem: Problem::BadVarint,
        };
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if (low << shift) >> shift != low {
                return Err(bad);
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                // One byte form for each number: no zero byte at the end.
                return if byte == 0 && shift > 0 {
                    Err(bad)
                } else {
                    Ok(number)
                };
            }
        }
        Err(bad)
    }

    fn error(&self, problem: Problem) -> CodecError {
        CodecError {
            offset: self.position,
            problem,
        }
    }
}

fn unknown(offset: usize, field: &'static str, found: u8) -> CodecError {
    CodecError {
        offset,
        problem: Problem::UnknownNumber { field, found },
    }
}
