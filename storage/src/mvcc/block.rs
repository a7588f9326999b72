//! A block of packed records: superseded, evicted ones in revision order, as
//! differences in varints, about 18 bytes each.
//!
//! A block is written once. A record that is purged is marked dead; its bytes
//! stay until the block is written again. Every [`RESTART_RECORDS`] records the
//! differences start anew, so that a lookup decodes a few records only.
//! Invariant: revisions rise. Limit: 65,535 records.

use crate::types::{LeaseId, Place, Revision, SegmentNumber};

/// Records between two points where decoding can start: a lookup decodes half
/// as many on average, and a point costs 16 bytes.
const RESTART_RECORDS: usize = 16;

const TOMBSTONE: u8 = 1;
const HAS_SUB: u8 = 1 << 1;
const HAS_LEASE: u8 = 1 << 2;
/// The main revision is the one after the record before.
const NEXT_MAIN: u8 = 1 << 3;
const HAS_PREVIOUS: u8 = 1 << 4;
const SAME_SEGMENT: u8 = 1 << 5;
const SAME_LENGTH: u8 = 1 << 6;

/// A packed record. Its key and the base of its age are those of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: Revision,
    pub(super) tombstone: bool,
    /// The number of the chain of its key's packed records.
    pub(super) chain: u32,
    /// 0: created at the base of the chain; else 1 + main - create revision.
    pub(super) age: u64,
    pub(super) version: i64,
    pub(super) lease: LeaseId,
    pub(super) place: Place,
    /// The older packed record of the key, which may be purged by now.
    pub(super) previous: Option<Revision>,
    /// Main revision of the record that superseded this one.
    pub(super) superseded: i64,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    restarts: Box<[Restart]>,
    /// A bit per record.
    dead: Box<[u64]>,
    length: u16,
    live: u16,
}

#[derive(Clone, Copy, Debug)]
struct Restart {
    main: i64,
    sub: u32,
    /// Where the record starts in the bytes.
    offset: u32,
}

/// What differences are taken against.
#[derive(Clone, Copy, Debug, Default)]
struct Base {
    main: i64,
    place: Place,
}

impl Block {
    /// Packs records that are in revision order.
    pub(super) fn pack(entries: &[Entry]) -> Block {
        let mut bytes = Vec::new();
        let mut restarts = Vec::with_capacity(entries.len().div_ceil(RESTART_RECORDS));
        let mut base = Base::default();
        let mut last = None;
        for (position, entry) in entries.iter().enumerate() {
            assert!(last < Some(entry.revision), "revisions only rise");
            last = Some(entry.revision);
            if position.is_multiple_of(RESTART_RECORDS) {
                base = Base {
                    main: entry.revision.main,
                    place: Place::default(),
                };
                restarts.push(Restart {
                    main: entry.revision.main,
                    sub: entry.revision.sub,
                    offset: u32::try_from(bytes.len()).expect("a block is far below 4 GiB"),
                });
            }
            encode(entry, &mut base, &mut bytes);
        }
        let length = u16::try_from(entries.len()).expect("a block has below 2^16 records");
        Block {
            // A copy: what grows by doubling would keep up to twice its length, since the
            // allocator shrinks nothing in place by less than half.
            bytes: Box::from(bytes.as_slice()),
            restarts: restarts.into_boxed_slice(),
            dead: vec![0; entries.len().div_ceil(64)].into_boxed_slice(),
            length,
            live: length,
        }
    }

    /// Records that are not dead.
    pub(super) fn live(&self) -> usize {
        usize::from(self.live)
    }

    /// True when at least half of the records are dead.
    pub(super) fn is_sparse(&self) -> bool {
        self.live <= self.length / 2
    }

    /// The record of exactly this revision unless it is dead.
    pub(super) fn find(&self, revision: Revision) -> Option<Entry> {
        let found = self.from(revision).next();
        found.filter(|entry| entry.revision == revision)
    }

    /// Marks a record dead and answers it.
    pub(super) fn kill(&mut self, revision: Revision) -> Entry {
        let mut cursor = self.from(revision);
        let found = cursor.next();
        let entry = found.expect("the record is in the block");
        assert_eq!(entry.revision, revision, "the record is in the block");
        let position = cursor.position - 1;
        let word = self.dead.get_mut(position / 64);
        *word.expect("a bit for every record") |= 1 << (position % 64);
        self.live -= 1;
        entry
    }

    /// Records from this revision (inclusive) on, in order, without dead ones.
    pub(super) fn from(&self, revision: Revision) -> Cursor<'_> {
        let after = self
            .restarts
            .partition_point(|start| Revision::new(start.main, start.sub) <= revision);
        let point = after.saturating_sub(1);
        let mut cursor = Cursor {
            block: self,
            position: point * RESTART_RECORDS,
            rest: self.bytes_of(point),
            base: Base::default(),
        };
        loop {
            let before = Cursor { ..cursor };
            match cursor.next() {
                Some(entry) if entry.revision < revision => {}
                _ => return before,
            }
        }
    }

    fn bytes_of(&self, restart: usize) -> &[u8] {
        let offset = self.restarts.get(restart).map_or(0, |start| start.offset);
        let offset = usize::try_from(offset).expect("32 bits fit");
        self.bytes.get(offset..).expect("a restart is in the bytes")
    }

    fn is_dead(&self, position: usize) -> bool {
        let word = self.dead.get(position / 64);
        word.expect("a bit for every record") >> (position % 64) & 1 == 1
    }

    /// Bytes of memory behind this block.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.len()
            + self.restarts.len() * size_of::<Restart>()
            + self.dead.len() * 8
            + size_of::<Block>()
    }
}

/// A walk through a block.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    block: &'a Block,
    /// Of the next record.
    position: usize,
    rest: &'a [u8],
    base: Base,
}

impl Iterator for Cursor<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        while self.position < usize::from(self.block.length) {
            if self.position.is_multiple_of(RESTART_RECORDS) {
                let start = self.block.restarts.get(self.position / RESTART_RECORDS);
                self.base = Base {
                    main: start.expect("a restart every so many records").main,
                    place: Place::default(),
                };
            }
            let dead = self.block.is_dead(self.position);
            self.position += 1;
            let entry = decode(&mut self.rest, &mut self.base);
            if !dead {
                return Some(entry);
            }
        }
        None
    }
}

fn encode(entry: &Entry, base: &mut Base, out: &mut Vec<u8>) {
    let Revision { main, sub } = entry.revision;
    let place = entry.place;
    let mut flags = 0;
    for (flag, holds) in [
        (TOMBSTONE, entry.tombstone),
        (HAS_SUB, sub != 0),
        (HAS_LEASE, !entry.lease.is_none()),
        (NEXT_MAIN, main == base.main + 1),
        (HAS_PREVIOUS, entry.previous.is_some()),
        (SAME_SEGMENT, place.segment == base.place.segment),
        (SAME_LENGTH, place.length == base.place.length),
    ] {
        flags |= if holds { flag } else { 0 };
    }
    out.push(flags);
    if flags & NEXT_MAIN == 0 {
        put_distance(out, base.main, main);
    }
    if sub != 0 {
        put_varint(out, u64::from(sub));
    }
    put_varint(out, u64::from(entry.chain));
    put_distance(out, main, entry.superseded);
    if let Some(previous) = entry.previous {
        let back = u64::try_from(main - previous.main).expect("revisions rise along a chain");
        put_varint(out, back << 1 | u64::from(previous.sub != 0));
        if previous.sub != 0 {
            put_varint(out, u64::from(previous.sub));
        }
    }
    base.main = main;
    if entry.tombstone {
        return;
    }
    put_varint(out, entry.age);
    put_varint(out, entry.version.cast_unsigned());
    if !entry.lease.is_none() {
        out.extend_from_slice(&entry.lease.0.to_le_bytes());
    }
    if flags & SAME_SEGMENT == 0 {
        put_varint(out, u64::from(place.segment.0));
    }
    if flags & SAME_LENGTH == 0 {
        put_varint(out, u64::from(place.length));
    }
    let gap = place.offset.wrapping_sub(end_of(base.place));
    put_varint(out, u64::from(zigzag(gap)));
    out.extend_from_slice(&place.crc.to_le_bytes());
    base.place = place;
}

fn decode(rest: &mut &[u8], base: &mut Base) -> Entry {
    let [flags] = take(rest);
    let has = |flag| flags & flag != 0;
    let main = if has(NEXT_MAIN) {
        base.main + 1
    } else {
        base.main + take_varint(rest).cast_signed()
    };
    let sub = if has(HAS_SUB) { take_u32(rest) } else { 0 };
    let chain = take_u32(rest);
    let superseded = main + take_varint(rest).cast_signed();
    let previous = has(HAS_PREVIOUS).then(|| {
        let back = take_varint(rest);
        let sub = if back & 1 == 1 { take_u32(rest) } else { 0 };
        Revision::new(main - (back >> 1).cast_signed(), sub)
    });
    base.main = main;
    let mut entry = Entry {
        revision: Revision::new(main, sub),
        tombstone: has(TOMBSTONE),
        chain,
        age: 0,
        version: 0,
        lease: LeaseId::NONE,
        place: Place::default(),
        previous,
        superseded,
    };
    if entry.tombstone {
        return entry;
    }
    entry.age = take_varint(rest);
    entry.version = take_varint(rest).cast_signed();
    if has(HAS_LEASE) {
        entry.lease = LeaseId(i64::from_le_bytes(take(rest)));
    }
    let mut place = base.place;
    if !has(SAME_SEGMENT) {
        place.segment = SegmentNumber(take_u32(rest));
    }
    if !has(SAME_LENGTH) {
        place.length = take_u32(rest);
    }
    place.offset = end_of(base.place).wrapping_add(unzigzag(take_u32(rest)));
    place.crc = u32::from_le_bytes(take(rest));
    base.place = place;
    entry.place = place;
    entry
}

/// Where the next value is likely to start. It wraps, as the gap to it does.
fn end_of(place: Place) -> u32 {
    place.offset.wrapping_add(place.length)
}

/// Small differences of either sign become small numbers.
fn zigzag(difference: u32) -> u32 {
    let signed = difference.cast_signed();
    (signed << 1 ^ signed >> 31).cast_unsigned()
}

fn unzigzag(number: u32) -> u32 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn put_distance(out: &mut Vec<u8>, from: i64, to: i64) {
    put_varint(out, u64::try_from(to - from).expect("revisions only rise"));
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let [byte] = take(rest);
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
        shift += 7;
    }
}

fn take_u32(rest: &mut &[u8]) -> u32 {
    u32::try_from(take_varint(rest)).expect("written from 32 bits")
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> [u8; LENGTH] {
    let (taken, left) = rest.split_first_chunk().expect("a block is whole");
    *rest = left;
    *taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(main: i64, sub: u32) -> Entry {
        let number = u32::try_from(main % 1000).unwrap();
        Entry {
            revision: Revision::new(main, sub),
            tombstone: main % 7 == 0,
            chain: number * 77,
            age: if main % 7 == 0 {
                0
            } else {
                main.cast_unsigned() % 300
            },
            version: if main % 7 == 0 { 0 } else { main },
            lease: LeaseId(if main % 5 == 0 && main % 7 != 0 {
                -main
            } else {
                0
            }),
            place: if main % 7 == 0 {
                Place::default()
            } else {
                Place {
                    segment: SegmentNumber(number / 9),
                    offset: number.wrapping_mul(0x9e37_79b9),
                    length: number % 3 * 200,
                    crc: !number,
                }
            },
            previous: (main % 3 != 0).then(|| Revision::new(main - main % 3, number % 2)),
            superseded: main + i64::from(number),
        }
    }

    fn entries() -> Vec<Entry> {
        let gaps = [1, 1, 2, 900, 1, 70_000];
        let mut main = 2;
        let mut entries = Vec::new();
        for round in 0..100 {
            entries.push(entry(main, 0));
            if round % 4 == 0 {
                entries.push(entry(main, 3));
            }
            main += gaps[round % gaps.len()];
        }
        entries
    }

    #[test]
    fn what_is_packed_comes_back_from_every_revision_on() {
        let entries = entries();
        let block = Block::pack(&entries);
        for (position, entry) in entries.iter().enumerate() {
            assert_eq!(block.find(entry.revision), Some(*entry));
            let rest: Vec<Entry> = block.from(entry.revision).collect();
            assert_eq!(rest, entries[position..]);
            let between = Revision::new(entry.revision.main, entry.revision.sub + 1);
            assert_eq!(block.find(between), None);
            assert_eq!(
                block.from(between).next(),
                entries.get(position + 1).copied()
            );
        }
        assert_eq!(block.from(Revision::default()).count(), entries.len());
    }

    #[test]
    fn the_dead_are_not_seen() {
        let entries = entries();
        let mut block = Block::pack(&entries);
        let (mut alive, mut dead) = (Vec::new(), 0);
        for (position, entry) in entries.iter().enumerate() {
            if position % 3 == 1 {
                alive.push(*entry);
                continue;
            }
            assert_eq!(block.kill(entry.revision), *entry);
            assert_eq!(block.find(entry.revision), None);
            dead += 1;
        }
        assert_eq!(block.live(), entries.len() - dead);
        assert!(block.is_sparse());
        assert_eq!(block.from(Revision::default()).collect::<Vec<_>>(), alive);
    }

    #[test]
    fn a_plain_overwrite_takes_less_than_25_bytes() {
        let overwrites: Vec<Entry> = (0..512)
            .map(|number| Entry {
                revision: Revision::new(5_000_000 + i64::from(number), 0),
                tombstone: false,
                chain: number * 7919 % 10_000,
                age: 0,
                version: 500,
                lease: LeaseId::NONE,
                place: Place {
                    segment: SegmentNumber(70),
                    offset: 4096 + number * 1400,
                    length: 1024,
                    crc: !number,
                },
                previous: Some(Revision::new(4_990_000 + i64::from(number), 0)),
                superseded: 5_012_000,
            })
            .collect();
        assert!(Block::pack(&overwrites).memory() < 25 * overwrites.len());
    }

    #[test]
    #[should_panic(expected = "the record is in the block")]
    fn nothing_dies_twice() {
        let entries = entries();
        let mut block = Block::pack(&entries);
        block.kill(entries[3].revision);
        block.kill(entries[3].revision);
    }
}
