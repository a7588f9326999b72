//! Every answered write is there for ever; one whose outcome is unknown is
//! wholly there or not at all, and the later ones of them only with the earlier.
//!
//! Keeps every write in the order it was handed over, the model that the
//! answered ones gave, and those that are still open. After a restart the state
//! found must be that of the answered writes and a prefix of the open ones.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use storage::apply::command::{Command, KeyRange, Range};

use crate::answer::{Answer, Change, Effect, KeyValue};
use crate::model::Model;

/// Everything of a member's state that a client can ask for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub revision: i64,
    pub compacted: i64,
    pub leases: Vec<(i64, i64, Vec<Vec<u8>>)>,
    pub alarms: Vec<(u64, u8)>,
    pub live: Vec<KeyValue>,
}

impl State {
    pub fn of_model(model: &Model) -> State {
        let (revision, compacted, alarms) = model.state();
        let Answer::Range { key_values, .. } = model.stand_alone_range(&everything(0)) else {
            panic!("the current revision is never compacted");
        };
        State {
            revision,
            compacted,
            leases: model.leases(),
            alarms,
            live: key_values,
        }
    }
}

/// A read of all keys.
pub fn everything(revision: i64) -> Range {
    Range {
        range: KeyRange {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
        },
        revision,
        ..Range::default()
    }
}

/// See the head of the file.
#[derive(Clone)]
pub struct Durable {
    pub model: Model,
    open: VecDeque<Command>,
    /// What every revision changed.
    pub events: BTreeMap<i64, Vec<Change>>,
}

impl Durable {
    pub fn new() -> Durable {
        Durable {
            model: Model::new(),
            open: VecDeque::new(),
            events: BTreeMap::new(),
        }
    }

    /// A write is handed over.
    pub fn invoked(&mut self, command: &Command) {
        self.open.push_back(command.clone());
    }

    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// A write was carried out: it is the oldest open one. What the model says
    /// of it.
    pub fn carried_out(&mut self, command: &Command) -> Result<Effect, String> {
        match self.open.pop_front() {
            Some(oldest) if oldest == *command => Ok(self.perform(command)),
            oldest => Err(format!(
                "{command:?} is carried out, the oldest open write is {oldest:?}"
            )),
        }
    }

    /// A member serves again in this state. How many open writes survived.
    pub fn recovered(&mut self, found: &State) -> Result<usize, String> {
        let mut model = self.model.clone();
        let answered = State::of_model(&model);
        let open: Vec<Command> = self.open.drain(..).collect();
        for kept in 0..=open.len() {
            if State::of_model(&model) == *found {
                for command in open.iter().take(kept) {
                    self.perform(command);
                }
                return Ok(kept);
            }
            if let Some(next) = open.get(kept) {
                model.command(next);
            }
        }
        Err(format!(
            "the state after a restart is not that of the answered writes and a prefix of the \
             {} open ones.\nanswered: {answered:?}\nfound:    {found:?}\nopen: {open:?}",
            open.len()
        ))
    }

    fn perform(&mut self, command: &Command) -> Effect {
        let effect = self.model.command(command);
        if !effect.changes.is_empty() {
            self.events.insert(effect.revision, effect.changes.clone());
        }
        effect
    }
}
