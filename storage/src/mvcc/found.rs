//! Records wherever they are: in the slab, or packed in a block of the timeline.
//!
//! A packed record is unpacked into a `Record` of its own, without links; the
//! links of both kinds are followed here.

use std::ops::Deref;

use super::Mvcc;
use super::as_of::AsOf;
use super::block::Entry;
use super::records::{Record, RecordId};
use super::timeline::Item;
use crate::types::{Key, RecordMeta, Revision};

/// A record that was found.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Slab(&'a Record),
    Packed(Box<Unpacked>),
}

/// A packed record in the form of the others.
#[derive(Debug)]
pub(super) struct Unpacked {
    record: Record,
    previous: Option<Revision>,
    superseded: i64,
}

impl Deref for Found<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        match self {
            Found::Slab(record) => record,
            Found::Packed(unpacked) => &unpacked.record,
        }
    }
}

impl Mvcc {
    /// The record of a slot.
    pub(super) fn slab(&self, id: RecordId) -> Found<'_> {
        Found::Slab(self.records.get(id))
    }

    /// Records from this revision (inclusive) on, in order.
    pub(super) fn walk(&self, from: Revision) -> impl Iterator<Item = Found<'_>> {
        let items = self.timeline.from(from, &self.records);
        items.map(|item| self.found(item))
    }

    pub(super) fn found(&self, item: Item) -> Found<'_> {
        match item {
            Item::Slab(id) => self.slab(id),
            Item::Packed(entry) => self.unpack(&entry),
        }
    }

    /// The next older record of the key. None as well when that is packed and
    /// purged out of order: then nothing older may be read (`chains`).
    pub(super) fn previous_of(&self, record: &Found<'_>) -> Option<Found<'_>> {
        self.previous_item(record).map(|item| self.found(item))
    }

    /// As `previous_of`, not unpacked.
    pub(super) fn previous_item(&self, record: &Found<'_>) -> Option<Item> {
        let link = match record {
            Found::Slab(record) if record.previous.is_slot() => {
                return Some(Item::Slab(record.previous));
            }
            Found::Slab(record) => self.chains.get(record.previous.chain()?).head,
            Found::Packed(unpacked) => unpacked.previous?,
        };
        self.timeline.find_packed(link).map(Item::Packed)
    }

    /// Main revision of the record that superseded this one; None when it is
    /// the newest of its key.
    pub(super) fn superseded_at(&self, record: &Found<'_>) -> Option<i64> {
        match record {
            Found::Slab(record) => {
                let next = record.next.exists().then_some(record.next);
                next.map(|next| self.records.get(next).main())
            }
            Found::Packed(unpacked) => Some(unpacked.superseded),
        }
    }

    /// The newest record of a chain that is seen.
    pub(super) fn packed_at(&self, chain: u32, at: AsOf) -> Option<Found<'_>> {
        let mut link = Some(self.chains.get(chain).start_for(at.revision()));
        loop {
            let entry = self.timeline.find_packed(link?)?;
            assert_eq!(entry.chain, chain, "links stay within their chain");
            if at.sees(entry.revision) {
                return Some(self.unpack(&entry));
            }
            link = entry.previous;
        }
    }

    fn unpack(&self, entry: &Entry) -> Found<'_> {
        Found::Packed(Box::new(Unpacked {
            record: self.record_of(entry),
            previous: entry.previous,
            superseded: entry.superseded,
        }))
    }

    /// A packed record as it was in the slab, without its links.
    pub(super) fn record_of(&self, entry: &Entry) -> Record {
        let chain = self.chains.get(entry.chain);
        let main = entry.revision.main;
        let create_revision = match entry.age {
            _ if entry.tombstone => 0,
            0 => chain.base,
            age => main + 1 - age.cast_signed(),
        };
        Record::new(RecordMeta {
            key: Key::clone(&chain.key),
            revision: entry.revision,
            create_revision,
            version: entry.version,
            lease: entry.lease,
            tombstone: entry.tombstone,
            place: entry.place,
        })
    }
}
