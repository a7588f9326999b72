//! Every answer is what the model gives for the same request at its revision.

use crate::answer::{Answer, Effect, KeyValue};

use super::Verdict;

/// Judges the answer to a read.
pub fn check(what: &str, expected: &Answer, found: &Answer) -> Verdict {
    if expected == found {
        return Ok(());
    }
    Err(format!(
        "{what} is answered wrongly.\nexpected: {expected:?}\nfound:    {found:?}"
    ))
}

/// Judges what a write answered.
pub fn check_write(what: &str, expected: &Effect, answer: &Answer, revision: i64) -> Verdict {
    if expected.revision != revision {
        return Err(format!(
            "{what} is answered with revision {revision}, expected {}",
            expected.revision
        ));
    }
    check(what, &expected.answer, answer)
}

/// Judges the key-values of a read that went on over several slices.
pub fn check_slices(revision: i64, expected: &[KeyValue], found: &[KeyValue]) -> Verdict {
    if expected == found {
        return Ok(());
    }
    Err(format!(
        "a pinned read at revision {revision} is wrong.\nexpected: {expected:?}\nfound:    \
         {found:?}"
    ))
}
