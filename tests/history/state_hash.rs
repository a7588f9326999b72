//! The state after an entry has one hash, however often it is reached: live, by
//! replay, or from a checkpoint.

use std::collections::BTreeMap;

use super::Verdict;

#[derive(Clone, Debug, Default)]
pub struct StateHashes {
    /// By index and term of the entry.
    known: BTreeMap<(u64, u64), String>,
}

impl StateHashes {
    pub fn reached(&mut self, index: u64, term: u64, hash: &str) -> Verdict {
        match self.known.get(&(index, term)) {
            Some(known) if known != hash => Err(format!(
                "the state after entry {index} of term {term} has the hash {hash}, it was {known}"
            )),
            Some(_) => Ok(()),
            None => {
                self.known.insert((index, term), hash.to_owned());
                Ok(())
            }
        }
    }
}
