//! Writes: how they are handed to the member, and what becomes of what it gives
//! out. Invariant: an answer is judged by what the model says of its command.

use storage::apply::command::{Alarm, Command};
use storage::apply::space;
use storage::error::Refusal;

use crate::answer::{Answer, Effect};
use crate::engine::{Applied, Rejected};
use crate::history::durable::State;
use crate::history::reads;
use crate::host::{AppliedCommand, Request, Slot};
use crate::member::Member;
use crate::run::{Run, Stop};

/// Writes that are handed over and not carried out, at most.
const OPEN_WRITES_MAX: usize = 30;

/// A write on its way.
pub struct Asked {
    command: Command,
    /// None for what the member proposed by itself.
    answer: Option<Slot<Applied>>,
}

/// An answer on its way to its client.
pub struct Waiting {
    answered: Result<Applied, Rejected>,
    command: Command,
    expected: Effect,
}

impl Run {
    pub fn write(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving || self.durable.open_count() >= OPEN_WRITES_MAX {
            return Ok(());
        }
        let command = self.clients().write();
        let answer = member.propose(&command)?;
        self.take_unasked(member);
        if std::mem::take(&mut member.host.refused) > 0 {
            return self.refused_for_space(&command, answer);
        }
        if let Some(refused) = answer.take() {
            return self.refused_at_once(&command, &refused);
        }
        self.asked(command, Some(answer));
        Ok(())
    }

    /// While the space is used up nothing is taken that needs some.
    fn refused_at_once(
        &mut self,
        command: &Command,
        refused: &Result<Applied, Rejected>,
    ) -> Result<(), Stop> {
        let alarms = State::of_model(&self.durable.model).alarms;
        let full = alarms.iter().any(|(_, alarm)| *alarm == 1) && space::cost_bytes(command) > 0;
        match refused {
            Err(Rejected::Refusal(Refusal::NoSpace)) if full => {
                self.note(format_args!("refused {}", brief(command)));
                Ok(())
            }
            other => Err(Stop::Violation(format!(
                "{} is answered {other:?} before it is carried out",
                brief(command)
            ))),
        }
    }

    /// A full disk is told by an alarm, which the answer waits for.
    fn refused_for_space(&mut self, command: &Command, answer: Slot<Applied>) -> Result<(), Stop> {
        self.note(format_args!("no space for {}", brief(command)));
        self.stats.refused_writes += 1;
        self.refused.push(answer);
        if self.disk_was_full() && space::cost_bytes(command) > 0 {
            return Ok(());
        }
        let text = format!("there was space for {}", brief(command));
        Err(Stop::Violation(text))
    }

    /// Who was refused is told so once the alarm is raised.
    fn tell_refused(&mut self, raised: bool) -> Result<(), Stop> {
        let no_space = |answer: &_| matches!(answer, Err(Rejected::Refusal(Refusal::NoSpace)));
        let mut told = true;
        self.refused.retain(|refused| {
            let answer = refused.take();
            told &= answer
                .as_ref()
                .is_none_or(|answer| raised && no_space(answer));
            answer.is_none()
        });
        if told {
            return Ok(());
        }
        let text = format!("a refused write is answered; alarm raised: {raised}");
        Err(Stop::Violation(text))
    }

    fn asked(&mut self, command: Command, answer: Option<Slot<Applied>>) {
        self.note(format_args!("propose {}", brief(&command)));
        self.durable.invoked(&command);
        self.asked.push_back(Asked { command, answer });
        self.stats.writes += 1;
    }

    fn take_unasked(&mut self, member: &mut Member) {
        for command in std::mem::take(&mut member.host.unasked) {
            self.asked(command, None);
        }
    }

    /// Takes what the member gives out.
    pub fn outputs(&mut self, member: &mut Member) -> Result<(), Stop> {
        self.take_unasked(member);
        for entry in std::mem::take(&mut member.host.entries) {
            let hash = format!("{:?}", entry.hash);
            // On an old copy another future begins.
            if self.old_state.is_none() {
                self.hashes
                    .reached(entry.index.0, entry.term, &hash)
                    .map_err(Stop::Violation)?;
            }
            self.note(format_args!("applied {} {hash}", entry.index.0));
        }
        let mut raised = false;
        for applied in std::mem::take(&mut member.host.commands) {
            if self.serving {
                self.carried_out(member, &applied)?;
                raised |= raises_alarm(&applied.command);
            }
        }
        self.tell_refused(raised)?;
        let early = self.asked.iter().flat_map(|asked| &asked.answer);
        if early.filter_map(Slot::take).next().is_some() {
            let text = "a write is answered before it is carried out".to_owned();
            return Err(Stop::Violation(text));
        }
        if !self.serving && member.serves() {
            self.begin_serving(member)?;
        }
        Ok(())
    }

    fn carried_out(&mut self, member: &mut Member, applied: &AppliedCommand) -> Result<(), Stop> {
        let expected = self.durable.carried_out(&applied.command)?;
        let asked = self.asked.pop_front();
        let asked = asked.expect("as many are asked as are open");
        self.note(format_args!("carried out at revision {}", applied.revision));
        let changed = !expected.changes.is_empty();
        self.revisions.wrote(applied.revision, changed)?;
        if expected.revision != applied.revision {
            return Err(Stop::Violation(format!(
                "{} has revision {}, expected {}",
                brief(&asked.command),
                applied.revision,
                expected.revision
            )));
        }
        if let Answer::Grant { lease, ttl } = expected.answer {
            self.leases.lives(lease, ttl, self.now);
        }
        let Some(answer) = asked.answer else {
            return Ok(());
        };
        let Some(answered) = answer.take() else {
            let text = format!("{} is not answered", brief(&asked.command));
            return Err(Stop::Violation(text));
        };
        self.await_purge(member, &asked.command, &answered)?;
        self.waiting.push_back(Waiting {
            answered,
            command: asked.command,
            expected,
        });
        // Most answers are encoded at once; some clients are slow.
        let left = if self.random.chance(4, 5) { 0 } else { 6 };
        while self.waiting.len() > left {
            self.encode_waiting(member, 1)?;
        }
        Ok(())
    }

    /// Some clients compact physically: they wait until everything is purged.
    fn await_purge(
        &mut self,
        member: &mut Member,
        command: &Command,
        answered: &Result<Applied, Rejected>,
    ) -> Result<(), Stop> {
        if let (&Command::Compact { revision }, Ok(_)) = (command, answered)
            && self.random.chance(1, 2)
        {
            let purge = member.ask(|reply| Request::Purged { revision, reply })?;
            self.purges.push(purge);
        }
        Ok(())
    }

    pub fn encode_waiting(&mut self, member: &Member, limit: usize) -> Result<(), Stop> {
        for _ in 0..limit {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            let mut revision = waiting.expected.revision;
            if let Ok(applied) = &waiting.answered {
                if applied.pin.is_revoked() {
                    continue;
                }
                revision = applied.revision;
            }
            let answer = member.write_answer(&waiting.answered)?;
            let what = brief(&waiting.command);
            reads::check_write(&what, &waiting.expected, &answer, revision)?;
        }
        Ok(())
    }
}

fn raises_alarm(command: &Command) -> bool {
    let no_space = Alarm::NoSpace;
    matches!(command, Command::Alarm { activate: true, alarm, .. } if *alarm == no_space)
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
