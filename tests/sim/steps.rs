//! The steps of a run: what clients, threads and time do next, and what becomes
//! of what the member gives out.

use std::time::Duration;

use storage::apply::command::Command;

use crate::answer::{Answer, Effect};
use crate::answers::refused;
use crate::clients::Clients;
use crate::history::durable::{State, everything};
use crate::history::{atomic, reads};
use crate::member::{Answered, Flush, Member};
use crate::run::{Run, Stop};

/// Writes that are handed over and not carried out, at most.
const OPEN_WRITES_MAX: usize = 30;

/// Revisions of the past that are compared after a restart.
const REVISIONS_CHECKED: usize = 12;

/// An answer on its way to its client.
pub struct Waiting {
    answered: Answered,
    command: Command,
    expected: Effect,
}

impl Run {
    pub fn clients(&mut self) -> Clients<'_> {
        Clients {
            random: &mut self.random,
            settings: &self.settings,
            model: &self.durable.model,
        }
    }

    pub fn step(&mut self, member: &mut Member) -> Result<(), Stop> {
        member.now = self.now;
        member.turn()?;
        self.outputs(member)?;
        match self.random.below(100) {
            0..28 => self.write(member),
            28..44 => member.perform_flush()?,
            44..58 => member.report_flush()?,
            58..64 => self.read(member)?,
            64..69 => self.slow_read(member)?,
            69..75 => self.watch(member)?,
            75..80 => {
                self.now += Duration::from_millis(100);
                member.now = self.now;
                member.tick()?;
            }
            80..87 => member.perform_checkpoint()?,
            87..89 => member.report_checkpoint()?,
            89..90 => member.perform_spare(),
            90..91 => member.report_spare(),
            91..95 => {
                for _ in 0..4 {
                    member.maintain();
                }
            }
            95..96 => {
                self.expire(member)?;
            }
            96..97 => self.renew(member)?,
            97..98 => {
                member.warm_up()?;
            }
            98..99 => self.now += Duration::from_millis(self.random.below(8_000)),
            _ => self.encode_waiting(member, usize::MAX)?,
        }
        member.turn()?;
        self.outputs(member)
    }

    fn write(&mut self, member: &mut Member) {
        if !self.serving || self.durable.open_count() >= OPEN_WRITES_MAX {
            return;
        }
        let command = self.clients().write();
        self.propose(member, &command);
    }

    fn propose(&mut self, member: &mut Member, command: &Command) {
        if let Some(request) = member.propose(command) {
            self.note(format_args!("propose {:x} {}", request.0, brief(command)));
            self.durable.invoked(request.0, command);
            self.stats.writes += 1;
        }
    }

    /// Takes what the member gives out.
    pub fn outputs(&mut self, member: &mut Member) -> Result<(), Stop> {
        for entry in std::mem::take(&mut member.applied) {
            let hash = format!("{:?}", entry.hash);
            self.hashes
                .reached(entry.index.0, entry.term.0, &hash)
                .map_err(Stop::Violation)?;
            self.note(format_args!("applied {} {hash}", entry.index.0));
        }
        for events in std::mem::take(&mut member.published) {
            self.publish(events);
        }
        for answered in std::mem::take(&mut member.answers) {
            if self.serving {
                self.carried_out(member, answered)?;
            }
        }
        if !self.serving && member.serves() {
            self.begin_serving(member)?;
        }
        Ok(())
    }

    fn carried_out(&mut self, member: &Member, answered: Answered) -> Result<(), Stop> {
        let request = answered.outcome.request_id.0;
        let (command, expected) = self.durable.carried_out(request)?;
        self.note(format_args!(
            "answer {request:x} at revision {}",
            answered.outcome.revision
        ));
        let changed = !expected.changes.is_empty();
        self.revisions.wrote(answered.outcome.revision, changed)?;
        if let Answer::Grant { lease, ttl } = expected.answer {
            self.leases.lives(lease, ttl, self.now);
        }
        self.waiting.push_back(Waiting {
            answered,
            command,
            expected,
        });
        // Most answers are encoded at once; some clients are slow.
        let left = if self.random.chance(4, 5) { 0 } else { 6 };
        while self.waiting.len() > left {
            self.encode_waiting(member, 1)?;
        }
        Ok(())
    }

    fn encode_waiting(&mut self, member: &Member, limit: usize) -> Result<(), Stop> {
        for _ in 0..limit {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            if waiting.answered.pin.is_revoked() {
                continue;
            }
            let outcome = &waiting.answered.outcome;
            let answer = member.outcome_answer(outcome)?;
            let what = brief(&waiting.command);
            reads::check_write(&what, &waiting.expected, &answer, outcome.revision)?;
        }
        Ok(())
    }

    /// The member takes reads from now on: is everything there?
    fn begin_serving(&mut self, member: &mut Member) -> Result<(), Stop> {
        let found = member.state()?;
        let open = self.durable.open_count();
        let kept = self.durable.recovered(&found)?;
        self.stats.recoveries += 1;
        self.stats.open_writes_kept += kept as u64;
        self.stats.open_writes_lost += (open - kept) as u64;
        self.note(format_args!(
            "serves at revision {}, {kept} of {open} open writes kept",
            found.revision
        ));
        self.revisions.recovered(found.revision)?;
        for (lease, ttl, _) in &found.leases {
            self.leases.lives(*lease, *ttl, self.life_began);
        }
        self.serving = true;
        let mut revisions: Vec<i64> = self.retained(member).collect();
        while revisions.len() > REVISIONS_CHECKED {
            let at = self.random.below(revisions.len() as u64);
            revisions.swap_remove(usize::try_from(at).unwrap());
        }
        self.check_revisions(member, revisions)
    }

    /// After a load, before any replay: the checkpoint gives the known state.
    pub fn check_loaded(&mut self, member: &Member) -> Result<(), Stop> {
        let machine = &member.machine;
        let (index, term) = (machine.applied_index().0, machine.applied_term().0);
        let hash = format!("{:?}", machine.state_hash());
        self.note(format_args!("loaded {index} {hash}"));
        self.hashes
            .reached(index, term, &hash)
            .map_err(Stop::Violation)
    }

    pub fn retained(&self, member: &Member) -> impl Iterator<Item = i64> + use<> {
        let mvcc = member.machine.mvcc();
        mvcc.compacted_revision().max(1)..=mvcc.current_revision()
    }

    /// Whole reads at these revisions against the model.
    pub fn check_revisions(
        &mut self,
        member: &mut Member,
        revisions: impl IntoIterator<Item = i64>,
    ) -> Result<(), Stop> {
        for revision in revisions {
            let range = everything(revision);
            let found = match member.machine.range(&range) {
                Ok(result) => member.range_answer(&result)?,
                Err(refusal) => refused(&refusal),
            };
            let expected = self.durable.model.stand_alone_range(&range);
            reads::check(&format!("all at revision {revision}"), &expected, &found)?;
            if let Answer::Range { key_values, .. } = &found {
                atomic::check(key_values)?;
            }
            self.stats.reads += 1;
        }
        Ok(())
    }

    pub fn check_state(&mut self, member: &mut Member) -> Result<(), Stop> {
        let expected = State::of_model(&self.durable.model);
        let found = member.state()?;
        if expected != found {
            let text = format!("the state differs.\nexpected: {expected:?}\nfound:    {found:?}");
            return Err(Stop::Violation(text));
        }
        Ok(())
    }

    fn read(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        let range = self.clients().range();
        let missing = member.machine.range_needs(&range);
        member.install(&missing)?;
        let found = match member.machine.range(&range) {
            Ok(result) => {
                self.revisions.shows(result.revision)?;
                member.range_answer(&result)?
            }
            Err(refusal) => refused(&refusal),
        };
        let expected = self.durable.model.stand_alone_range(&range);
        self.note(format_args!("read at {}", range.revision));
        self.stats.reads += 1;
        reads::check(&format!("{range:?}"), &expected, &found)?;
        Ok(())
    }

    pub fn expire(&mut self, member: &mut Member) -> Result<(), Stop> {
        member.now = self.now;
        for lease in member.expired_leases() {
            self.leases.ends(lease.0, self.now)?;
            self.note(format_args!("lease {} has ended", lease.0));
            self.propose(member, &Command::LeaseRevoke { lease });
        }
        Ok(())
    }

    fn renew(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        let lease = self.clients().lease();
        if let Some(ttl) = member.lessor.renew(lease, self.now) {
            self.note(format_args!("renewed lease {}", lease.0));
            self.leases.renewed(lease.0, ttl, self.now)?;
        }
        Ok(())
    }

    /// Lets everything under way come to its end.
    pub fn settle(&mut self, member: &mut Member) -> Result<(), Stop> {
        for _ in 0..10_000 {
            member.turn()?;
            self.outputs(member)?;
            match member.flush {
                Flush::Submitted(_) => member.perform_flush()?,
                Flush::Done(_) => member.report_flush()?,
                Flush::Idle if self.durable.open_count() == 0 && self.serving => return Ok(()),
                Flush::Idle => member.tick()?,
            }
        }
        Err(Stop::Violation("the member never comes to rest".to_owned()))
    }
}

/// A request in a few words.
pub fn brief(command: &Command) -> String {
    let mut text = format!("{command:?}");
    if text.len() > 160 {
        let mut cut = 160;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
    }
    text
}
