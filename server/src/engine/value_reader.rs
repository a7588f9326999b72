//! Reads values that are not in memory: from their place in the log, or from the
//! cold store when that segment was cleaned.
//!
//! Blocks on the disk. A value that cannot be read back, or is not what was
//! written, is [`Fatal`].

use bytes::Bytes;
use storage::checkpoint::ColdReader;
use storage::error::Fatal;
use storage::raft_log::LogReader;
use storage::types::{EncodedKeyValue, KeyValueRef, Place, RecordMeta, Revision};

/// Cheap to clone, usable on any thread.
#[derive(Clone, Debug)]
pub struct ValueReader {
    log: LogReader,
    cold: ColdReader,
}

impl ValueReader {
    /// Reads from this log and this store.
    #[must_use]
    pub fn new(log: LogReader, cold: ColdReader) -> ValueReader {
        ValueReader { log, cold }
    }

    /// The value's bytes; None when they lie nowhere any more, which is fine for a
    /// version that compaction has passed and no pin holds.
    ///
    /// # Errors
    /// When the value cannot be read or is damaged.
    pub fn find(&self, revision: Revision, place: Place) -> Result<Option<Bytes>, Fatal> {
        if place.length == 0 {
            return Ok(Some(Bytes::new()));
        }
        // Read in this order: a value goes cold before its segment is retired.
        if let Some(value) = self.log.read_value(place)? {
            return Ok(Some(value.into()));
        }
        self.cold.find(revision, place)
    }

    /// The bytes of a value that must be there.
    ///
    /// # Errors
    /// When the value is lost, cannot be read, or is damaged.
    pub fn fetch_at(&self, revision: Revision, place: Place) -> Result<Bytes, Fatal> {
        match self.find(revision, place)? {
            Some(value) => Ok(value),
            None => Err(Fatal::corruption(
                "checkpoint",
                0,
                format!(
                    "the value of revision {:?} is neither in segment {} of the log nor among \
                     the cold values; restore the member from a snapshot",
                    revision, place.segment.0
                ),
            )),
        }
    }

    /// As [`ValueReader::fetch_at`].
    ///
    /// # Errors
    /// As [`ValueReader::fetch_at`].
    pub fn fetch(&self, meta: &RecordMeta) -> Result<Bytes, Fatal> {
        self.fetch_at(meta.revision, meta.place)
    }

    /// The encoded key-value of what a reader's hold was to keep; None when the hold was taken
    /// back and the value is gone, or its segment was written anew while it was read.
    ///
    /// # Errors
    /// As [`ValueReader::fetch_at`], while the hold holds.
    pub fn held(
        &self,
        reference: &KeyValueRef,
        is_revoked: impl Fn() -> bool,
    ) -> Result<Option<EncodedKeyValue>, Fatal> {
        match self.encoded(reference) {
            // Asked afterwards: what is gone was given up before it went.
            Err(Fatal::Corruption { .. }) if is_revoked() => Ok(None),
            encoded => encoded.map(Some),
        }
    }

    /// The encoded key-value.
    ///
    /// # Errors
    /// As [`ValueReader::fetch_at`].
    pub fn encoded(&self, reference: &KeyValueRef) -> Result<EncodedKeyValue, Fatal> {
        match reference {
            KeyValueRef::Resident(encoded) => Ok(encoded.clone()),
            KeyValueRef::Stored(meta) => Ok(meta.encode(&self.fetch(meta)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use storage::checkpoint::{CheckpointStore, ModelDisk, ModelStore};
    use storage::raft_log::{LogOptions, RaftLog};
    use storage::types::{Key, LeaseId, LogIndex, SegmentNumber, Term};
    use storage::vfs::sim::SimDisk;

    use super::*;

    /// A reader that stood still until its hold was taken back finds its value gone: that is
    /// its loss, while a value that is held and gone is damage.
    #[test]
    fn what_is_gone_is_damage_only_while_it_is_held() {
        let vfs = Arc::new(SimDisk::new(1));
        let start = (LogIndex(0), Term(0));
        let log = RaftLog::create(vfs, Path::new("/log"), LogOptions::default(), start);
        let reader = ValueReader::new(
            log.expect("an empty disk").reader(),
            ModelStore::open(&ModelDisk::default()).reader(),
        );
        let gone = KeyValueRef::Stored(Arc::new(RecordMeta {
            key: Key::from(&b"k"[..]),
            revision: Revision::new(2, 0),
            create_revision: 2,
            version: 1,
            lease: LeaseId::NONE,
            tombstone: false,
            place: Place {
                segment: SegmentNumber(9),
                offset: 4096,
                length: 5,
                crc: 1,
            },
        }));
        assert_eq!(reader.held(&gone, || true).expect("no damage"), None);
        let damage = reader.held(&gone, || false);
        assert!(
            matches!(damage, Err(Fatal::Corruption { .. })),
            "{damage:?}"
        );
    }
}
