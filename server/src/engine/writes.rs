//! Writes: what is refused before it becomes an entry, what the loop proposes by
//! itself, and who is answered.
//!
//! Part of the engine. Invariants: nothing is answered before it is applied; an
//! alarm changes what new requests are answered, never whether an entry applies.

use std::time::Duration;

use storage::apply::command::{Alarm, Command, Envelope};
use storage::apply::{Outcome, codec};
use storage::error::Refusal;
use storage::planted::{Bug, planted};

use super::host::{Host, Observation};
use super::limits::EXPIRED_LEASES_PER_SCAN;
use super::pins::Pin;
use super::requests::{Applied, Rejected};
use super::turn::Engine;
use crate::node::Input;

impl<H: Host> Engine<H> {
    pub(super) fn answer(&mut self, outcome: Outcome, pin: &Pin, host: &mut H) {
        if outcome.over_quota {
            self.raise_no_space(host);
        }
        let Some(reply) = self.proposals.take(outcome.request_id) else {
            return;
        };
        let result = match outcome.result {
            // Applied and refused at once: contract 1.13, trap 15.
            Ok(_) if outcome.over_quota => Err(Rejected::Refusal(Refusal::NoSpace)),
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
        if let Err(rejected) = self.admit(&command, host) {
            return host.answer(reply, Err(rejected));
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

    fn admit(&mut self, command: &Command, host: &mut H) -> Result<(), Rejected> {
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
        if !self.machine.has_space(command) {
            self.raise_no_space(host);
            return Err(Rejected::Refusal(Refusal::NoSpace));
        }
        Ok(())
    }

    fn raise_no_space(&mut self, host: &mut H) {
        let member = self.member;
        let raised = self
            .machine
            .alarms()
            .iter()
            .any(|entry| entry == (member, Alarm::NoSpace));
        if !raised {
            tracing::warn!(
                quota = "backend quota is used up",
                "raising alarm NOSPACE: compact, then disarm the alarm"
            );
            let alarm = Alarm::NoSpace;
            let command = Command::Alarm {
                activate: true,
                member,
                alarm,
            };
            self.propose_unasked(command, host);
        }
    }

    /// Proposes something that nobody waits for.
    fn propose_unasked(&mut self, command: Command, host: &mut H) {
        if self.node.is_leader() {
            host.observe(Observation::ProposedUnasked(&command));
            let request_id = self.proposals.next_id(self.node.term());
            let data = codec::encode(&Envelope {
                request_id,
                command,
            });
            let data = data.expect("what the loop proposes by itself is not nested");
            self.node.step(Input::Propose(data));
        }
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
