//! The key tree: keys in order, each with its newest record and whether that is live.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::bounds::Bounds;
use super::records::RecordId;
use crate::types::Key;

/// One key of the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a Key,
    pub(super) newest: RecordId,
    pub(super) live: bool,
}

#[derive(Debug, Default)]
pub(super) struct KeyTree {
    map: BTreeMap<Key, (RecordId, bool)>,
    live: u64,
}

impl KeyTree {
    pub(super) fn find(&self, key: &[u8]) -> Option<RecordId> {
        self.map.get(key).map(|entry| entry.0)
    }

    pub(super) fn set(&mut self, key: &Key, newest: RecordId, live: bool) {
        let old = self.map.insert(Key::clone(key), (newest, live));
        self.live += u64::from(live);
        self.live -= u64::from(old.is_some_and(|old| old.1));
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let old = self
            .map
            .remove(key)
            .expect("a key that is removed was there");
        self.live -= u64::from(old.1);
    }

    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn count_live(&self, bounds: &Bounds) -> u64 {
        let inside = self
            .from(bounds.start())
            .take_while(|entry| !bounds.is_past(entry.key));
        inside.map(|entry| u64::from(entry.live)).sum()
    }

    pub(super) fn from<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = Entry<'a>> + 'a {
        let range = (Bound::Included(key), Bound::Unbounded);
        let entries = self.map.range::<[u8], _>(range);
        entries.map(|(key, &(newest, live))| Entry { key, newest, live })
    }
}
