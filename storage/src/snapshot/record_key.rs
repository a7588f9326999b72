//! The key under which etcd stores one record: 8 bytes big-endian main
//! revision, `_`, 8 bytes big-endian sub, and `t` for a tombstone.

use crate::types::Revision;

/// Length of the key of a live record, bytes; a tombstone's has one more.
pub(super) const RECORD_KEY_BYTES: usize = 17;

/// A record's place in the `key` bucket. Ordered as its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey {
    /// The revision; its main part is never negative.
    pub revision: Revision,
    /// True for a deletion.
    pub tombstone: bool,
}

impl RecordKey {
    /// Names a record.
    #[must_use]
    pub const fn new(revision: Revision, tombstone: bool) -> Self {
        RecordKey {
            revision,
            tombstone,
        }
    }

    /// Length of [`Self::encode`], bytes: 17 or 18.
    #[must_use]
    pub fn encoded_bytes(self) -> usize {
        RECORD_KEY_BYTES + usize::from(self.tombstone)
    }

    /// Appends the key as etcd writes it.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.revision.main.to_be_bytes());
        out.push(b'_');
        out.extend_from_slice(&u64::from(self.revision.sub).to_be_bytes());
        if self.tombstone {
            out.push(b't');
        }
    }

    /// Reads a key back; None for anything that no etcd writes, a negative main
    /// or a sub above `u32::MAX` included.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (main, rest) = bytes.split_first_chunk::<8>()?;
        let (separator, rest) = rest.split_first()?;
        let (sub, mark) = rest.split_first_chunk::<8>()?;
        let main = i64::from_be_bytes(*main);
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok()?;
        let tombstone = match mark {
            [] => false,
            [b't'] => true,
            _ => return None,
        };
        (*separator == b'_' && main >= 0)
            .then_some(RecordKey::new(Revision::new(main, sub), tombstone))
    }
}
