//! The naive store: a list of every change ever made, and the contract's rules
//! written down over it without regard to cost (sections 1.4 to 1.9 and 1.12).

use bytes::Bytes;
use storage::types::{LeaseId, Place, Revision, SegmentNumber};

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: Vec<u8>,
    pub revision: Revision,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
    pub value: Vec<u8>,
    pub place: Place,
    pub tombstone: bool,
}

impl Change {
    /// The stored protobuf message, written field by field.
    pub fn stored(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let bytes = |out: &mut Vec<u8>, tag: u8, content: &[u8]| {
            if !content.is_empty() {
                out.push(tag);
                varint(out, content.len() as u64);
                out.extend(content);
            }
        };
        bytes(&mut out, 0x0a, &self.key);
        if self.tombstone {
            return out;
        }
        integer(&mut out, 0x10, self.create_revision);
        integer(&mut out, 0x18, self.revision.main);
        integer(&mut out, 0x20, self.version);
        bytes(&mut out, 0x2a, &self.value);
        integer(&mut out, 0x30, self.lease);
        out
    }

    /// The key-value of the event.
    pub fn event(&self) -> Vec<u8> {
        let mut out = self.stored();
        if self.tombstone {
            integer(&mut out, 0x18, self.revision.main);
        }
        out
    }
}

fn integer(out: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        out.push(tag);
        varint(out, number.cast_unsigned());
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let byte = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

/// True when a request's `key` and `range_end` mean this key.
pub fn within(key: &[u8], start: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < range_end,
    }
}

/// The store.
#[derive(Clone, Debug)]
pub struct Model {
    pub changes: Vec<Change>,
    pub current: i64,
    pub compacted: i64,
    places: u32,
}

impl Model {
    pub fn new() -> Self {
        Model {
            changes: Vec::new(),
            current: 1,
            compacted: -1,
            places: 0,
        }
    }

    /// The newest change of a key at or below `at`, tombstones included.
    fn newest(&self, key: &[u8], at: i64) -> Option<&Change> {
        let mut of_key = self.changes.iter().filter(|change| change.key == key);
        of_key.rfind(|change| change.revision.main <= at)
    }

    /// The live version of a key at `at`.
    pub fn live(&self, key: &[u8], at: i64) -> Option<&Change> {
        self.newest(key, at).filter(|change| !change.tombstone)
    }

    /// The live versions of an interval at `at`, in key order.
    pub fn range(&self, start: &[u8], range_end: &[u8], at: i64) -> Vec<&Change> {
        let mut keys: Vec<&[u8]> = self.changes.iter().map(|one| one.key.as_slice()).collect();
        keys.sort_unstable();
        keys.dedup();
        let inside = keys.into_iter().filter(|key| within(key, start, range_end));
        inside.filter_map(|key| self.live(key, at)).collect()
    }

    /// A place for a value that no other value has.
    pub fn place(&mut self, value: &[u8]) -> Place {
        self.places += 1;
        Place {
            segment: SegmentNumber(self.places / 8),
            offset: self.places * 1000,
            length: u32::try_from(value.len()).unwrap(),
            crc: crc32fast::hash(value),
        }
    }

    /// Goes on numbering places where another model stopped.
    pub fn keep_places_of(&mut self, other: &Model) {
        self.places = other.places;
    }

    /// Applies a put as change `sub` of revision `current + 1`.
    pub fn put(&mut self, sub: u32, key: &[u8], value: (&[u8], Place), lease: LeaseId) {
        let main = self.current + 1;
        let live = self.live(key, main);
        let change = Change {
            key: key.to_vec(),
            revision: Revision::new(main, sub),
            create_revision: live.map_or(main, |live| live.create_revision),
            version: live.map_or(1, |live| live.version + 1),
            lease: lease.0,
            value: value.0.to_vec(),
            place: value.1,
            tombstone: false,
        };
        self.changes.push(change);
    }

    /// Applies a deletion from change `sub` on; the keys deleted.
    pub fn delete(&mut self, sub: u32, start: &[u8], range_end: &[u8]) -> u32 {
        let main = self.current + 1;
        let doomed = self.range(start, range_end, main);
        let doomed: Vec<Vec<u8>> = doomed.into_iter().map(|one| one.key.clone()).collect();
        let mut next = sub;
        for key in doomed {
            self.changes.push(Change {
                key,
                revision: Revision::new(main, next),
                create_revision: 0,
                version: 0,
                lease: 0,
                value: Vec::new(),
                place: Place::default(),
                tombstone: true,
            });
            next += 1;
        }
        next - sub
    }

    /// True when a compaction at `compacted` keeps this change: it is newer, or
    /// its key's newest put, or a tombstone of exactly that revision.
    pub fn survives(&self, change: &Change, compacted: i64) -> bool {
        if change.revision.main > compacted {
            return true;
        }
        if change.tombstone {
            return change.revision.main == compacted;
        }
        self.newest(&change.key, compacted).unwrap().revision == change.revision
    }

    /// What is stored once all that is compacted is purged.
    pub fn retained(&self) -> Vec<&Change> {
        self.changes
            .iter()
            .filter(|one| self.survives(one, self.compacted))
            .collect()
    }

    /// The sum of encoded KeyValue + 34 over these.
    pub fn bytes(changes: &[&Change]) -> u64 {
        changes
            .iter()
            .map(|change| change.stored().len() as u64 + 34)
            .sum()
    }

    /// The predecessor that a watcher is given with an event.
    pub fn previous(&self, change: &Change) -> Option<&Change> {
        let main = change.revision.main;
        if main <= self.compacted || change.create_revision == main {
            return None;
        }
        self.live(&change.key, main - 1)
    }

    /// Contract 1.12, literally. `compact_revision` is the last compacted
    /// revision, or the one before when `of_compaction`.
    pub fn hash_kv(&self, revision: i64, compact_revision: i64, of_compaction: bool) -> u32 {
        let mut keep: Vec<Revision> = Vec::new();
        for change in &self.changes {
            let newest = self
                .newest(&change.key, revision)
                .map(|newest| newest.revision);
            let tombstone_kept = of_compaction && change.revision.main == revision;
            if newest == Some(change.revision) && (!change.tombstone || tombstone_kept) {
                keep.push(change.revision);
            }
        }
        let mut hash = crc32c::crc32c(b"key");
        let stored = self
            .changes
            .iter()
            .filter(|one| self.survives(one, compact_revision));
        for change in stored {
            let main = change.revision.main;
            let compacted = main <= compact_revision;
            if main > revision
                || (compacted && !keep.is_empty() && !keep.contains(&change.revision))
                || (main == compact_revision && change.tombstone)
            {
                continue;
            }
            let mut bytes = main.to_be_bytes().to_vec();
            bytes.push(b'_');
            bytes.extend(i64::from(change.revision.sub).to_be_bytes());
            if change.tombstone {
                bytes.push(b't');
            }
            bytes.extend(change.stored());
            hash = crc32c::crc32c_append(hash, &bytes);
        }
        hash
    }

    /// The value written at a revision.
    pub fn value(&self, revision: Revision) -> Bytes {
        let change = self
            .changes
            .iter()
            .find(|change| change.revision == revision);
        Bytes::from(
            change
                .expect("only what was written is fetched")
                .value
                .clone(),
        )
    }
}
