//! Alarms, replicated and sticky (contract 1.12, 1.13).
//!
//! Owns which alarms are raised. An alarm changes what new requests are
//! answered, never whether an entry applies: so nothing in `apply` asks here.
//! Invariant: each (member, alarm) at most once. Bounded by members times kinds.

use std::collections::BTreeSet;

use super::command::Alarm;
use crate::types::MemberId;

/// The alarms that are raised.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: BTreeSet<(MemberId, Alarm)>,
}

impl Alarms {
    /// All raised alarms, by member, then kind.
    pub fn iter(&self) -> impl Iterator<Item = (MemberId, Alarm)> {
        self.raised.iter().copied()
    }

    /// True when any member has raised `alarm`.
    #[must_use]
    pub fn is_raised(&self, alarm: Alarm) -> bool {
        self.raised.iter().any(|(_, raised)| *raised == alarm)
    }

    /// Raises an alarm; raising it again changes nothing and is answered alike.
    pub(super) fn activate(&mut self, member: MemberId, alarm: Alarm) -> Vec<(MemberId, Alarm)> {
        self.raised.insert((member, alarm));
        vec![(member, alarm)]
    }

    /// Clears an alarm; empty when it was not raised.
    pub(super) fn deactivate(&mut self, member: MemberId, alarm: Alarm) -> Vec<(MemberId, Alarm)> {
        if self.raised.remove(&(member, alarm)) {
            vec![(member, alarm)]
        } else {
            Vec::new()
        }
    }
}
