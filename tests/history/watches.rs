//! The watch guarantees for every recorded watch: what it receives is what was written, of its
//! range and its filters, in the order of revisions (ordered), once (unique), nothing left out
//! (reliable), a revision in one response unless marked as fragments (atomic), from its start
//! on (resumable), all of it before a progress report of its revision (bookmarkable), each
//! event with its predecessor if asked for (prev_kv).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::answer::Change;

use super::Verdict;
use super::record::{Received, Watch};
use super::recorded_reads::Compaction;

type Expected = Vec<(i64, Change)>;

/// Judges one watch against what every revision changed.
pub fn check(
    watch: &Watch,
    events: &BTreeMap<i64, Vec<Change>>,
    compactions: &[Compaction],
) -> Verdict {
    if watch.sees_all() {
        without_gap(watch)?;
    }
    let expected = expected(watch, events);
    let mut next = 0;
    for received in &watch.received {
        for found in &received.events {
            let wanted = expected.get(next);
            if !wanted.is_some_and(|wanted| same(wanted, found, received.at, compactions)) {
                return Err(format!(
                    "a watch of {:?} from {} must see {wanted:?}, it sees {found:?}",
                    watch.range, watch.start
                ));
            }
            next += 1;
        }
        whole(received, expected.get(next))?;
    }
    match expected.get(next) {
        Some((revision, _)) if *revision <= watch.must_reach => Err(format!(
            "a watch that must have reached {} misses revision {revision}",
            watch.must_reach
        )),
        _ => Ok(()),
    }
}

/// Every revision changes something, so a watch of all keys sees each; this needs no order.
fn without_gap(watch: &Watch) -> Verdict {
    let mut last = watch.start - 1;
    for (revision, _) in watch.received.iter().flat_map(|received| &received.events) {
        if *revision != last && *revision != last + 1 {
            return Err(format!("a watch of all keys sees {revision} after {last}"));
        }
        last = *revision;
    }
    if last < watch.must_reach {
        return Err(format!(
            "a watch of all keys ends at {last}, not {}",
            watch.must_reach
        ));
    }
    Ok(())
}

fn expected(watch: &Watch, events: &BTreeMap<i64, Vec<Change>>) -> Expected {
    let range = &watch.range;
    let inside = |key: &[u8]| match &range.range_end[..] {
        b"" => key == &range.key[..],
        b"\0" => key >= &range.key[..],
        end => key >= &range.key[..] && key < end,
    };
    let mut expected = Vec::new();
    for (revision, changes) in events.range(watch.start..) {
        let wanted = changes.iter().filter(|change| {
            let dropped = if change.deletion {
                watch.no_delete
            } else {
                watch.no_put
            };
            !dropped && inside(&change.key_value.key)
        });
        for change in wanted {
            let mut change = change.clone();
            if !watch.prev_kv {
                change.previous = None;
            }
            expected.push((*revision, change));
        }
    }
    expected
}

/// The place within the revision is not on the wire; a predecessor may be compacted away.
fn same(
    wanted: &(i64, Change),
    found: &(i64, Change),
    at: Duration,
    compactions: &[Compaction],
) -> bool {
    let gone = |c: &Compaction| c.revision >= wanted.0 && c.invoked <= at;
    let previous = wanted.1.previous == found.1.previous
        || (found.1.previous.is_none() && compactions.iter().any(gone));
    previous
        && wanted.0 == found.0
        && wanted.1.deletion == found.1.deletion
        && wanted.1.key_value == found.1.key_value
}

/// After a response its last revision is complete, after a progress report all up to it.
fn whole(received: &Received, next: Option<&(i64, Change)>) -> Verdict {
    let last = match received.events.last() {
        Some(_) if received.fragment => return Ok(()),
        Some((revision, _)) if received.revision < *revision => {
            return Err(format!("a header behind its events: {received:?}"));
        }
        Some((revision, _)) => *revision,
        None => received.revision,
    };
    match next {
        Some((revision, change)) if *revision <= last => Err(format!(
            "all up to {last} is told, {change:?} of {revision} is missing: {received:?}"
        )),
        _ => Ok(()),
    }
}
