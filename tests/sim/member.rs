//! The member: the production engine on its simulated host, and the threads of
//! the server as steps. Nothing here decides anything.

use std::fmt::Debug;

use storage::apply::StateMachine;
use storage::apply::command::{Command, RequestOp, Txn};
use storage::checkpoint::Checkpointer;
use storage::error::Fatal;
use storage::mvcc::{HashKvResult, Mvcc};
use storage::types::{LeaseId, Revision};

use crate::engine::{Applied, Engine, History, ReadTxn, Rejected, ValueReader};
use crate::host::{Checkpoint, Flush, Request, Scrub, SimHost, Slot, SpareWork};
use crate::watch::Stream;

/// Records that the warm-up looks at in one step.
const WARM_SLICE_RECORDS: usize = 5;

#[derive(Debug)]
pub struct Member {
    pub engine: Engine<SimHost>,
    pub host: SimHost,
    pub values: ValueReader,
    pub checkpointer: Checkpointer,
    /// How many checkpoints were made, how many segments cleaned, how many passes of the
    /// scrub ended.
    pub checkpoints: u64,
    pub cleaned: u64,
    pub scrubs: u64,
    warm_after: Option<Revision>,
}

impl Member {
    pub fn new(
        engine: Engine<SimHost>,
        host: SimHost,
        values: ValueReader,
        checkpointer: Checkpointer,
    ) -> Member {
        Member {
            engine,
            host,
            values,
            checkpointer,
            checkpoints: 0,
            cleaned: 0,
            scrubs: 0,
            warm_after: Some(Revision::default()),
        }
    }

    /// True once reads and writes are taken.
    pub fn serves(&self) -> bool {
        self.engine.node().reads_are_current()
    }

    pub fn machine(&self) -> &StateMachine {
        self.engine.machine()
    }

    pub fn mvcc(&self) -> &Mvcc {
        self.engine.machine().mvcc()
    }

    pub fn turn(&mut self) -> Result<(), Fatal> {
        self.engine.turn(&mut self.host)
    }

    pub fn tick(&mut self) -> Result<(), Fatal> {
        self.engine.tick(&mut self.host)
    }

    /// The log thread's turn.
    pub fn perform_flush(&mut self) -> Result<(), Fatal> {
        if let Flush::Submitted(group) = &self.host.flush {
            group.perform()?;
            self.host.flush = Flush::Done(group.number());
        }
        Ok(())
    }

    pub fn report_flush(&mut self) -> Result<(), Fatal> {
        let Flush::Done(group) = self.host.flush else {
            return Ok(());
        };
        self.host.flush = Flush::Idle;
        self.engine.group_flushed(group, &mut self.host)
    }

    /// The segment thread's turn; a failure is no harm.
    pub fn perform_spare(&mut self) {
        match std::mem::replace(&mut self.host.spare, SpareWork::Idle) {
            SpareWork::Submitted(job) => self.host.spare = SpareWork::Done(job.perform(&mut || {})),
            other => self.host.spare = other,
        }
    }

    pub fn report_spare(&mut self) -> Result<(), Fatal> {
        match std::mem::replace(&mut self.host.spare, SpareWork::Idle) {
            SpareWork::Done(made) => self.engine.spare_ready(made, &mut self.host)?,
            other => self.host.spare = other,
        }
        Ok(())
    }

    /// True while values are moved out of segments that are cleaned.
    pub fn is_cleaning(&self) -> bool {
        matches!(&self.host.checkpoint, Checkpoint::Submitted(work) if work.moves() > 0)
    }

    /// One step of the checkpoint thread.
    pub fn perform_checkpoint(&mut self) -> Result<(), Fatal> {
        let work = std::mem::replace(&mut self.host.checkpoint, Checkpoint::Idle);
        self.host.checkpoint = match work {
            Checkpoint::Submitted(mut work) => {
                match work.step(&mut self.checkpointer, &mut || {})? {
                    Some(manifest) => Checkpoint::Done(Box::new(manifest)),
                    None => Checkpoint::Submitted(work),
                }
            }
            other => other,
        };
        Ok(())
    }

    pub fn report_checkpoint(&mut self) -> Result<(), Fatal> {
        match std::mem::replace(&mut self.host.checkpoint, Checkpoint::Idle) {
            Checkpoint::Done(manifest) => {
                self.cleaned += self.engine.checkpoint_done(*manifest)? as u64;
                self.checkpoints += 1;
            }
            other => self.host.checkpoint = other,
        }
        Ok(())
    }

    /// One step of the scrub thread.
    pub fn perform_scrub(&mut self) -> Result<(), Fatal> {
        if let Scrub::Submitted(work) = &mut self.host.scrub
            && let Some(scrubbed) = work.step(&mut |_| {})?
        {
            self.host.scrub = Scrub::Done(scrubbed);
        }
        Ok(())
    }

    pub fn report_scrub(&mut self) {
        if let Scrub::Done(scrubbed) = self.host.scrub {
            self.host.scrub = Scrub::Idle;
            self.engine.scrub_done(scrubbed, &self.host);
            self.scrubs += 1;
        }
    }

    /// One slice of background work, if any is due.
    pub fn maintain(&mut self) {
        if self.engine.has_work(&self.host) {
            self.engine.maintain(&mut self.host);
        }
    }

    pub fn expire_leases(&mut self) {
        self.engine.expire_leases(&mut self.host);
    }

    /// Asks for something; the answer may lie in the slot at once or later.
    pub fn ask<T>(&mut self, request: impl FnOnce(Slot<T>) -> Request) -> Result<Slot<T>, Fatal> {
        let (reply, answer) = Slot::pair();
        self.engine.take(request(reply), &mut self.host)?;
        Ok(answer)
    }

    /// Asks for what the engine answers at once.
    pub fn ask_now<T>(
        &mut self,
        request: impl FnOnce(Slot<T>) -> Request,
    ) -> Result<Result<T, Rejected>, Fatal> {
        let answer = self.ask(request)?.take();
        Ok(answer.expect("the engine answers this at once"))
    }

    pub fn propose(&mut self, command: &Command) -> Result<Slot<Applied>, Fatal> {
        let command = command.clone();
        self.ask(|reply| Request::Propose { command, reply })
    }

    /// A transaction of one read.
    pub fn read(
        &mut self,
        range: &storage::apply::command::Range,
    ) -> Result<Result<ReadTxn, Rejected>, Fatal> {
        let txn = Txn {
            success: vec![RequestOp::Range(range.clone())],
            ..Txn::default()
        };
        self.ask_now(|reply| Request::ReadTxn {
            txn,
            linearizable: true,
            reply,
        })
    }

    pub fn history(&mut self, from: i64, revisions_max: usize) -> Result<History, Fatal> {
        let history = self.ask_now(|reply| Request::History {
            from,
            revisions_max,
            reply,
        })?;
        Ok(history.expect("history is never refused"))
    }

    /// A stream takes a step: it reads what the member published.
    pub fn watch_step(&mut self, stream: &mut Stream) -> Result<(), Fatal> {
        stream.step(self)
    }

    pub fn renew(&mut self, lease: LeaseId) -> Result<Option<i64>, Fatal> {
        let renewed = self.ask_now(|reply| Request::LeaseRenew { lease, reply })?;
        Ok(renewed.unwrap_or(None))
    }

    /// One slice of the warm-up after a start.
    pub fn warm_up(&mut self) -> Result<(), Fatal> {
        let Some(after) = self.warm_after else {
            return Ok(());
        };
        let answer = self.ask_now(|reply| Request::MissingValues {
            after,
            limit: WARM_SLICE_RECORDS,
            reply,
        })?;
        let (missing, next) = answer.expect("this is never refused");
        let fetch =
            |meta: storage::types::RecordMeta| Ok((meta.revision, self.values.fetch(&meta)?));
        let values = missing
            .into_iter()
            .map(fetch)
            .collect::<Result<Vec<_>, Fatal>>()?;
        let installed = self.ask_now(|reply| Request::InstallValues { values, reply })?;
        installed.expect("this is never refused");
        self.warm_after = next;
        Ok(())
    }

    /// The hash of a compaction is walked to its end. None when none waits, or
    /// when it took longer than its pin holds.
    pub fn hash_compaction(&mut self) -> Result<Option<HashKvResult>, Fatal> {
        let Some(mut walk) = self.host.hash_walks.pop_front() else {
            return Ok(None);
        };
        let mut digest = walk.walk.digest();
        while !walk.walk.is_done() {
            match self.ask_now(|reply| Request::HashKvSlice { walk, reply })? {
                Ok(next) => walk = next,
                Err(_) => return Ok(None),
            }
            for record in &walk.records {
                let encoded = self.values.encoded(&record.key_value)?;
                digest.update(record.revision, record.tombstone, &encoded.0);
            }
        }
        let result = digest.finish();
        let request = Request::RememberHash { result };
        self.engine.take(request, &mut self.host)?;
        Ok(Some(result))
    }
}
