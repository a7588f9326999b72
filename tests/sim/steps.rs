//! The steps of a run: what clients, threads and time do next.

use std::path::PathBuf;
use std::time::Duration;

use storage::apply::command::Command;
use storage::raft_log::GroupWrite;

use crate::answer::Answer;
use crate::clients::Clients;
use crate::history::durable::{State, everything};
use crate::history::{atomic, reads};
use crate::host::{Flush, SpareWork};
use crate::member::Member;
use crate::run::{Run, Stop};

/// Ticks after which nothing is left to be done without a request.
const IDLE_TICKS: u64 = 20;
/// A segment that cannot be recycled is tried again with every tick.
const IDLE_TICKS_MAX: u64 = 200;

/// Revisions of the past that are compared after a restart.
const REVISIONS_CHECKED: usize = 12;

impl Run {
    pub fn clients(&mut self) -> Clients<'_> {
        Clients {
            random: &mut self.random,
            settings: &self.settings,
            model: &self.durable.model,
        }
    }

    pub fn step(&mut self, member: &mut Member) -> Result<(), Stop> {
        member.host.now = self.now;
        member.turn()?;
        self.outputs(member)?;
        match self.random.below(100) {
            0..26 => self.write(member)?,
            26..27 => member.perform_scrub()?,
            27..28 => {
                member.perform_scrub()?;
                member.report_scrub();
            }
            28..44 => self.flush(member)?,
            44..58 => member.report_flush()?,
            58..64 => self.read(member)?,
            64..69 => self.slow_read(member)?,
            69..75 => self.watch(member)?,
            75..80 => {
                self.now += Duration::from_millis(100);
                member.host.now = self.now;
                member.tick()?;
            }
            80..87 => member.perform_checkpoint()?,
            87..89 => member.report_checkpoint()?,
            89..91 => member.perform_spare(),
            91..93 => member.report_spare()?,
            93..95 => {
                for _ in 0..8 {
                    member.maintain();
                }
            }
            95..96 => {
                self.expire(member)?;
            }
            96..97 => self.renew(member)?,
            97..98 if self.random.chance(1, 2) => self.hash(member)?,
            97..98 => member.warm_up()?,
            98..99 => self.now += Duration::from_millis(self.random.below(8_000)),
            _ => self.encode_waiting(member, usize::MAX)?,
        }
        member.turn()?;
        self.outputs(member)
    }

    /// The log thread's turn, unless the disk is slow.
    pub fn flush(&mut self, member: &mut Member) -> Result<(), Stop> {
        if let Flush::Submitted(group) = &member.host.flush {
            if self.step < self.slow_until {
                self.slowed = true;
                self.now += Duration::from_millis(50);
                return Ok(());
            }
            self.tail.submitted = Some(place(group));
        }
        member.perform_flush()?;
        self.tail.flushed = self.tail.submitted.take().or(self.tail.flushed.take());
        Ok(())
    }

    /// The member takes reads from now on: is everything there?
    pub fn begin_serving(&mut self, member: &mut Member) -> Result<(), Stop> {
        let found = member.state()?;
        if self.old_state.as_ref() == Some(&found) {
            return Err(Stop::Struck);
        }
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
        let machine = member.machine();
        let (index, term) = (machine.applied_index().0, machine.applied_term().0);
        let hash = format!("{:?}", machine.state_hash());
        self.note(format_args!("loaded {index} {hash}"));
        self.hashes
            .reached(index, term, &hash)
            .map_err(Stop::Violation)
    }

    pub fn retained(&self, member: &Member) -> impl Iterator<Item = i64> + use<> {
        let mvcc = member.mvcc();
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
            let read = member.read(&range)?;
            let found = member.read_answer(&read)?;
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
        let read = member.read(&range)?;
        if let Ok(read) = &read {
            self.revisions.shows(read.result.revision)?;
        }
        let found = member.read_answer(&read)?;
        let expected = self.durable.model.stand_alone_range(&range);
        self.note(format_args!("read at {}", range.revision));
        self.stats.reads += 1;
        reads::check(&format!("{range:?}"), &expected, &found)?;
        Ok(())
    }

    pub fn expire(&mut self, member: &mut Member) -> Result<(), Stop> {
        member.host.now = self.now;
        member.expire_leases();
        for command in &member.host.unasked {
            if let Command::LeaseRevoke { lease } = command {
                self.leases.ends(lease.0, self.now)?;
                self.note(format_args!("lease {} has ended", lease.0));
            }
        }
        self.outputs(member)
    }

    fn renew(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        let lease = self.clients().lease();
        if let Some(ttl) = member.renew(lease)? {
            self.note(format_args!("renewed lease {}", lease.0));
            self.leases.renewed(lease.0, ttl, self.now)?;
        }
        Ok(())
    }

    /// The hash of a compaction, or HashKV now: the same whenever it is asked.
    fn hash(&mut self, member: &mut Member) -> Result<(), Stop> {
        if let Some(result) = member.hash_compaction()? {
            self.note(format_args!("hash of a compaction {result:?}"));
            self.hash_kvs
                .answered(result.hash_revision, result.compact_revision, result.hash)?;
        }
        Ok(())
    }

    /// The purge comes to its end however much is written, and its clients hear it.
    pub fn finish_purge(&mut self, member: &mut Member) -> Result<(), Stop> {
        self.slow_reads.clear();
        self.waiting.clear();
        for _ in 0..10_000 {
            self.hash(member)?;
            self.now += Duration::from_millis(10);
            member.host.now = self.now;
            member.maintain();
            member.perform_checkpoint()?;
            member.report_checkpoint()?;
            self.purges.retain(|purge| purge.take().is_none());
            if !member.engine.has_work(&member.host) && self.purges.is_empty() {
                return Ok(());
            }
        }
        Err(Stop::Violation("a purge never ends".to_owned()))
    }

    fn is_at_rest(&self) -> bool {
        self.serving && self.durable.open_count() == 0 && self.refused.is_empty()
    }

    /// Nobody asks for anything: the last group is proven, segments that were retired are
    /// recycled.
    pub fn be_idle(&mut self, member: &mut Member) -> Result<(), Stop> {
        for ticks in 0..IDLE_TICKS_MAX {
            self.now += Duration::from_millis(200);
            member.host.now = self.now;
            member.turn()?;
            member.tick()?;
            let spare_offered = !matches!(member.host.spare, SpareWork::Idle);
            self.flush(member)?;
            member.report_flush()?;
            self.outputs(member)?;
            member.perform_spare();
            member.report_spare()?;
            if ticks > IDLE_TICKS && !spare_offered {
                break;
            }
        }
        Ok(())
    }

    /// A whole pass of the scrub that begins now; one may be under way before it.
    pub fn scrub_once(&mut self, member: &mut Member) -> Result<(), Stop> {
        let enough = member.scrubs + 2;
        for _ in 0..10_000 {
            self.now += Duration::from_secs(1);
            member.host.now = self.now;
            member.tick()?;
            self.flush(member)?;
            member.report_flush()?;
            self.outputs(member)?;
            member.perform_scrub()?;
            member.report_scrub();
            if member.scrubs == enough {
                return Ok(());
            }
        }
        Err(Stop::Violation("a pass of the scrub never ends".to_owned()))
    }

    /// Lets everything under way come to its end.
    pub fn settle(&mut self, member: &mut Member) -> Result<(), Stop> {
        for _ in 0..10_000 {
            member.turn()?;
            self.outputs(member)?;
            match member.host.flush {
                Flush::Submitted(_) => {
                    self.slow_until = 0;
                    self.flush(member)?;
                }
                Flush::Done(_) => member.report_flush()?,
                Flush::Idle if self.is_at_rest() => return Ok(()),
                Flush::Idle => {
                    member.perform_spare();
                    member.report_spare()?;
                    member.tick()?;
                }
            }
        }
        Err(Stop::Violation("the member never comes to rest".to_owned()))
    }
}

/// Where a group lies: file, begin, end.
fn place(group: &GroupWrite) -> (PathBuf, u64, u64) {
    let length = group.bytes().len() as u64;
    (
        group.path().to_path_buf(),
        group.offset(),
        group.offset() + length,
    )
}
