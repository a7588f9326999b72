//! Fetches values that are not in memory, on helper threads. Used by whoever
//! encodes; never by the core loop while it serves.
//!
//! A value that cannot be read back, or is not what was written, ends the process.

use std::sync::Arc;

use bytes::Bytes;
use storage::checkpoint::ColdReader;
use storage::error::{Fatal, Refusal};
use storage::mvcc::{HashKvDigest, HashKvRecord};
use storage::raft_log::LogReader;
use storage::types::{EncodedKeyValue, KeyValueRef, RecordMeta};

use super::die;
use crate::engine::{Pin, Rejected, ValueReader};

/// Reads values back; cheap to clone, usable on any thread.
#[derive(Clone, Debug)]
pub struct Values(ValueReader);

impl Values {
    /// Reads from this log and this store.
    #[must_use]
    pub fn new(log: LogReader, cold: ColdReader) -> Values {
        Values(ValueReader::new(log, cold))
    }

    /// What blocks on the disk.
    pub(super) fn reader(&self) -> &ValueReader {
        &self.0
    }

    /// The encoded key-value; waits for the disk on a helper thread when the
    /// value is not in memory.
    pub async fn encoded(&self, reference: &KeyValueRef) -> EncodedKeyValue {
        match reference {
            KeyValueRef::Resident(encoded) => encoded.clone(),
            KeyValueRef::Stored(meta) if meta.place.length == 0 => meta.encode(&[]),
            KeyValueRef::Stored(meta) => {
                let (values, meta) = (self.clone(), Arc::clone(meta));
                let fetched = tokio::task::spawn_blocking(move || values.fetch_encoded(&meta));
                fetched
                    .await
                    .expect("the fetch does not panic and is not cancelled")
            }
        }
    }

    /// As [`Values::encoded`]; None when the value lies nowhere any more, which
    /// is fine for a version that compaction has passed and no pin holds.
    pub async fn encoded_unless_purged(&self, reference: &KeyValueRef) -> Option<EncodedKeyValue> {
        let KeyValueRef::Stored(meta) = reference else {
            return Some(self.encoded(reference).await);
        };
        let (values, meta) = (self.clone(), Arc::clone(meta));
        let fetched = tokio::task::spawn_blocking(move || {
            let found = match values.0.find(meta.revision, meta.place) {
                Ok(found) => found,
                Err(fatal) => die(&fatal),
            };
            found.map(|value| meta.encode(&value))
        });
        fetched
            .await
            .expect("the fetch does not panic and is not cancelled")
    }

    /// Brings all of these into memory, in one trip to the helper thread. `pin` holds them.
    ///
    /// # Errors
    /// `Compacted` when the pin was revoked and a value is gone.
    pub async fn make_resident(
        &self,
        references: &mut Vec<KeyValueRef>,
        pin: &Pin,
    ) -> Result<(), Rejected> {
        if references
            .iter()
            .all(|reference| matches!(reference, KeyValueRef::Resident(_)))
        {
            return Ok(());
        }
        let (values, pin) = (self.clone(), pin.clone());
        let mut batch = std::mem::take(references);
        let fetched = tokio::task::spawn_blocking(move || {
            for reference in &mut batch {
                *reference = KeyValueRef::Resident(values.fetch_held(reference, &pin)?);
            }
            Ok(batch)
        });
        let fetched: Result<_, Rejected> = fetched
            .await
            .expect("the fetch does not panic and is not cancelled");
        *references = fetched?;
        Ok(())
    }

    /// As [`Values::encoded`], of what a pin holds.
    ///
    /// # Errors
    /// `Compacted` when the pin was revoked and the value is gone.
    pub async fn encoded_held(
        &self,
        reference: &KeyValueRef,
        pin: &Pin,
    ) -> Result<EncodedKeyValue, Rejected> {
        if let KeyValueRef::Resident(encoded) = reference {
            return Ok(encoded.clone());
        }
        let (values, pin, reference) = (self.clone(), pin.clone(), reference.clone());
        tokio::task::spawn_blocking(move || values.fetch_held(&reference, &pin))
            .await
            .expect("the fetch does not panic and is not cancelled")
    }

    fn fetch_held(&self, reference: &KeyValueRef, pin: &Pin) -> Result<EncodedKeyValue, Rejected> {
        match self.0.held(reference, || pin.is_revoked()) {
            Ok(Some(encoded)) => Ok(encoded),
            Ok(None) => Err(Rejected::Refusal(Refusal::Compacted)),
            Err(fatal) => die(&fatal),
        }
    }

    /// Feeds records to a digest, in one trip to the helper thread: a trip for each
    /// value would make the hash of a large compaction last longer than its client
    /// waits.
    pub async fn digest(
        &self,
        mut digest: HashKvDigest,
        records: Vec<HashKvRecord>,
    ) -> HashKvDigest {
        let values = self.clone();
        let fed = tokio::task::spawn_blocking(move || {
            for record in records {
                let encoded = match &record.key_value {
                    KeyValueRef::Resident(encoded) => encoded.clone(),
                    KeyValueRef::Stored(meta) => values.fetch_encoded(meta),
                };
                digest.update(record.revision, record.tombstone, &encoded.0);
            }
            digest
        });
        fed.await
            .expect("the fetch does not panic and is not cancelled")
    }

    /// The value's bytes; blocks on the disk.
    ///
    /// # Errors
    /// When the value cannot be read or is damaged.
    pub fn fetch(&self, meta: &RecordMeta) -> Result<Bytes, Fatal> {
        self.0.fetch(meta)
    }

    fn fetch_encoded(&self, meta: &RecordMeta) -> EncodedKeyValue {
        match self.fetch(meta) {
            Ok(value) => meta.encode(&value),
            Err(fatal) => die(&fatal),
        }
    }
}
