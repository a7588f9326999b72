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
        self.cold.read_value(revision)
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
