//! Writes: what is refused before it becomes an entry, what the loop proposes by
//! itself, and who is answered.
//!
//! Part of the engine. Invariants: nothing is answered before it is applied; an
//! alarm changes what new requests are answered, never whether an entry applies; a
//! write that is refused for want of space is answered once the alarm is raised.

use std::time::Duration;

use storage::apply::command::{Alarm, Command, Envelope};
use storage::apply::{Outcome, codec};
use storage::error::Refusal;
use storage::planted::{Bug, planted};
use storage::types::RequestId;

use super::host::{Host, Observation};
use super::limits::EXPIRED_LEASES_PER_SCAN;
use super::pins::Pin;
use super::requests::{Applied, Rejected};
use super::turn::Engine;
use crate::node::Input;

impl<H: Host> Engine<H> {
    pub(super) fn answer(&mut self, outcome: Outcome, pin: &Pin, host: &mut H) {
        let no_space = || Rejected::Refusal(Refusal::NoSpace);
        for refused in self.proposals.alarm_applied(outcome.request_id) {
            host.answer(refused, Err(no_space()));
        }
        if outcome.over_quota {
            self.raise_no_space("the backend quota is used up", host);
        }
        let Some(reply) = self.proposals.take(outcome.request_id) else {
            return;
        };
        let result = match outcome.result {
            // Applied and refused at once: contract 1.13, trap 15.
            Ok(_) if outcome.over_quota => return self.refuse_for_space(reply, host),
            Ok(response) => Ok(Applied {
                revision: outcome.revision,
                response,
                pin: pin.clone(),
            }),
            Err(refusal) => Err(Rejected::Refusal(refusal)),
        };
        host.answer(reply, result);
    }

    /// Takes a write on, or refuses it before it becomes an entry.
    pub(super) fn propose(&mut self, command: Command, reply: H::Reply<Applied>, host: &mut H) {
        if let Err(rejected) = self.admit(&command) {
            return host.answer(reply, Err(rejected));
        }
        if let Some(why) = self.want_of_space(&command) {
            self.raise_no_space(why, host);
            return self.refuse_for_space(reply, host);
        }
        let request_id = self.proposals.next_id(self.node.term());
        match codec::encode(&Envelope {
            request_id,
            command,
        }) {
            Ok(data) => {
                self.proposals.wait(request_id, reply);
                self.node.step(Input::Propose(data));
            }
            Err(_) => host.answer(reply, Err(Rejected::TooDeep)),
        }
    }

    fn admit(&self, command: &Command) -> Result<(), Rejected> {
        if !self.node.is_leader() {
            return Err(Rejected::NoLeader);
        }
        if self.proposals.is_full() {
            return Err(Rejected::TooManyRequests);
        }
        if matches!(command, Command::Alarm { .. }) {
            return Ok(());
        }
        let active = |wanted| {
            self.machine
                .alarms()
                .iter()
                .any(|(_, alarm)| alarm == wanted)
        };
        if active(Alarm::Corrupt) {
            return Err(Rejected::Refusal(Refusal::Corrupt));
        }
        let takes_space = storage::apply::space::cost_bytes(command) > 0;
        if takes_space && active(Alarm::NoSpace) {
            return Err(Rejected::Refusal(Refusal::NoSpace));
        }
        Ok(())
    }

    /// Why there is no space for a command.
    fn want_of_space(&self, command: &Command) -> Option<&'static str> {
        let takes_space = storage::apply::space::cost_bytes(command) > 0;
        if takes_space && self.room.is_short(&self.log) {
            return Some("the disk has no space for the next segment of the log");
        }
        let fits = self.machine.has_space(command);
        (!fits).then_some("the backend quota is used up")
    }

    /// Has the alarm raised, unless it is or is about to be.
    fn raise_no_space(&mut self, why: &str, host: &mut H) {
        let member = self.member;
        let raised = self
            .machine
            .alarms()
            .iter()
            .any(|entry| entry == (member, Alarm::NoSpace));
        if raised || self.proposals.alarm_is_pending() {
            return;
        }
        tracing::warn!(
            why,
            "raising alarm NOSPACE: make space, then disarm the alarm"
        );
        let alarm = Alarm::NoSpace;
        let command = Command::Alarm {
            activate: true,
            member,
            alarm,
        };
        if let Some(id) = self.propose_unasked(command, host) {
            self.proposals.alarm_proposed(id, self.node.term());
        }
    }

    /// Refuses a write once the alarm on its way is raised; at once without one.
    fn refuse_for_space(&mut self, reply: H::Reply<Applied>, host: &mut H) {
        match self.proposals.wait_for_alarm(reply) {
            Some(reply) => host.answer(reply, Err(Rejected::Refusal(Refusal::NoSpace))),
            None => host.observe(Observation::WaitsForAlarm),
        }
    }

    /// Where another member leads from now on, the alarm may never be raised; what
    /// was refused stays refused.
    pub(super) fn forget_lost_alarm(&mut self, host: &mut H) {
        let leading = self.node.is_leader().then(|| self.node.term());
        for refused in self.proposals.alarm_lost(leading) {
            host.answer(refused, Err(Rejected::Refusal(Refusal::NoSpace)));
        }
    }

    /// Proposes something that nobody waits for; its id, when this member leads.
    fn propose_unasked(&mut self, command: Command, host: &mut H) -> Option<RequestId> {
        if !self.node.is_leader() {
            return None;
        }
        host.observe(Observation::ProposedUnasked(&command));
        let request_id = self.proposals.next_id(self.node.term());
        let data = codec::encode(&Envelope {
            request_id,
            command,
        });
        let data = data.expect("what the loop proposes by itself is not nested");
        self.node.step(Input::Propose(data));
        Some(request_id)
    }

    /// Proposes the revocation of leases that have ended.
    pub fn expire_leases(&mut self, host: &mut H) {
        // While entries of the terms before are left to be applied, a lease that
        // has ended here may have been revoked and granted anew.
        if !self.node.reads_are_current() {
            return;
        }
        let early = u64::from(planted(Bug::LeaseEarly));
        let now = host.now() + Duration::from_secs(early);
        let expired = self.lessor.take_expired(now, EXPIRED_LEASES_PER_SCAN);
        host.observe(Observation::LeasesExpired(expired.len()));
        for lease in expired {
            self.propose_unasked(Command::LeaseRevoke { lease }, host);
        }
    }
}
