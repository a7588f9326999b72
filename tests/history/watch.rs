//! The watch guarantees for one watcher: ordered, unique, reliable (no event of
//! its keys and filters left out), atomic (a revision comes whole), resumable,
//! bookmarkable (progress names nothing that was not sent); and predecessors are
//! those of the revision before.

use std::collections::BTreeMap;

use crate::answer::Change;

use super::Verdict;

/// What a watcher wants to see.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    pub key: Vec<u8>,
    /// In etcd's form: empty is the one key, one zero byte "from key on".
    pub range_end: Vec<u8>,
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
}

impl Interest {
    fn holds(&self, change: &Change) -> bool {
        let key = change.key_value.key.as_slice();
        let inside = match self.range_end.as_slice() {
            [] => key == self.key,
            [0] => key >= self.key.as_slice(),
            end => key >= self.key.as_slice() && key < end,
        };
        let filtered = if change.deletion {
            self.no_delete
        } else {
            self.no_put
        };
        inside && !filtered
    }

    /// What this watcher must see of a revision.
    fn wanted(&self, changes: &[Change]) -> Vec<Change> {
        let mut wanted: Vec<Change> = changes.iter().filter(|c| self.holds(c)).cloned().collect();
        if !self.prev_kv {
            for change in &mut wanted {
                change.previous = None;
            }
        }
        wanted
    }
}

/// What every revision changed.
type Log = BTreeMap<i64, Vec<Change>>;

/// What one watcher has received.
#[derive(Clone, Debug)]
pub struct Watched {
    pub interest: Interest,
    /// Everything before this was received, or does not concern it.
    pub next: i64,
}

impl Watched {
    /// Events arrive in one response. `compacted` is the compacted revision at that
    /// time: at and below it predecessors may be absent.
    pub fn received(&mut self, log: &Log, events: &[(i64, Change)], compacted: i64) -> Verdict {
        for whole in events.chunk_by(|one, other| one.0 == other.0) {
            let revision = whole.first().map_or(0, |(revision, _)| *revision);
            if revision < self.next {
                return Err(format!(
                    "a watcher that has everything before {} receives revision {revision}",
                    self.next
                ));
            }
            self.everything_before(log, revision)?;
            let Some(changes) = log.get(&revision) else {
                return Err(format!("events of revision {revision}, which nobody wrote"));
            };
            let mut expected = self.interest.wanted(changes);
            let found: Vec<Change> = whole.iter().map(|(_, change)| change.clone()).collect();
            if revision <= compacted {
                for (expected, found) in expected.iter_mut().zip(&found) {
                    if found.previous.is_none() {
                        expected.previous = None;
                    }
                }
            }
            if expected != found {
                return Err(format!(
                    "the events of revision {revision} are wrong (compacted {compacted}, {:?}).\n\
                     expected: {expected:?}\nfound:    {found:?}",
                    self.interest
                ));
            }
            self.next = revision + 1;
        }
        Ok(())
    }

    /// Progress: everything up to this revision was sent.
    pub fn progress(&mut self, log: &Log, revision: i64) -> Verdict {
        self.everything_before(log, revision + 1)?;
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    fn everything_before(&self, log: &Log, revision: i64) -> Verdict {
        if revision <= self.next {
            return Ok(());
        }
        for (missed, changes) in log.range(self.next..revision) {
            if !self.interest.wanted(changes).is_empty() {
                return Err(format!(
                    "a watcher that waits for revision {} never receives {missed}",
                    self.next
                ));
            }
        }
        Ok(())
    }
}
