//! Every recorded read is what the model gives at its revision; what is compacted is refused,
//! and only that. Reads of whole pairs are held against `atomic`.

use std::time::Duration;

use storage::apply::command::{Command, Range};

use crate::answer::Answer;
use crate::model::Model;

use super::record::{Call, History, Request};
use super::{Verdict, atomic};

/// A compaction that was asked for, and when it was answered.
#[derive(Clone, Debug)]
pub struct Compaction {
    pub revision: i64,
    pub invoked: Duration,
    pub answered: Option<Duration>,
}

pub fn compactions(history: &History) -> impl Iterator<Item = Compaction> {
    history.calls.iter().filter_map(|call| match &call.request {
        Request::Write(Command::Compact { revision }) => Some(Compaction {
            revision: *revision,
            invoked: call.invoked,
            answered: call.answered.as_ref().map(|answered| answered.at),
        }),
        _ => None,
    })
}

/// The model has carried out every write.
pub fn check(history: &History, model: &Model, compactions: &[Compaction]) -> Verdict {
    for call in &history.calls {
        let Request::Read(range) = &call.request else {
            continue;
        };
        let Some(answered) = &call.answered else {
            continue;
        };
        match &answered.answer {
            Answer::Refused("Compacted") => {
                let passed =
                    |c: &Compaction| c.revision > range.revision && c.invoked <= answered.at;
                if range.revision == 0 || !compactions.iter().any(passed) {
                    return Err(format!("nobody compacted what {call:?} asks for"));
                }
            }
            Answer::Refused(_) => {}
            found => {
                one(call, range, answered.revision, found, model)?;
                let passed = |c: &Compaction| {
                    let before = c.answered.is_some_and(|at| at < call.invoked);
                    before && c.revision > range.revision
                };
                if range.revision > 0 && compactions.iter().any(passed) {
                    return Err(format!("a compacted revision is served: {call:?}"));
                }
            }
        }
    }
    Ok(())
}

fn one(call: &Call, range: &Range, header: i64, found: &Answer, model: &Model) -> Verdict {
    let at = if range.revision > 0 {
        range.revision
    } else {
        header
    };
    let asked = Range {
        revision: at,
        ..range.clone()
    };
    let expected = model.stand_alone_range(&asked);
    if content(&expected) == content(found) && content(found).is_some() {
        return Ok(());
    }
    Err(format!(
        "{call:?}\nis answered wrongly, expected: {expected:?}"
    ))
}

type Content<'a> = (&'a [crate::answer::KeyValue], bool, i64);

fn content(answer: &Answer) -> Option<Content<'_>> {
    match answer {
        Answer::Range {
            key_values,
            more,
            count,
            ..
        } => Some((key_values, *more, *count)),
        _ => None,
    }
}

/// Pairs are whole in every read of both.
pub fn check_pairs(history: &History) -> Verdict {
    for call in &history.calls {
        let (Request::Read(range), Some(answered)) = (&call.request, &call.answered) else {
            continue;
        };
        let from_first = &range.range.key[..] <= atomic::PAIR_PREFIX;
        let to_last =
            &range.range.range_end[..] == b"\0" || &range.range.range_end[..] == b"/pair0";
        if let Answer::Range { key_values, .. } = &answered.answer
            && from_first
            && to_last
            && range.limit == 0
            && !range.count_only
        {
            atomic::check(key_values)?;
        }
    }
    Ok(())
}
