//! Revisions rise by one with every write that changes something, and no answer
//! ever shows a lower one than an answer before it, restarts included.

use super::Verdict;

#[derive(Clone, Debug)]
pub struct Revisions {
    shown: i64,
    written: i64,
}

impl Revisions {
    pub fn new() -> Revisions {
        Revisions {
            shown: 1,
            written: 1,
        }
    }

    /// A write was carried out and answered with this revision.
    pub fn wrote(&mut self, revision: i64, changed: bool) -> Verdict {
        if changed && revision != self.written + 1 {
            return Err(format!(
                "a write got revision {revision}, the one before had {}",
                self.written
            ));
        }
        if !changed && revision != self.written {
            return Err(format!(
                "a write that changed nothing shows revision {revision}, the current one is {}",
                self.written
            ));
        }
        self.written = revision;
        self.shows(revision)
    }

    /// Any answer's header.
    pub fn shows(&mut self, revision: i64) -> Verdict {
        if revision < self.shown {
            return Err(format!(
                "an answer shows revision {revision} after one that showed {}",
                self.shown
            ));
        }
        self.shown = revision;
        Ok(())
    }

    /// A member serves again; writes of unknown outcome may have taken revisions.
    pub fn recovered(&mut self, revision: i64) -> Verdict {
        self.written = revision;
        self.shows(revision)
    }
}
