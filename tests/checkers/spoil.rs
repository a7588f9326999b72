//! Ways in which a member could break its word, done to a good history. Each names the
//! checker whose kind it is; others may find it as well.

use storage::apply::command::Command;
use storage::vfs::sim::SplitMix64;

use crate::answer::{Answer, KeyValue};
use crate::history::record::{Call, History, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    LostWrite,
    DoubledRevision,
    SwappedRevisions,
    GuardIgnored,
    StaleRead,
    StaleWrite,
    WrongRead,
    OldReadWrong,
    CompactedServed,
    TornPair,
    LostEvent,
    DoubledEvent,
    SwappedEvents,
    SplitRevision,
    EarlyProgress,
    MissingPredecessor,
    FilterIgnored,
    EarlyLease,
    RenewedAfterEnd,
    GroupReadOfThePast,
}

pub type Kind = (&'static str, &'static str, Damage);

pub const KINDS: [Kind; 20] = [
    ("a lost write", "real time", Damage::LostWrite),
    (
        "one revision for two writes",
        "order",
        Damage::DoubledRevision,
    ),
    ("two answers swapped", "watch", Damage::SwappedRevisions),
    ("a guard that was ignored", "order", Damage::GuardIgnored),
    ("a stale read", "real time", Damage::StaleRead),
    (
        "a write below what was shown",
        "real time",
        Damage::StaleWrite,
    ),
    ("a wrong read", "reads", Damage::WrongRead),
    (
        "a wrong read of an old revision",
        "reads",
        Damage::OldReadWrong,
    ),
    (
        "a compacted revision served",
        "reads",
        Damage::CompactedServed,
    ),
    ("a torn transaction", "atomic", Damage::TornPair),
    ("a lost event", "watch", Damage::LostEvent),
    ("a doubled event", "watch", Damage::DoubledEvent),
    ("events out of order", "watch", Damage::SwappedEvents),
    ("a split revision", "watch", Damage::SplitRevision),
    ("progress before its events", "watch", Damage::EarlyProgress),
    ("a wrong predecessor", "watch", Damage::MissingPredecessor),
    ("a filter ignored", "watch", Damage::FilterIgnored),
    ("a lease ended early", "leases", Damage::EarlyLease),
    (
        "a lease renewed after its end",
        "leases",
        Damage::RenewedAfterEnd,
    ),
    (
        "a group read as of before a write",
        "linearizable",
        Damage::GroupReadOfThePast,
    ),
];

/// Does the damage; false where the history has no place for it.
pub fn spoil(damage: Damage, history: &mut History, seed: u64) -> bool {
    let random = &mut SplitMix64(seed ^ 0x5eed);
    let done = match damage {
        Damage::LostWrite => lost_write(history),
        Damage::DoubledRevision => doubled_revision(history, random),
        Damage::SwappedRevisions => swapped_revisions(history, random),
        Damage::GuardIgnored => guard_ignored(history, random),
        Damage::StaleRead => stale_read(history, random),
        Damage::StaleWrite => stale_write(history, random),
        Damage::WrongRead => wrong_read(history, random, false),
        Damage::OldReadWrong => wrong_read(history, random, true),
        Damage::CompactedServed => compacted_served(history, random),
        Damage::TornPair => torn_pair(history, random),
        Damage::EarlyLease | Damage::RenewedAfterEnd => lease(damage, history, random),
        Damage::GroupReadOfThePast => group_read_of_the_past(history, random),
        _ => watch(damage, history, random),
    };
    done.is_some()
}

/// One of the calls that a question picks out.
fn pick(
    history: &History,
    random: &mut SplitMix64,
    question: impl Fn(&Call) -> bool,
) -> Option<usize> {
    let fitting: Vec<usize> = (0..history.calls.len())
        .filter(|at| question(&history.calls[*at]))
        .collect();
    let count = u64::try_from(fitting.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(fitting[random.below(count) as usize])
}

fn answer(call: &mut Call) -> Option<&mut Answer> {
    Some(&mut call.answered.as_mut()?.answer)
}

fn set_revision(call: &mut Call, to: i64) -> Option<()> {
    call.answered.as_mut()?.revision = to;
    match answer(call)? {
        Answer::Put { revision, .. }
        | Answer::Delete { revision, .. }
        | Answer::Range { revision, .. }
        | Answer::Txn { revision, .. } => *revision = to,
        _ => {}
    }
    Some(())
}

/// The last write was answered; the final read finds a state without it, no watch saw it.
fn lost_write(history: &mut History) -> Option<()> {
    let last = history.calls.iter().filter_map(Call::shown).max()?;
    let write = history.calls.iter();
    write
        .filter(|call| call.shown() == Some(last))
        .find(|call| call.changed())?;
    for watch in &mut history.watches {
        watch.must_reach = watch.must_reach.min(last - 1);
        for received in &mut watch.received {
            received.events.retain(|(revision, _)| *revision < last);
        }
        watch.received.retain(|received| received.revision < last);
    }
    let of_all = |call: &&Call| match &call.request {
        Request::Read(range) => range.range.range_end == "\0" && range.revision == 0,
        _ => false,
    };
    let before = |call: &&Call| call.shown().is_some_and(|revision| revision < last);
    let found = history
        .calls
        .iter()
        .filter(of_all)
        .rfind(before)?
        .answered
        .clone();
    let last_read = history.calls.last_mut()?;
    let at = last_read.answered.as_ref()?.at;
    last_read.answered = found;
    last_read.answered.as_mut()?.at = at;
    Some(())
}

fn doubled_revision(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let one = pick(history, random, Call::changed)?;
    let other = pick(history, random, Call::changed)?;
    let revision = history.calls[one].shown()?;
    (one != other).then_some(())?;
    set_revision(&mut history.calls[other], revision)
}

fn swapped_revisions(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let put = |call: &Call| matches!(&call.request, Request::Write(Command::Put(_)));
    let fits = |call: &Call| call.changed() && put(call);
    let one = pick(history, random, fits)?;
    let other = pick(history, random, fits)?;
    let revisions = (history.calls[one].shown()?, history.calls[other].shown()?);
    (one != other).then_some(())?;
    set_revision(&mut history.calls[one], revisions.1)?;
    set_revision(&mut history.calls[other], revisions.0)
}

/// A guarded transaction that was refused is told that it was taken.
fn guard_ignored(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let refused = |call: &Call| {
        let answer = call.answered.as_ref().map(|answered| &answered.answer);
        matches!(
            answer,
            Some(Answer::Txn {
                succeeded: false,
                ..
            })
        )
    };
    let at = pick(history, random, refused)?;
    if let Answer::Txn {
        succeeded, answers, ..
    } = answer(&mut history.calls[at])?
    {
        *succeeded = true;
        answers.clear();
    }
    Some(())
}

/// A read that is answered with the revision and content of one long before it.
fn stale_read(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let current = |call: &Call| match &call.request {
        Request::Read(range) => call.shown().is_some() && range.revision == 0,
        _ => false,
    };
    let late = pick(history, random, current)?;
    let invoked = history.calls[late].invoked;
    let calls = history.calls.iter();
    let returned = calls.filter(|c| c.answered.as_ref().is_some_and(|a| a.at < invoked));
    let floor = returned.filter_map(Call::shown).max()?;
    let request = history.calls[late].request.clone();
    let older = |call: &Call| {
        current(call) && call.request == request && call.shown().is_some_and(|r| r < floor)
    };
    let early = pick(history, random, older)?;
    let mut stale = history.calls[early].answered.clone()?;
    stale.at = history.calls[late].answered.as_ref()?.at;
    history.calls[late].answered = Some(stale);
    Some(())
}

/// A write is sent only after its revision was shown.
fn stale_write(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let at = pick(history, random, Call::changed)?;
    let revision = history.calls[at].shown()?;
    let shown = |call: &&Call| call.shown() >= Some(revision);
    let mut others = history.calls.iter().filter(shown);
    let last = others
        .clone()
        .filter_map(|c| Some(c.answered.as_ref()?.at))
        .max()?;
    others
        .any(|call| call.answered != history.calls[at].answered)
        .then_some(())?;
    let call = &mut history.calls[at];
    call.invoked = last + std::time::Duration::from_millis(1);
    call.answered.as_mut()?.at = call.invoked;
    Some(())
}

fn rows(call: &Call) -> &[KeyValue] {
    match call.answered.as_ref().map(|answered| &answered.answer) {
        Some(Answer::Range { key_values, .. }) => key_values,
        _ => &[],
    }
}

fn wrong_read(history: &mut History, random: &mut SplitMix64, old: bool) -> Option<()> {
    let fits = |call: &Call| match &call.request {
        Request::Read(range) => (range.revision > 0) == old && !rows(call).is_empty(),
        _ => false,
    };
    let at = pick(history, random, fits)?;
    if let Answer::Range { key_values, .. } = answer(&mut history.calls[at])? {
        let place = random.below(key_values.len() as u64) as usize;
        match random.below(4) {
            0 => drop(key_values.remove(place)),
            1 => key_values[place].version += 1,
            2 => key_values[place].modified -= 1,
            _ => key_values[place].value.push(1),
        }
    }
    Some(())
}

fn compacted_served(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let refused = |call: &Call| {
        let answer = call.answered.as_ref().map(|answered| &answered.answer);
        let read = matches!(call.request, Request::Read(_));
        read && matches!(answer, Some(Answer::Refused("Compacted")))
    };
    let at = pick(history, random, refused)?;
    let served = pick(history, random, |call| !rows(call).is_empty())?;
    let mut answered = history.calls[served].answered.clone()?;
    answered.at = history.calls[at].answered.as_ref()?.at;
    history.calls[at].answered = Some(answered);
    Some(())
}

fn torn_pair(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let pairs = |call: &Call| {
        let whole = matches!(&call.request, Request::Read(range) if range.limit == 0);
        whole
            && rows(call)
                .iter()
                .filter(|kv| kv.key.starts_with(b"/pair/"))
                .count()
                > 1
    };
    let at = pick(history, random, pairs)?;
    if let Answer::Range { key_values, .. } = answer(&mut history.calls[at])? {
        let half = key_values
            .iter()
            .position(|kv| kv.key.starts_with(b"/pair/"))?;
        key_values[half].value.push(7);
    }
    Some(())
}

fn watch(damage: Damage, history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let filtered = damage == Damage::FilterIgnored;
    let all = history.watches[0].received.clone();
    let watch = &mut history.watches[usize::from(filtered)];
    let with_events: Vec<usize> = (0..watch.received.len())
        .filter(|at| !watch.received[*at].events.is_empty())
        .collect();
    let count = u64::try_from(with_events.len())
        .ok()
        .filter(|count| *count > 0)?;
    let at = with_events[random.below(count) as usize];
    let place = random.below(watch.received[at].events.len() as u64) as usize;
    match damage {
        Damage::LostEvent => drop(watch.received[at].events.remove(place)),
        Damage::DoubledEvent => {
            let event = watch.received[at].events[place].clone();
            watch.received[at].events.insert(place, event);
        }
        Damage::SwappedEvents => {
            let other = *with_events.iter().find(|other| **other > at)?;
            watch.received.swap(at, other);
        }
        Damage::SplitRevision => {
            let inside = watch.received[at].events.windows(2);
            let cut = 1 + inside.into_iter().position(|pair| pair[0].0 == pair[1].0)?;
            let mut rest = watch.received[at].clone();
            rest.events = watch.received[at].events.split_off(cut);
            watch.received.insert(at + 1, rest);
        }
        Damage::EarlyProgress => {
            let mut progress = watch.received[at].clone();
            progress.events.clear();
            watch.received.insert(at, progress);
        }
        Damage::MissingPredecessor => {
            let events = watch.received[at].events.iter_mut();
            let (_, change) = events.into_iter().find(|(_, c)| c.previous.is_some())?;
            change.previous.as_mut()?.version += 1;
        }
        _ => {
            let first = watch.received[at].events.first()?.0;
            let mut events = all.iter().flat_map(|received| &received.events);
            let dropped = events.rfind(|(revision, change)| {
                let of_range = change.key_value.key.starts_with(b"/g/");
                let filtered = if change.deletion {
                    watch.no_delete
                } else {
                    watch.no_put
                };
                *revision < first && *revision >= watch.start && of_range && filtered
            })?;
            watch.received[at].events.insert(0, dropped.clone());
        }
    }
    Some(())
}

/// A lease that ended by itself had been granted for longer; or a keep-alive is answered
/// after it ended.
fn lease(damage: Damage, history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let ended = history.watches[0].received.iter().flat_map(|received| {
        let events = received.events.iter();
        events.map(|(_, change)| (received.at, change))
    });
    let revoked: Vec<i64> = history
        .calls
        .iter()
        .filter_map(|call| match call.request {
            Request::Write(Command::LeaseRevoke { lease }) => Some(lease.0),
            _ => None,
        })
        .collect();
    let ended: Vec<(std::time::Duration, i64)> = ended
        .filter(|(_, change)| change.deletion && change.key_value.key.starts_with(b"/lease/"))
        .filter_map(|(at, change)| {
            let text = String::from_utf8(change.key_value.key.clone()).ok()?;
            Some((at, text.split('/').nth(2)?.parse().ok()?))
        })
        .filter(|(_, lease)| !revoked.contains(lease))
        .collect();
    let count = u64::try_from(ended.len()).ok().filter(|count| *count > 0)?;
    let (at, lease) = ended[random.below(count) as usize];
    if damage == Damage::EarlyLease {
        for call in &mut history.calls {
            if let Request::Write(Command::LeaseGrant {
                lease: id,
                ttl_seconds,
            }) = &mut call.request
                && id.0 == lease
            {
                *ttl_seconds = 3600;
                if let Some(Answer::Grant { ttl, .. }) = answer(call) {
                    *ttl = 3600;
                }
            }
        }
        return Some(());
    }
    let renewal = pick(history, random, |call| {
        matches!(call.request, Request::KeepAlive(id) if id == lease)
            && matches!(call.answered.as_ref().map(|a| &a.answer),
                Some(Answer::Grant { ttl, .. }) if *ttl > 0)
    })?;
    let mut late = history.calls[renewal].clone();
    late.invoked = at + std::time::Duration::from_millis(1);
    late.answered.as_mut()?.at = late.invoked;
    history.calls.push(late);
    Some(())
}

/// A read of one key shows it as it was two writes ago, under a header of today.
fn group_read_of_the_past(history: &mut History, random: &mut SplitMix64) -> Option<()> {
    let single = |call: &Call| match &call.request {
        Request::Read(range) => range.range.range_end.is_empty() && call.shown().is_some(),
        _ => false,
    };
    let late = pick(history, random, |call| {
        single(call) && !rows(call).is_empty()
    })?;
    let request = history.calls[late].request.clone();
    let modified = rows(&history.calls[late]).first()?.modified;
    let early = pick(history, random, |call| {
        let older = rows(call).first().is_some_and(|kv| kv.modified < modified);
        single(call) && call.request == request && older
    })?;
    // Somebody saw the newer row before the stale read was asked for.
    let mut again = history.calls[late].clone();
    let shown = history.calls[late].answered.clone()?;
    again.invoked = shown.at + std::time::Duration::from_nanos(1);
    let mut stale = history.calls[early].answered.clone()?;
    stale.revision = shown.revision;
    stale.at = again.invoked;
    again.answered = Some(stale);
    set_revision(&mut again, shown.revision)?;
    history.calls.push(again);
    Some(())
}
