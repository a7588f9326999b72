//! The answers of each group of keys are those of one order of all calls that respects real
//! time: the search of Wing and Gong with the memory of Lowe, as porcupine does it. It trusts
//! no watch and no order by revision; a write whose outcome is unknown may stand anywhere
//! after its invocation, or nowhere. The specification is its own (`group_spec`).
//!
//! A group is all keys with the same text up to the last `/`; a write stays within one.
//! Limit: [`STEPS_MAX`] steps a group; a search that does not end counts as a failure.

use std::collections::HashSet;
use std::time::Duration;

use crate::answer::KeyValue;

use super::Verdict;
use super::group_spec::{Operation, State, operations};
use super::record::History;

const STEPS_MAX: usize = 2_000_000;

/// `before` are all keys as the stretch found them.
pub fn check(history: &History, before: &[KeyValue], base: i64) -> Verdict {
    for (group, operations) in operations(history, before) {
        let rows = before.iter().filter(|kv| group_of(&kv.key) == &group[..]);
        let first = State::new(rows, base);
        search(&operations, first)
            .map_err(|problem| format!("group {:?}: {problem}", String::from_utf8_lossy(&group)))?;
    }
    Ok(())
}

/// See the head of the file.
pub fn group_of(key: &[u8]) -> &[u8] {
    let end = key
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    &key[..end]
}

/// The points in time, linked so that those of placed operations can be lifted out and put
/// back. 0 is the head and the end.
struct Points {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Which operation, and whether it is its return.
    what: Vec<(usize, bool)>,
    /// Of each operation its invocation and, unless it is open, its return.
    of: Vec<(usize, Option<usize>)>,
}

impl Points {
    fn new(operations: &[Operation]) -> Points {
        let mut times: Vec<(Duration, bool, usize)> = Vec::new();
        for (place, operation) in operations.iter().enumerate() {
            times.push((operation.invoked, false, place));
            times.extend(operation.returned.map(|at| (at, true, place)));
        }
        times.sort_unstable();
        let count = times.len() + 1;
        let mut points = Points {
            next: (1..count).chain([0]).collect(),
            previous: (0..count)
                .map(|at| at.checked_sub(1).unwrap_or(count - 1))
                .collect(),
            what: vec![(usize::MAX, true)],
            of: vec![(0, None); operations.len()],
        };
        for (at, (_, returns, operation)) in times.into_iter().enumerate() {
            points.what.push((operation, returns));
            match returns {
                true => points.of[operation].1 = Some(at + 1),
                false => points.of[operation].0 = at + 1,
            }
        }
        points
    }

    fn lift(&mut self, operation: usize) {
        let (call, returns) = self.of[operation];
        for at in [Some(call), returns].into_iter().flatten() {
            let (before, after) = (self.previous[at], self.next[at]);
            self.next[before] = after;
            self.previous[after] = before;
        }
    }

    fn put_back(&mut self, operation: usize) {
        let (call, returns) = self.of[operation];
        for at in [returns, Some(call)].into_iter().flatten() {
            let (before, after) = (self.previous[at], self.next[at]);
            self.next[before] = at;
            self.previous[after] = at;
        }
    }
}

fn search(operations: &[Operation], first: State) -> Verdict {
    let mut points = Points::new(operations);
    let mut answered = operations.iter().filter(|o| o.returned.is_some()).count();
    let mut placed = vec![0_u64; operations.len().div_ceil(64)];
    let mut known: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut taken: Vec<(usize, State)> = Vec::new();
    let (mut state, mut at, mut deepest) = (first, points.next[0], (0, usize::MAX));
    for _ in 0..STEPS_MAX {
        if answered == 0 {
            return Ok(());
        }
        let (operation, returns) = points.what[at];
        if !returns {
            let after = state.after(&operations[operation]);
            placed[operation / 64] ^= 1 << (operation % 64);
            if let Some(after) = after.filter(|after| known.insert((placed.clone(), after.clone())))
            {
                answered -= usize::from(operations[operation].returned.is_some());
                taken.push((operation, std::mem::replace(&mut state, after)));
                points.lift(operation);
                at = points.next[0];
                continue;
            }
            placed[operation / 64] ^= 1 << (operation % 64);
            at = points.next[at];
            continue;
        }
        // Whatever returns here has found no place: another choice before it.
        if taken.len() >= deepest.0 && operation != usize::MAX {
            deepest = (taken.len(), operation);
        }
        let Some((last, before)) = taken.pop() else {
            let stuck = operations.get(deepest.1);
            return Err(format!("no order explains {stuck:?}"));
        };
        state = before;
        answered += usize::from(operations[last].returned.is_some());
        placed[last / 64] ^= 1 << (last % 64);
        points.put_back(last);
        at = points.next[points.of[last].0];
    }
    Err(format!("no order found in {STEPS_MAX} steps"))
}
