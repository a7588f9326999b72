//! Executes writes and transactions (contract 1.6, 1.7).
//!
//! Owns nothing; works on one [`Write`], which is one main revision. Invariant:
//! what is refused is refused before the first change or takes all changes back
//! (a dropped [`Write`]), so that a transaction has all of its effects or none.

use super::codec;
use super::command::{DeleteRange, Put, Range, RequestOp};
use super::compare::Path;
use super::lease::Leases;
use super::machine::EntryData;
use super::outcome::{InheritedValue, OpResult, TxnResult};
use super::range::resident_value;
use super::read::Gathering;
use crate::error::Refusal;
use crate::mvcc::{AsOf, Bounds, Mvcc, NewValue, Write};
use crate::planted::{Bug, planted};
use crate::types::{KeyValueRef, Place, RevisionEvents};

/// What the checks of state look at: the state before the request.
pub(super) struct Checks<'a> {
    pub(super) mvcc: &'a Mvcc,
    pub(super) leases: &'a Leases,
}

impl Checks<'_> {
    /// The checks of a put, in etcd's order: the lease first.
    pub(super) fn put(&self, put: &Put) -> Result<(), Refusal> {
        if !put.lease.is_none() && !self.leases.contains(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let needs_previous = put.ignore_value || put.ignore_lease;
        let at = self.mvcc.current_revision();
        if needs_previous && self.mvcc.get(&put.key, at).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Inside a transaction only 0 means "current": a negative revision is
    /// compared like any other, unlike in a stand-alone read.
    fn range(&self, range: &Range) -> Result<(), Refusal> {
        if range.revision == 0 {
            Ok(())
        } else if range.revision > self.mvcc.current_revision() {
            Err(Refusal::FutureRevision)
        } else if range.revision < self.mvcc.compacted_revision() && !planted(Bug::ReadCompacted) {
            Err(Refusal::Compacted)
        } else {
            Ok(())
        }
    }

    /// The checks of all operations on the taken path, in order; the first
    /// failure is the answer.
    pub(super) fn path(&self, path: &Path<'_>) -> Result<(), Refusal> {
        let mut nested = path.nested.iter();
        for op in path.ops {
            match op {
                RequestOp::Range(range) => self.range(range)?,
                RequestOp::Put(put) => self.put(put)?,
                RequestOp::DeleteRange(_) => {}
                RequestOp::Txn(_) => {
                    let nested = nested.next();
                    self.path(nested.expect("one path per transaction"))?;
                }
            }
        }
        Ok(())
    }
}

/// One request being written: everything in it gets the same main revision.
pub(super) struct Writing<'a, 'm> {
    pub(super) write: Write<'m>,
    pub(super) data: &'a EntryData,
    pub(super) gathering: Gathering,
    pub(super) kept_values: bool,
}

impl Writing<'_, '_> {
    /// Performs a put that was checked; gives what it replaced when asked for.
    ///
    /// # Errors
    /// `KeyNotFound` when an earlier operation of the transaction deleted what
    /// this put is to keep. The duplicate-key rule lets that through for a
    /// deletion up to "\0" (contract 1.7) and etcd goes down over it; here the
    /// whole transaction is refused and dropped.
    pub(super) fn put(&mut self, put: &Put) -> Result<Option<KeyValueRef>, Refusal> {
        let keeps = put.ignore_value || put.ignore_lease;
        let kept = keeps.then(|| self.write.get(&put.key)).flatten();
        if keeps && kept.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let lease = match &kept {
            Some(kept) if put.ignore_lease => kept.lease(),
            _ => put.lease,
        };
        let value = match &kept {
            Some(kept) if put.ignore_value => {
                // A value without home under its own revision must at least be
                // in memory until the next checkpoint (see `InheritedValue`).
                resident_value(kept);
                self.kept_values = true;
                NewValue::Keep
            }
            _ => NewValue::Bytes(&put.value, self.data.place(&put.value)),
        };
        let replaced = self.write.put(&put.key, value, lease);
        Ok(replaced
            .filter(|_| put.prev_kv)
            .map(|replaced| replaced.key_value))
    }

    /// Deletes an interval; gives how many keys, and what they held when asked for.
    pub(super) fn delete_range(&mut self, delete: &DeleteRange) -> (i64, Vec<KeyValueRef>) {
        let bounds = Bounds::of_request(&delete.range.key, &delete.range.range_end);
        let replaced = self.write.delete_range(&bounds);
        let deleted = i64::try_from(replaced.len()).expect("a count of keys fits into 63 bits");
        let previous = replaced
            .into_iter()
            .filter(|_| delete.prev_kv)
            .map(|replaced| replaced.key_value);
        (deleted, previous.collect())
    }

    /// Executes the taken path of a transaction that was checked.
    ///
    /// # Errors
    /// As [`put`](Self::put); the caller then drops all that was written.
    pub(super) fn path(&mut self, path: &Path<'_>) -> Result<TxnResult, Refusal> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(path.ops.len());
        for op in path.ops {
            responses.push(match op {
                RequestOp::Range(range) => self.gathering.read(
                    self.write.store(),
                    self.write.as_of(),
                    self.write.revision(),
                    range,
                ),
                RequestOp::Put(put) => OpResult::Put {
                    previous: self.put(put)?,
                    revision: self.write.revision(),
                },
                RequestOp::DeleteRange(delete) => {
                    let (deleted, previous) = self.delete_range(delete);
                    OpResult::DeleteRange {
                        revision: self.write.revision(),
                        deleted,
                        previous,
                    }
                }
                RequestOp::Txn(_) => {
                    let nested = nested.next();
                    OpResult::Txn(self.path(nested.expect("one path per transaction"))?)
                }
            });
        }
        Ok(TxnResult {
            succeeded: path.succeeded,
            revision: 0,
            responses,
        })
    }

    /// Ends the request: its events, and which of its puts share a value.
    pub(super) fn finish(self) -> (Option<RevisionEvents>, bool) {
        (self.write.finish(), self.kept_values)
    }
}

/// Executes the taken path of a transaction that only reads.
pub(super) fn read_path(store: &Mvcc, mut gathering: Gathering, path: &Path<'_>) -> TxnResult {
    let revision = store.current_revision();
    let now = AsOf::from(revision);
    let responses = path.ops.iter().map(|op| match op {
        RequestOp::Range(range) => gathering.read(store, now, revision, range),
        RequestOp::Put(_) | RequestOp::DeleteRange(_) | RequestOp::Txn(_) => {
            panic!("a transaction without an entry only reads")
        }
    });
    TxnResult {
        succeeded: path.succeeded,
        revision,
        responses: responses.collect(),
    }
}

impl EntryData {
    /// Where a value of this entry lies in the log.
    ///
    /// # Panics
    /// When `value` is not a slice of the entry's data: commands are decoded
    /// from it.
    pub(super) fn place(&self, value: &[u8]) -> Place {
        if value.is_empty() {
            return Place::default();
        }
        let within = codec::offset_in(&self.bytes, value);
        let within = within.expect("a command's value is a slice of its entry's data");
        let within = u32::try_from(within).expect("an entry is smaller than a segment");
        Place {
            segment: self.segment,
            offset: self.offset + within,
            length: u32::try_from(value.len()).expect("an entry is smaller than a segment"),
            crc: crc32fast::hash(value),
        }
    }

    /// True when a place lies within this entry.
    pub(super) fn holds(&self, place: Place) -> bool {
        let within = place.offset.checked_sub(self.offset);
        let within = within.and_then(|within| usize::try_from(within).ok());
        place.segment == self.segment && within.is_some_and(|within| within < self.bytes.len())
    }
}

/// The puts of a request whose value does not lie in its own entry.
pub(super) fn inherited_values(events: &RevisionEvents, data: &EntryData) -> Vec<InheritedValue> {
    let records = events.events.iter().map(|event| &event.meta);
    let inherited = records
        .filter(|meta| !meta.tombstone && meta.place.length > 0 && !data.holds(meta.place))
        .map(|meta| InheritedValue {
            revision: meta.revision,
            place: meta.place,
        });
    inherited.collect()
}
