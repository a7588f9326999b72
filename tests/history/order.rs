//! The one order of all writes: by revision, each revision taken by exactly one of them, with
//! the answer that the model gives there. A revision that no answer claims is a write whose
//! outcome is unknown, or the end of a lease; the watch that saw it says which. So an answered
//! write that is lost, doubled, torn or swapped has no place, or another answer.

use std::collections::BTreeMap;
use std::time::Duration;

use storage::apply::command::{Command, RequestOp};
use storage::types::LeaseId;

use crate::answer::Change;
use crate::model::Model;

use super::record::{Call, History, Request};
use super::{reads, recorded_leases::EndedLease};

/// What the order says of the lives of leases and of the open writes.
#[derive(Debug, Default)]
pub struct Placed {
    pub ended: Vec<EndedLease>,
    pub open_happened: u64,
    pub head: i64,
}

/// Who took a revision that no answer claims.
enum Source {
    /// A revocation; its answer does not say whether it took one.
    Answered,
    /// A write whose outcome was unknown.
    Open,
    /// A lease that ended by itself.
    LeaseEnd(EndedLease),
}

/// Carries all writes out on the model, which stands at the revision before the first, and
/// notes what every revision changed.
pub fn replay(
    history: &History,
    model: &mut Model,
    events: &mut BTreeMap<i64, Vec<Change>>,
) -> Result<Placed, String> {
    let base = model.state().0;
    let seen = evidence(history);
    let mut written: BTreeMap<i64, &Call> = BTreeMap::new();
    let mut shown: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
    let mut open: Vec<&Call> = Vec::new();
    for call in &history.calls {
        match call.shown() {
            Some(revision) if call.changed() => {
                if let Some(other) = written.insert(revision, call) {
                    return Err(format!(
                        "two writes got revision {revision}: {call:?}, {other:?}"
                    ));
                }
            }
            Some(revision) => shown.entry(revision).or_default().push(call),
            None if call.answered.is_none() => open.push(call),
            None => {}
        }
    }
    let heads = [
        written.keys().last(),
        shown.keys().last(),
        seen.keys().last(),
    ];
    let head = heads.into_iter().flatten().max().copied();
    let mut placed = Placed {
        head: head.unwrap_or(base).max(base),
        ..Placed::default()
    };
    if let Some((revision, call)) = written.first_key_value().filter(|(r, _)| **r <= base) {
        return Err(format!("revision {revision} was taken before: {call:?}"));
    }
    at_one_revision(model, shown.get(&base))?;
    for revision in base + 1..=placed.head {
        if let Some(call) = written.get(&revision) {
            carry_out(call, revision, model, events)?;
        } else {
            let (at, changes) = seen
                .get(&revision)
                .ok_or_else(|| format!("nobody wrote revision {revision}, no watch saw it"))?;
            let revokes = shown.get(&revision).into_iter().flatten().copied();
            let candidates = revokes.chain(open.iter().copied());
            match explain(revision, (*at, changes), candidates, model, events)? {
                Source::LeaseEnd(ended) => placed.ended.push(ended),
                Source::Open => placed.open_happened += 1,
                Source::Answered => {}
            }
        }
        at_one_revision(model, shown.get(&revision))?;
    }
    Ok(placed)
}

/// What a watch of all keys saw, and when.
fn evidence(history: &History) -> BTreeMap<i64, (Duration, Vec<Change>)> {
    let mut seen = BTreeMap::new();
    for watch in history.watches.iter().filter(|watch| watch.sees_all()) {
        let mut of_this: BTreeMap<i64, (Duration, Vec<Change>)> = BTreeMap::new();
        for received in &watch.received {
            for (revision, change) in &received.events {
                let entry = of_this
                    .entry(*revision)
                    .or_insert((received.at, Vec::new()));
                entry.1.push(change.clone());
            }
        }
        for (revision, found) in of_this {
            seen.entry(revision).or_insert(found);
        }
    }
    seen
}

fn carry_out(
    call: &Call,
    revision: i64,
    model: &mut Model,
    events: &mut BTreeMap<i64, Vec<Change>>,
) -> Result<(), String> {
    let (Request::Write(command), Some(answered)) = (&call.request, &call.answered) else {
        return Err(format!("no write took revision {revision}: {call:?}"));
    };
    let effect = model.command(command);
    reads::check_write(&format!("{command:?}"), &effect, &answered.answer, revision)?;
    events.insert(revision, effect.changes);
    Ok(())
}

/// Finds who took a revision: a revocation answered with it, an open write, or the end of a
/// lease by itself, of which it tells.
fn explain<'a>(
    revision: i64,
    (at, changes): (Duration, &[Change]),
    candidates: impl Iterator<Item = &'a Call>,
    model: &mut Model,
    events: &mut BTreeMap<i64, Vec<Change>>,
) -> Result<Source, String> {
    let keys: Vec<&[u8]> = changes.iter().map(|c| &c.key_value.key[..]).collect();
    let mut commands: Vec<(Command, bool)> = Vec::new();
    for call in candidates.filter(|call| call.invoked <= at) {
        if let Request::Write(command) = &call.request
            && (matches!(command, Command::LeaseRevoke { .. }) || touches(command, &keys))
        {
            commands.push((command.clone(), call.answered.is_none()));
        }
    }
    let leases = model.leases();
    let attached = leases.iter().find(|(_, _, attached)| {
        let same = attached.len() == keys.len();
        same && !keys.is_empty() && attached.iter().all(|key| keys.contains(&&key[..]))
    });
    let by_itself = attached.map(|(lease, _, _)| *lease);
    let asked = commands.len();
    commands.extend(by_itself.map(|lease| {
        let lease = LeaseId(lease);
        (Command::LeaseRevoke { lease }, false)
    }));
    for (place, (command, open)) in commands.iter().enumerate() {
        let mut tried = model.clone();
        let effect = tried.command(command);
        if same(&effect.changes, changes) {
            *model = tried;
            events.insert(revision, effect.changes);
            return Ok(match by_itself {
                Some(lease) if place >= asked => Source::LeaseEnd(EndedLease {
                    lease,
                    at,
                    revision,
                }),
                _ if *open => Source::Open,
                _ => Source::Answered,
            });
        }
    }
    Err(format!("nobody asked for revision {revision}: {changes:?}"))
}

/// A watch shows no places within a revision, and no predecessor that is compacted away.
fn same(expected: &[Change], found: &[Change]) -> bool {
    let mut pairs = expected.iter().zip(found);
    expected.len() == found.len()
        && pairs.all(|(e, f)| e.deletion == f.deletion && e.key_value == f.key_value)
}

/// Whether a write can change exactly these keys: a cheap question before the model's.
fn touches(command: &Command, keys: &[&[u8]]) -> bool {
    let of_ops = |ops: &[RequestOp]| {
        let keys_of = |op: &RequestOp| match op {
            RequestOp::Put(put) => Some(put.key.clone()),
            RequestOp::DeleteRange(delete) => Some(delete.range.key.clone()),
            _ => None,
        };
        ops.iter()
            .filter_map(keys_of)
            .any(|key| keys.first() == Some(&&key[..]))
    };
    match command {
        Command::Put(put) => keys == [&put.key[..]],
        Command::DeleteRange(delete) => keys.contains(&&delete.range.key[..]),
        Command::Txn(txn) => of_ops(&txn.success) || of_ops(&txn.failure),
        _ => false,
    }
}

/// Writes that took no revision and transactions that only read, at the one they show.
/// Compactions are the business of `reads`: the model keeps what they cover.
fn at_one_revision(model: &mut Model, calls: Option<&Vec<&Call>>) -> Result<(), String> {
    for call in calls.into_iter().flatten() {
        let (Request::Write(command), Some(answered)) = (&call.request, &call.answered) else {
            continue;
        };
        if matches!(command, Command::Compact { .. }) {
            continue;
        }
        // One that took this revision was carried out with it.
        if let Command::LeaseRevoke { lease } = command
            && !model.leases().iter().any(|(known, _, _)| *known == lease.0)
        {
            continue;
        }
        let effect = model.command(command);
        if !effect.changes.is_empty() {
            return Err(format!("{call:?} must have changed something"));
        }
        reads::check_write(
            &format!("{call:?}"),
            &effect,
            &answered.answer,
            answered.revision,
        )?;
    }
    Ok(())
}
