//! What clients saw, written down as it happened: every call with the times of its invocation
//! and its answer, every response of every watch. The recorder judges nothing.
//!
//! Invariant: a call without an answer may have been carried out at any time since it was
//! invoked, or never; it stays open for ever. Times are those of one monotonic clock.

use std::time::Duration;

use storage::apply::command::{Command, KeyRange, Range};

use crate::answer::{Answer, Change};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Write(Command),
    Read(Range),
    KeepAlive(i64),
}

/// What came back. A refusal (`Answer::Refused`) shows no revision (0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub at: Duration,
    pub answer: Answer,
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub client: u64,
    pub invoked: Duration,
    pub request: Request,
    pub answered: Option<Answered>,
}

/// One response of a watch: events, or none for progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub at: Duration,
    pub revision: i64,
    pub fragment: bool,
    pub events: Vec<(i64, Change)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub range: KeyRange,
    pub start: i64,
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
    pub received: Vec<Received>,
    /// Everything up to here must have arrived.
    pub must_reach: i64,
}

impl Watch {
    /// Whether it sees every change of every key with its predecessor.
    pub fn sees_all(&self) -> bool {
        let everything = &self.range.key[..] == b"\0" && &self.range.range_end[..] == b"\0";
        everything && self.prev_kv && !self.no_put && !self.no_delete
    }
}

/// One stretch of a member's life, ended while nobody wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub calls: Vec<Call>,
    pub watches: Vec<Watch>,
}

impl Call {
    /// The revision that an answer shows.
    pub fn shown(&self) -> Option<i64> {
        let answered = self.answered.as_ref()?;
        (answered.revision > 0).then_some(answered.revision)
    }

    /// Whether the answer says that it took a revision of its own. A revocation does not
    /// say.
    pub fn changed(&self) -> bool {
        let answer = self.answered.as_ref().map(|answered| &answered.answer);
        answer.is_some_and(changes)
    }
}

fn changes(answer: &Answer) -> bool {
    match answer {
        Answer::Put { .. } => true,
        Answer::Delete { deleted, .. } => *deleted > 0,
        Answer::Txn { answers, .. } => answers.iter().any(changes),
        _ => false,
    }
}
