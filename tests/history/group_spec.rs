//! What a group of keys does, one operation after the other, in the fewest words: the
//! specification of `linearizable`. It knows nothing of the model that the other checkers use.
//! Revisions that nobody was told are unknown until an answer shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use storage::apply::command::{Command, CompareTarget, Range, RequestOp};

use crate::answer::{Answer, KeyValue};

use super::linearizable::group_of;
use super::record::{Call, History, Request};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub value: Vec<u8>,
    pub lease: i64,
    pub version: i64,
    /// None where a write of unknown outcome made it.
    pub created: Option<i64>,
    pub modified: Option<i64>,
}

/// The keys of a group at one point of the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    rows: BTreeMap<Vec<u8>, Row>,
    /// No later operation shows less.
    revision: i64,
}

/// One key written or deleted.
pub type Change = (Vec<u8>, Option<(Vec<u8>, i64)>);

#[derive(Clone, Debug)]
pub enum Action {
    /// Changes, if the guards (mod revision of a key, 0 for absent) hold; `told` is whether
    /// the answer says that they did.
    Write {
        guards: Vec<(Vec<u8>, i64)>,
        changes: Vec<Change>,
        told: Option<bool>,
        /// Exactly these keys were there to be deleted.
        deleted: Option<i64>,
    },
    EndLease(i64),
    /// Every key of the group between two, as the answer shows them.
    Read(Vec<u8>, Vec<u8>, Vec<KeyValue>),
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub invoked: Duration,
    pub returned: Option<Duration>,
    pub revision: Option<i64>,
    pub action: Action,
}

impl State {
    pub fn new<'a>(rows: impl Iterator<Item = &'a KeyValue>, revision: i64) -> State {
        let row = |kv: &KeyValue| Row {
            value: kv.value.clone(),
            lease: kv.lease,
            version: kv.version,
            created: Some(kv.create),
            modified: Some(kv.modified),
        };
        State {
            rows: rows.map(|kv| (kv.key.clone(), row(kv))).collect(),
            revision,
        }
    }

    /// The state after an operation, if it can stand here.
    pub fn after(&self, operation: &Operation) -> Option<State> {
        let mut state = self.clone();
        if operation
            .revision
            .is_some_and(|revision| revision < self.revision)
        {
            return None;
        }
        let changed = match &operation.action {
            Action::Read(from, to, shown) => state.reads(from, to, shown).then_some(false)?,
            Action::EndLease(lease) => {
                let count = state.rows.len();
                state.rows.retain(|_, row| row.lease != *lease);
                count != state.rows.len()
            }
            Action::Write {
                guards,
                changes,
                told,
                deleted,
            } => {
                let holds = state.guarded(guards, *told)?;
                if told.is_some_and(|told| told != holds) {
                    return None;
                }
                holds && state.write(changes, operation.revision, *deleted)?
            }
        };
        state.revision = match operation.revision {
            Some(revision) if changed && revision <= self.revision => return None,
            Some(revision) => revision,
            None => self.revision + i64::from(changed),
        };
        Some(state)
    }

    /// Whether the guards hold. Where an answer says so, it tells unknown revisions.
    fn guarded(&mut self, guards: &[(Vec<u8>, i64)], told: Option<bool>) -> Option<bool> {
        for (key, wanted) in guards {
            let holds = match self.rows.get_mut(key) {
                None => *wanted == 0,
                Some(row) => match row.modified {
                    Some(modified) => modified == *wanted,
                    // Nobody was told the revision, so nobody guards by it unless it was read.
                    None if told == Some(true) && *wanted > 0 => {
                        row.modified = Some(*wanted);
                        true
                    }
                    None => false,
                },
            };
            if !holds {
                return Some(false);
            }
        }
        Some(true)
    }

    fn write(
        &mut self,
        changes: &[Change],
        revision: Option<i64>,
        deleted: Option<i64>,
    ) -> Option<bool> {
        let (mut changed, mut gone) = (false, 0);
        for (key, put) in changes {
            let Some((value, lease)) = put else {
                let was_there = self.rows.remove(key).is_some();
                gone += i64::from(was_there);
                changed |= was_there;
                continue;
            };
            changed = true;
            let row = self.rows.entry(key.clone()).or_insert(Row {
                value: Vec::new(),
                lease: 0,
                version: 0,
                created: revision,
                modified: None,
            });
            row.value.clone_from(value);
            row.lease = *lease;
            row.version += 1;
            row.modified = revision;
        }
        (deleted.is_none() || deleted == Some(gone)).then_some(changed)
    }

    fn reads(&mut self, from: &[u8], to: &[u8], shown: &[KeyValue]) -> bool {
        let range = from.to_vec()..to.to_vec();
        if self.rows.range(range.clone()).count() != shown.len() {
            return false;
        }
        let mut pairs = self.rows.range_mut(range).zip(shown);
        pairs.all(|((key, row), shown)| {
            let modified = *row.modified.get_or_insert(shown.modified);
            let created = *row.created.get_or_insert(shown.create);
            *key == shown.key
                && row.value == shown.value
                && row.lease == shown.lease
                && row.version == shown.version
                && modified == shown.modified
                && created == shown.create
        })
    }
}

type Groups = BTreeMap<Vec<u8>, Vec<Operation>>;

/// The operations of every group. A read of many groups is one of each.
pub fn operations(history: &History, before: &[KeyValue]) -> Groups {
    let mut groups: Groups = BTreeMap::new();
    for kv in before {
        groups.entry(group_of(&kv.key).to_vec()).or_default();
    }
    let mut leased: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    let with_lease = before.iter().filter(|kv| kv.lease != 0);
    leased.extend(with_lease.map(|kv| (kv.lease, group_of(&kv.key).to_vec())));
    for call in &history.calls {
        let Request::Write(command) = &call.request else {
            continue;
        };
        if let Some((group, action)) = write(command, call) {
            if let Action::Write { changes, .. } = &action {
                let puts = changes.iter().filter_map(|(_, put)| put.as_ref());
                let of_leases = puts.filter(|(_, lease)| *lease != 0);
                leased.extend(of_leases.map(|(_, lease)| (*lease, group.clone())));
            }
            groups
                .entry(group)
                .or_default()
                .push(operation(call, action));
        }
    }
    for call in &history.calls {
        if let Request::Write(Command::LeaseRevoke { lease }) = &call.request
            && let (Some(group), false) = (leased.get(&lease.0), is_refused(call))
        {
            let action = Action::EndLease(lease.0);
            groups
                .entry(group.clone())
                .or_default()
                .push(operation(call, action));
        }
    }
    // A lease may end by itself; whether it was too early is the business of another.
    for (lease, group) in &leased {
        groups.entry(group.clone()).or_default().push(Operation {
            invoked: Duration::ZERO,
            returned: None,
            revision: None,
            action: Action::EndLease(*lease),
        });
    }
    for call in &history.calls {
        if let Request::Read(range) = &call.request {
            read(call, range, &mut groups);
        }
    }
    groups
}

fn is_refused(call: &Call) -> bool {
    let answer = call.answered.as_ref().map(|answered| &answered.answer);
    matches!(answer, Some(Answer::Refused(_)))
}

fn operation(call: &Call, action: Action) -> Operation {
    Operation {
        invoked: call.invoked,
        returned: call.answered.as_ref().map(|answered| answered.at),
        revision: call.shown(),
        action,
    }
}

fn write(command: &Command, call: &Call) -> Option<(Vec<u8>, Action)> {
    if is_refused(call) {
        return None;
    }
    let answer = call.answered.as_ref().map(|answered| &answered.answer);
    let single = |op: &RequestOp| match op {
        RequestOp::Put(put) => Some((put.key.to_vec(), Some((put.value.to_vec(), put.lease.0)))),
        RequestOp::DeleteRange(delete) => Some((delete.range.key.to_vec(), None)),
        _ => None,
    };
    let (guards, changes, told, deleted) = match command {
        Command::Put(put) => (
            vec![],
            vec![single(&RequestOp::Put(put.clone()))?],
            None,
            None,
        ),
        Command::DeleteRange(delete) => {
            let deleted = match answer {
                Some(Answer::Delete { deleted, .. }) => Some(*deleted),
                _ => None,
            };
            let op = RequestOp::DeleteRange(delete.clone());
            (vec![], vec![single(&op)?], None, deleted)
        }
        Command::Txn(txn) => {
            let guard = txn
                .compare
                .iter()
                .filter_map(|compare| match compare.target {
                    CompareTarget::Mod(revision) => Some((compare.range.key.to_vec(), revision)),
                    _ => None,
                });
            let told = match answer {
                Some(Answer::Txn { succeeded, .. }) => Some(*succeeded),
                _ => None,
            };
            let changes = txn.success.iter().filter_map(single).collect();
            (guard.collect(), changes, told, None)
        }
        _ => return None,
    };
    let group = group_of(&changes.first()?.0).to_vec();
    let action = Action::Write {
        guards,
        changes,
        told,
        deleted,
    };
    Some((group, action))
}

/// Reads of old revisions and pages are judged by the order of revisions alone.
fn read(call: &Call, range: &Range, groups: &mut Groups) {
    let Some(answered) = &call.answered else {
        return;
    };
    let Answer::Range { key_values, .. } = &answered.answer else {
        return;
    };
    if range.revision != 0 || range.limit != 0 || range.count_only || range.keys_only {
        return;
    }
    let from = &range.range.key[..];
    let to = match &range.range.range_end[..] {
        b"" => [from, b"\0"].concat(),
        b"\0" => vec![0xff],
        end => end.to_vec(),
    };
    for (group, operations) in groups.iter_mut() {
        // The part of the range that lies in the group: below `group/` up to `group0`.
        let mut end = group.clone();
        let Some(last) = end.last_mut() else { continue };
        *last += 1;
        let first = from.max(&group[..]).to_vec();
        let end = to.clone().min(end);
        if first >= end {
            continue;
        }
        let inside = |kv: &&KeyValue| kv.key >= first && kv.key < end && group_of(&kv.key) == group;
        let shown = key_values.iter().filter(inside).cloned().collect();
        operations.push(operation(call, Action::Read(first.clone(), end, shown)));
    }
}
