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
        match at_hand(reference) {
            Ok(encoded) => encoded,
            Err(meta) => {
                let (values, meta) = (self.clone(), Arc::clone(meta));
                on_a_helper(move || values.fetch_encoded(&meta)).await
            }
        }
    }

    /// As [`Values::encoded`]; None when the value lies nowhere any more, which
    /// is fine for a version that compaction has passed and no pin holds.
    pub async fn encoded_unless_purged(&self, reference: &KeyValueRef) -> Option<EncodedKeyValue> {
        let meta = match at_hand(reference) {
            Ok(encoded) => return Some(encoded),
            Err(meta) => Arc::clone(meta),
        };
        let values = self.clone();
        let fetch = move || {
            let found = match values.0.find(meta.revision, meta.place) {
                Ok(found) => found,
                Err(fatal) => die(&fatal),
            };
            found.map(|value| meta.encode(&value))
        };
        on_a_helper(fetch).await
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
        let fetch = move || {
            for reference in &mut batch {
                *reference = KeyValueRef::Resident(values.fetch_held(reference, &pin)?);
            }
            Ok::<_, Rejected>(batch)
        };
        *references = on_a_helper(fetch).await?;
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
        if let Ok(encoded) = at_hand(reference) {
            return Ok(encoded);
        }
        let (values, pin, reference) = (self.clone(), pin.clone(), reference.clone());
        on_a_helper(move || values.fetch_held(&reference, &pin)).await
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
        let feed = move || {
            for record in records {
                let encoded = match &record.key_value {
                    KeyValueRef::Resident(encoded) => encoded.clone(),
                    KeyValueRef::Stored(meta) => values.fetch_encoded(meta),
                };
                digest.update(record.revision, record.tombstone, &encoded.0);
            }
            digest
        };
        on_a_helper(feed).await
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

/// What needs no disk: a resident key-value, an empty value. Else the record.
fn at_hand(reference: &KeyValueRef) -> Result<EncodedKeyValue, &Arc<RecordMeta>> {
    match reference {
        KeyValueRef::Resident(encoded) => Ok(encoded.clone()),
        KeyValueRef::Stored(meta) if meta.place.length == 0 => Ok(meta.encode(&[])),
        KeyValueRef::Stored(meta) => Err(meta),
    }
}

async fn on_a_helper<T: Send + 'static>(fetch: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(fetch)
        .await
        .expect("the fetch does not panic and is not cancelled")
}
