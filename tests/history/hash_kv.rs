//! HashKV of a revision over a compaction has one value, however often it is
//! asked for: live, after a restart, from memory or from disk.

use std::collections::BTreeMap;

use super::Verdict;

#[derive(Clone, Debug, Default)]
pub struct HashKvs {
    /// By the revision that was hashed and the compacted revision.
    known: BTreeMap<(i64, i64), u32>,
}

impl HashKvs {
    pub fn answered(&mut self, hashed: i64, compacted: i64, hash: u32) -> Verdict {
        match self.known.insert((hashed, compacted), hash) {
            Some(known) if known != hash => Err(format!(
                "HashKV of revision {hashed} over the compaction at {compacted} is {hash:x}, it \
                 was {known:x}"
            )),
            _ => Ok(()),
        }
    }
}
