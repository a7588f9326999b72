//! All properties over what was recorded of a member, one stretch after the other. A stretch
//! ends while nobody writes: the process was killed or its clients are done, all keys were
//! read (the last call), and nothing of it can arrive any more.
//!
//! Invariant: the model stands at the last revision that was judged.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use crate::answer::{Answer, Change, KeyValue};
use crate::model::Model;

use super::durable::everything;
use super::record::History;
use super::recorded_leases::Lives;
use super::recorded_reads::{self, Compaction};
use super::{linearizable, order, real_time, watches};

/// What is wrong: the property's name and the sentence.
pub type Finding = (&'static str, String);

/// Amounts, for the reader of a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amounts {
    pub answered: u64,
    pub open: u64,
    pub open_happened: u64,
    pub events: u64,
    pub leases: u64,
    pub leases_ended: u64,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Amounts) {
        self.answered += other.answered;
        self.open += other.open;
        self.open_happened += other.open_happened;
        self.events += other.events;
        self.leases += other.leases;
        self.leases_ended += other.leases_ended;
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answers, {} open calls of which {} had happened, {} events, {} leases, {} of \
             them ended by themselves",
            self.answered,
            self.open,
            self.open_happened,
            self.events,
            self.leases,
            self.leases_ended,
        )
    }
}

pub struct Judge {
    pub model: Model,
    pub events: BTreeMap<i64, Vec<Change>>,
    pub leases: Lives,
    pub amounts: Amounts,
    compactions: Vec<Compaction>,
}

impl Judge {
    pub fn new() -> Judge {
        Judge {
            model: Model::new(),
            events: BTreeMap::new(),
            leases: Lives::default(),
            amounts: Amounts::default(),
            compactions: Vec::new(),
        }
    }

    /// Every key as of the last judgement.
    pub fn rows(&self) -> Vec<KeyValue> {
        match self.model.stand_alone_range(&everything(0)) {
            Answer::Range { key_values, .. } => key_values,
            other => panic!("the current revision can be read: {other:?}"),
        }
    }

    /// Judges one stretch and takes it as the past of the next.
    pub fn judge(&mut self, history: &History) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |property, verdict: Result<(), String>| {
            findings.extend(verdict.err().map(|problem| (property, problem)));
        };
        let base = self.model.state().0;
        self.count(history);
        self.compactions
            .extend(recorded_reads::compactions(history));
        find("real time", real_time::check(&history.calls, base));
        find("atomic", recorded_reads::check_pairs(history));
        let rows = self.rows();
        find("linearizable", linearizable::check(history, &rows, base));
        match order::replay(history, &mut self.model, &mut self.events) {
            Ok(placed) => {
                self.amounts.open_happened += placed.open_happened;
                self.amounts.leases_ended += u64::try_from(placed.ended.len()).unwrap_or(0);
                find("leases", self.leases.check(history, &placed.ended));
                self.amounts.leases = u64::try_from(self.leases.0.len()).unwrap_or(0);
                find(
                    "reads",
                    recorded_reads::check(history, &self.model, &self.compactions),
                );
            }
            Err(problem) => {
                find("order", Err(problem));
                find("leases", self.leases.check(history, &[]));
            }
        }
        for watch in &history.watches {
            find(
                "watch",
                watches::check(watch, &self.events, &self.compactions),
            );
        }
        findings
    }

    /// Forgets what lies below a compaction and below every watch.
    pub fn forget(&mut self, floor: i64) {
        self.model.forget(floor);
        self.events = self.events.split_off(&floor);
    }

    fn count(&mut self, history: &History) {
        let answered = history.calls.iter().filter(|call| call.answered.is_some());
        let answered = u64::try_from(answered.count()).unwrap_or(0);
        self.amounts.answered += answered;
        self.amounts.open += u64::try_from(history.calls.len()).unwrap_or(0) - answered;
        let received = history.watches.iter().flat_map(|watch| &watch.received);
        let events = received
            .map(|received| received.events.len())
            .sum::<usize>();
        self.amounts.events += u64::try_from(events).unwrap_or(0);
    }
}
