//! HashKV: etcd's CRC-32C over the stored records (contract 1.12), as a walk
//! that can stop and go on, since values may have to be fetched in between.
//!
//! The walk ([`HashKv`]) decides on the core loop which records count and hands
//! them out in revision order; the digest ([`HashKvDigest`]) is fed with them
//! wherever the values are at hand. While a walk is under way its [`HashKv::pin`]
//! must hold back the purge.

use super::compaction::after;
use super::found::Found;
use super::{Mvcc, NEVER_COMPACTED};
use crate::error::Refusal;
use crate::types::{KeyValueRef, Revision};

/// Hashes of compactions that are remembered (contract 1.12).
const COMPACTION_HASHES_MAX: usize = 10;

/// The answer to HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKvResult {
    /// CRC-32C.
    pub hash: u32,
    /// The compacted revision that the hash was computed over; -1 for none.
    pub compact_revision: i64,
    /// The revision that was hashed.
    pub hash_revision: i64,
}

/// How a HashKV request goes on.
#[derive(Debug)]
pub enum HashKvStart {
    /// The hash of a compaction at that revision is remembered.
    Known(HashKvResult),
    /// It must be computed.
    Walk(HashKv),
}

/// A record that is part of the hash.
#[derive(Clone, Debug)]
pub struct HashKvRecord {
    /// Its revision.
    pub revision: Revision,
    /// True for a deletion.
    pub tombstone: bool,
    /// The stored form.
    pub key_value: KeyValueRef,
}

/// The walk. See the head of the file.
#[derive(Debug)]
pub struct HashKv {
    revision: i64,
    compacted: i64,
    /// True for the hash of a compaction at `revision`, which keeps tombstones
    /// of exactly that revision.
    of_compaction: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Looking for one record of the keep-set, from this revision on: an empty
    /// keep-set skips nothing.
    SeekKept(Revision),
    /// Handing out records from this revision on.
    Records {
        next: Revision,
        keep_is_empty: bool,
    },
    Done,
}

impl Mvcc {
    /// Starts HashKV at a revision; 0 is the current one.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKvStart, Refusal> {
        if let Some(known) = self.compaction_hashes.at(revision) {
            return Ok(HashKvStart::Known(known));
        }
        if revision < 0 {
            // etcd refuses none of these: it hashes what no record belongs to.
            return Ok(HashKvStart::Known(HashKvResult {
                hash: crc32c::crc32c(b"key"),
                compact_revision: self.compacted,
                hash_revision: revision,
            }));
        }
        let revision = if revision == 0 {
            self.current
        } else {
            revision
        };
        if revision < self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.current {
            return Err(Refusal::FutureRevision);
        }
        Ok(HashKvStart::Walk(HashKv::new(
            revision,
            self.compacted,
            false,
        )))
    }

    /// The walk for the hash of the newest compaction, to be made before it is
    /// purged: its pin is the compacted revision before. None when there was no
    /// compaction or the purge has passed that pin. The result goes to
    /// [`Mvcc::remember_compaction_hash`].
    #[must_use]
    pub fn compaction_hash(&self) -> Option<HashKv> {
        let unpurged = self.purge.reached() <= self.previous_compacted;
        (self.compacted > self.previous_compacted && unpurged)
            .then(|| HashKv::new(self.compacted, self.previous_compacted, true))
    }

    /// Remembers the hash of a compaction; HashKV at exactly its revision
    /// answers it from now on. The newest 10 are kept, until a restart.
    pub fn remember_compaction_hash(&mut self, result: HashKvResult) {
        self.compaction_hashes.insert(result);
    }
}

impl HashKv {
    fn new(revision: i64, compacted: i64, of_compaction: bool) -> Self {
        let phase = Phase::SeekKept(Revision::default());
        HashKv {
            revision,
            compacted,
            of_compaction,
            phase,
        }
    }

    /// The revision that must stay pinned until the walk is done: the floor
    /// given to `compact_slice` must not exceed it.
    #[must_use]
    pub fn pin(&self) -> i64 {
        self.compacted
    }

    /// True when every record was handed out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// The digest that this walk's records go into.
    #[must_use]
    pub fn digest(&self) -> HashKvDigest {
        HashKvDigest {
            crc: crc32c::crc32c(b"key"),
            compact_revision: self.compacted,
            hash_revision: self.revision,
        }
    }

    /// Looks at no more than `scan_limit` records and answers those of them
    /// that count, in order. Call again until `is_done`.
    pub fn slice(&mut self, store: &Mvcc, scan_limit: usize) -> Vec<HashKvRecord> {
        assert!(
            store.purge.reached() <= self.compacted.max(NEVER_COMPACTED),
            "the pin was held"
        );
        match self.phase {
            Phase::SeekKept(next) => {
                self.phase = self.seek_kept(store, next, scan_limit);
                Vec::new()
            }
            Phase::Records {
                next,
                keep_is_empty,
            } => self.records(store, next, keep_is_empty, scan_limit),
            Phase::Done => Vec::new(),
        }
    }

    fn seek_kept(&self, store: &Mvcc, next: Revision, scan_limit: usize) -> Phase {
        let from_the_start = |keep_is_empty| Phase::Records {
            next: Revision::default(),
            keep_is_empty,
        };
        let mut next = next;
        for record in store.walk(next).take(scan_limit) {
            if record.main() > self.revision {
                return from_the_start(true);
            }
            if self.keeps(store, &record) {
                return from_the_start(false);
            }
            next = after(record.revision());
        }
        match store.walk(next).next() {
            Some(_) => Phase::SeekKept(next),
            None => from_the_start(true),
        }
    }

    fn records(
        &mut self,
        store: &Mvcc,
        next: Revision,
        keep_is_empty: bool,
        scan_limit: usize,
    ) -> Vec<HashKvRecord> {
        let mut counted = Vec::new();
        let mut next = next;
        let mut records = store.walk(next);
        for _ in 0..scan_limit {
            let Some(record) = records
                .next()
                .filter(|record| record.main() <= self.revision)
            else {
                self.phase = Phase::Done;
                return counted;
            };
            next = after(record.revision());
            let old = record.main() <= self.compacted;
            let purged = store.is_garbage_at(&record, self.compacted);
            let skipped = record.tombstone && record.main() == self.compacted;
            if purged || skipped || (old && !keep_is_empty && !self.keeps(store, &record)) {
                continue;
            }
            counted.push(HashKvRecord {
                revision: record.revision(),
                tombstone: record.tombstone,
                key_value: record.key_value(),
            });
        }
        self.phase = Phase::Records {
            next,
            keep_is_empty,
        };
        counted
    }

    /// True for the newest record of its key at or below the hashed revision,
    /// if it is a put; the hash of a compaction keeps the tombstones of exactly
    /// that revision as well.
    fn keeps(&self, store: &Mvcc, record: &Found<'_>) -> bool {
        let superseded = store.superseded_at(record);
        let newest = superseded.is_none_or(|superseded| superseded > self.revision);
        let tombstone_stays = self.of_compaction && record.main() == self.revision;
        newest && (!record.tombstone || tombstone_stays)
    }
}

/// The CRC under way; needs no store.
#[derive(Clone, Copy, Debug)]
pub struct HashKvDigest {
    crc: u32,
    compact_revision: i64,
    hash_revision: i64,
}

impl HashKvDigest {
    /// Feeds one record: the key of etcd's bucket (main, `_`, sub, `t` for a
    /// tombstone), then the stored KeyValue.
    pub fn update(&mut self, revision: Revision, tombstone: bool, encoded: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, &revision.main.to_be_bytes());
        self.crc = crc32c::crc32c_append(self.crc, b"_");
        self.crc = crc32c::crc32c_append(self.crc, &i64::from(revision.sub).to_be_bytes());
        if tombstone {
            self.crc = crc32c::crc32c_append(self.crc, b"t");
        }
        self.crc = crc32c::crc32c_append(self.crc, encoded);
    }

    /// The answer.
    #[must_use]
    pub fn finish(self) -> HashKvResult {
        HashKvResult {
            hash: self.crc,
            compact_revision: self.compact_revision,
            hash_revision: self.hash_revision,
        }
    }
}

/// The newest hashes of compactions, by revision.
#[derive(Debug, Default)]
pub(super) struct CompactionHashes(Vec<HashKvResult>);

impl CompactionHashes {
    fn at(&self, revision: i64) -> Option<HashKvResult> {
        self.0
            .iter()
            .find(|known| known.hash_revision == revision)
            .copied()
    }

    fn insert(&mut self, result: HashKvResult) {
        self.0
            .retain(|known| known.hash_revision != result.hash_revision);
        self.0.push(result);
        self.0.sort_by_key(|known| known.hash_revision);
        let excess = self.0.len().saturating_sub(COMPACTION_HASHES_MAX);
        self.0.drain(..excess);
    }
}
