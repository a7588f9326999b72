//! The watch guarantees for a watcher of all keys: ordered, unique, reliable
//! (no revision left out), atomic (a revision comes whole), resumable, and the
//! predecessors are those of the revision before.

use std::collections::BTreeMap;

use crate::answer::Change;

use super::Verdict;

/// What one watcher has received.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The revision that must come next.
    pub next: i64,
}

impl Watched {
    /// One revision arrives. `compacted` is the compacted revision at that time:
    /// at and below it predecessors may be absent.
    pub fn received(
        &mut self,
        log: &BTreeMap<i64, Vec<Change>>,
        (revision, changes): (i64, Vec<Change>),
        compacted: i64,
    ) -> Verdict {
        if revision != self.next {
            return Err(format!(
                "a watcher that waits for revision {} receives {revision}",
                self.next
            ));
        }
        let Some(expected) = log.get(&revision) else {
            return Err(format!("events of revision {revision}, which nobody wrote"));
        };
        let mut expected = expected.clone();
        if revision <= compacted {
            for (expected, found) in expected.iter_mut().zip(&changes) {
                if found.previous.is_none() {
                    expected.previous = None;
                }
            }
        }
        if expected != changes {
            return Err(format!(
                "the events of revision {revision} are wrong (compacted {compacted}).\n\
                 expected: {expected:?}\nfound:    {changes:?}"
            ));
        }
        self.next += 1;
        Ok(())
    }
}
