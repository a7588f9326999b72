//! A copy of the disk is damaged, and a member lives on it: what is wrong must be
//! refused with the file named, or do no harm. Then the copy and everything that
//! was seen on it are forgotten.

use std::path::Path;

use storage::checkpoint::ModelDisk;
use storage::error::Fatal;
use storage::limits::GROUP_ALIGNMENT_BYTES;
use storage::vfs::sim::SimDisk;

use crate::boot;
use crate::damage::{self, OldCopy};
use crate::faults::FaultKind;
use crate::history::durable::State;
use crate::run::{Run, Stop};

/// Steps of a member on a damaged disk.
const STEPS: u64 = 60;

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    NothingToStrike,
    Refused,
    DiedLater,
    FoundByScrub,
    AnOldState,
    Harmless,
}

impl Run {
    /// One damaged copy, at rest or under a running member.
    pub fn probe(&mut self) -> Result<(), String> {
        let at = self.random.below(FaultKind::OF_A_DISK.len() as u64);
        let kind = FaultKind::OF_A_DISK[usize::try_from(at).unwrap()];
        let stale = matches!(kind, FaultKind::StaleFile | FaultKind::StalePart);
        let at_rest = stale || self.random.chance(1, 2);
        *self.counts.announced.entry(kind).or_default() += 1;
        self.note(format_args!("probe: {kind:?}, at rest: {at_rest}"));
        let forks = (self.disk.fork(), self.store_disk.fork());
        let disks = (
            std::mem::replace(&mut self.disk, forks.0),
            std::mem::replace(&mut self.store_disk, forks.1),
        );
        let saved = (
            self.durable.clone(),
            self.revisions.clone(),
            self.hashes.clone(),
            self.leases.clone(),
            self.watch_clients.clone(),
            self.hash_kvs.clone(),
            self.tail.clone(),
        );
        let ended = self.live_on_a_damaged_disk(kind, at_rest);
        (self.disk, self.store_disk) = disks;
        self.old_state = None;
        (
            self.durable,
            self.revisions,
            self.hashes,
            self.leases,
            self.watch_clients,
            self.hash_kvs,
            self.tail,
        ) = saved;
        let ended = ended?;
        self.note(format_args!("probe ended: {ended:?}"));
        if ended != Ended::NothingToStrike {
            *self.counts.reached.entry(kind).or_default() += 1;
        }
        *self.counts.probes.entry((kind, ended)).or_default() += 1;
        Ok(())
    }

    fn live_on_a_damaged_disk(&mut self, kind: FaultKind, at_rest: bool) -> Result<Ended, String> {
        self.begin_life();
        if at_rest {
            if !self.damage(kind) {
                return Ok(Ended::NothingToStrike);
            }
            self.old_state = match kind {
                FaultKind::StaleFile | FaultKind::StalePart => self.state_of_the_old_copy(),
                FaultKind::TailFlip => self.state_without_the_last_group(),
                _ => None,
            };
        }
        let clean = if at_rest {
            self.check_is_clean()?
        } else {
            true
        };
        let disks = (&self.store_disk, &self.store_fault);
        let mut member = match boot::open(&self.disk, disks, &self.settings, self.now) {
            Ok(member) => member,
            Err(fatal) if clean && at_rest => {
                return Err(format!("`check` finds nothing, the start refuses: {fatal}"));
            }
            Err(fatal) => return self.refused(&fatal, Ended::Refused),
        };
        if !clean && kind == FaultKind::StaleFile {
            return Err("`check` finds an older file damaged, the start takes it".to_owned());
        }
        let stop = self.steps_on_a_damaged_disk(&mut member, kind, at_rest);
        drop(member);
        match stop {
            Ok(ended) => Ok(ended),
            Err(Stop::Struck) => Ok(Ended::AnOldState),
            Err(Stop::Died(fatal)) => self.refused(&fatal, Ended::DiedLater),
            Err(Stop::Violation(text)) => Err(text),
        }
    }

    fn steps_on_a_damaged_disk(
        &mut self,
        member: &mut crate::member::Member,
        kind: FaultKind,
        at_rest: bool,
    ) -> Result<Ended, Stop> {
        self.check_loaded(member)?;
        let strike_at = self.random.below(STEPS);
        let unread = self.random.chance(1, 2);
        for step in 0..STEPS {
            if !at_rest && step == strike_at {
                if !self.damage(kind) {
                    return Ok(Ended::NothingToStrike);
                }
                if unread {
                    return self.scrub_a_damaged_disk(member, kind);
                }
            }
            self.step(member)?;
        }
        self.settle(member)?;
        let everything: Vec<i64> = self.retained(member).collect();
        self.check_revisions(member, everything)?;
        self.check_state(member)?;
        self.scrub_a_damaged_disk(member, kind)
    }

    /// One pass finds what `check` finds, without a read of any client, and nothing else.
    fn scrub_a_damaged_disk(
        &mut self,
        member: &mut crate::member::Member,
        kind: FaultKind,
    ) -> Result<Ended, Stop> {
        self.be_idle(member)?;
        let clean = self.check_is_clean()?;
        match self.scrub_once(member) {
            Err(Stop::Died(fatal)) if clean && !self.lies_before_a_gap(&fatal) => {
                let text = format!("`check` finds nothing, the scrub ends the member: {fatal}");
                Err(Stop::Violation(text))
            }
            Err(Stop::Died(fatal)) => Ok(self.refused(&fatal, Ended::FoundByScrub)?),
            Err(other) => Err(other),
            // fjall's tables have a checksum each, so a lost value is a damaged table; the
            // model has none, and whoever wants the value finds that it is lost.
            Ok(()) if clean || self.only_values_are_lost(kind)? => Ok(Ended::Harmless),
            Ok(()) => Err(Stop::Violation(
                "the scrub misses what `check` finds".to_owned(),
            )),
        }
    }

    /// True when `check` finds fault with nothing but cold values that are not there.
    fn only_values_are_lost(&self, kind: FaultKind) -> Result<bool, String> {
        if FaultKind::OF_BYTES.contains(&kind) {
            return Ok(false);
        }
        let report = boot::check(&self.disk.fork(), &self.store_disk);
        let report = report.map_err(|fatal| fatal.to_string())?;
        let mut findings = report.findings.iter();
        Ok(findings.all(|found| found.detail.starts_with("the cold value of")))
    }

    /// True for a segment whose next ones were cleaned: only the values in it say where its
    /// groups end, so `check` takes damage behind the last of them for that end. The running
    /// member knows better.
    fn lies_before_a_gap(&self, fatal: &Fatal) -> bool {
        let Fatal::Corruption { path, .. } = fatal else {
            return false;
        };
        let number = |path: &Path| path.file_stem()?.to_str()?.parse::<u32>().ok();
        let files = self.disk.files();
        let mut segments = files.iter().filter(|file| file.parent() == path.parent());
        let next = segments.find(|file| *file > path && file.extension() == path.extension());
        let next = next.and_then(|next| number(next));
        next.is_some_and(|next| number(path).is_some_and(|this| next > this + 1))
    }

    fn damage(&mut self, kind: FaultKind) -> bool {
        let struck = damage::strike(
            kind,
            (&self.disk, &self.store_disk),
            self.old_copy.as_ref(),
            &self.tail,
            &mut self.random,
        );
        if let Some(what) = &struck {
            self.note(format_args!("{what}"));
        }
        struck.is_some()
    }

    /// A refusal names the file; nothing else may end a member on such a disk.
    fn refused(&self, fatal: &Fatal, ended: Ended) -> Result<Ended, String> {
        self.note(format_args!("refused: {fatal}"));
        match fatal {
            Fatal::Corruption { path, .. } | Fatal::Refused { path, .. }
                if !path.as_os_str().is_empty() =>
            {
                Ok(ended)
            }
            other => Err(format!("a damaged disk ends the member with: {other}")),
        }
    }

    /// The offline check of the disks as they are.
    pub fn check_is_clean(&self) -> Result<bool, String> {
        match boot::check(&self.disk.fork(), &self.store_disk) {
            Ok(report) => {
                for finding in report.findings.iter().take(3) {
                    self.note(format_args!("check: {finding:?}"));
                }
                Ok(report.is_clean())
            }
            Err(Fatal::Io {
                operation,
                path,
                source,
            }) => Err(format!(
                "`check` cannot {operation} {}: {source}",
                path.display()
            )),
            Err(_) => Ok(false),
        }
    }

    /// What the old copy would give; nothing can prove that it is not the newest
    /// when a whole log of then lies under it.
    fn state_of_the_old_copy(&self) -> Option<State> {
        let old = self.old_copy.as_ref()?;
        self.state_of(&old.disk.fork(), &old.store.fork())
    }

    /// What a start gives if the last group that was flushed was never written: the promise
    /// of a flip in it, while nothing proves that it was.
    fn state_without_the_last_group(&self) -> Option<State> {
        let disk = self.disk.fork();
        let (path, begin, end) = self.tail.flushed.as_ref()?;
        let mut bytes = disk.contents(path);
        // The first group of a segment is written with the header, which stays.
        let begin = (*begin).max(GROUP_ALIGNMENT_BYTES);
        let group = usize::try_from(begin).unwrap()..usize::try_from(*end).unwrap();
        bytes.get_mut(group)?.fill(0);
        disk.damage(path, bytes);
        self.state_of(&disk, &self.store_disk.fork())
    }

    fn state_of(&self, disk: &SimDisk, store: &ModelDisk) -> Option<State> {
        let disks = (store, &self.store_fault);
        let mut member = boot::open(disk, disks, &self.settings, self.now).ok()?;
        for _ in 0..100 {
            member.turn().ok()?;
            member.perform_flush().ok()?;
            member.report_flush().ok()?;
            // What has no room waits for the next segment.
            member.tick().ok()?;
            member.perform_spare();
            member.report_spare().ok()?;
        }
        member.serves().then(|| member.state().ok())?
    }

    /// Now and then the disks are copied, to be put back later.
    pub fn copy_disks(&mut self) {
        if self.random.chance(1, 3) || self.old_copy.is_none() {
            let disk = self.disk.fork();
            // A copy holds what was seen.
            for path in disk.files() {
                disk.damage(&path, disk.contents(&path));
            }
            self.old_copy = Some(OldCopy {
                disk,
                store: self.store_disk.fork(),
            });
        }
    }
}
