//! Which values a command looks at, so that they can be fetched before it is
//! applied.
//!
//! Pure. Both branches of a transaction count: which one is taken may hang on
//! values that are not there yet. So what is named may be more than what is
//! read in the end, but never less.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, CompareTarget, KeyRange, Put, Range, RequestOp, Txn};
use super::range::Plan;
use super::read::{Supplied, collect};
use crate::mvcc::{Bounds, Mvcc};
use crate::types::{KeyValueRef, RecordMeta, Revision};

/// Values that are not resident and must be, by revision.
pub(super) struct Needs<'a> {
    mvcc: &'a Mvcc,
    supplied: &'a Supplied,
    found: BTreeMap<Revision, Arc<RecordMeta>>,
}

impl<'a> Needs<'a> {
    pub(super) fn new(mvcc: &'a Mvcc, supplied: &'a Supplied) -> Self {
        Needs {
            mvcc,
            supplied,
            found: BTreeMap::new(),
        }
    }

    pub(super) fn into_metas(self) -> Vec<Arc<RecordMeta>> {
        self.found.into_values().collect()
    }

    pub(super) fn command(&mut self, command: &Command) {
        match command {
            Command::Put(put) => self.put(put),
            Command::Txn(txn) => self.txn(txn),
            Command::DeleteRange(_)
            | Command::Compact { .. }
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::Alarm { .. } => {}
        }
    }

    pub(super) fn txn(&mut self, txn: &Txn) {
        for compare in &txn.compare {
            if matches!(compare.target, CompareTarget::Value(_)) {
                let current = self.mvcc.current_revision();
                self.interval(&compare.range, current);
            }
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                RequestOp::Put(put) => self.put(put),
                // A read that sorts by value is deferred.
                RequestOp::Range(_) | RequestOp::DeleteRange(_) => {}
                RequestOp::Txn(nested) => self.txn(nested),
            }
        }
    }

    /// A read outside a transaction that sorts by value.
    pub(super) fn range(&mut self, range: &Range) {
        if !Plan::new(range).sorts_by_value() {
            return;
        }
        // A read that will be refused needs nothing.
        if let Ok(at) = self.mvcc.check_revision(range.revision) {
            self.interval(&range.range, at);
        }
    }

    fn put(&mut self, put: &Put) {
        if put.ignore_value {
            let current = self.mvcc.current_revision();
            let stored = self.mvcc.get(&put.key, current);
            stored.into_iter().for_each(|stored| self.add(stored));
        }
    }

    fn interval(&mut self, range: &KeyRange, at: i64) {
        let bounds = Bounds::of_request(&range.key, &range.range_end);
        let fetched = collect(self.mvcc, &bounds, at, None);
        fetched.into_iter().for_each(|stored| self.add(stored));
    }

    fn add(&mut self, key_value: KeyValueRef) {
        if let KeyValueRef::Stored(meta) = key_value
            && meta.place.length > 0
            && !self.supplied.contains_key(&meta.revision)
        {
            self.found.insert(meta.revision, meta);
        }
    }
}
