//! One run: a disk, a member that lives several times on it, clients, faults,
//! and the checkers that judge what the clients saw. All from one seed, in one
//! thread; time is a number that steps move.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use storage::checkpoint::ModelDisk;
use storage::error::Fatal;
use storage::vfs::sim::{OperationKind, SimDisk, SplitMix64};

use crate::boot;
use crate::damage::{OldCopy, Tail};
use crate::engine::Applied;
use crate::faults::{Counts, FaultKind, Plan};
use crate::history::durable::{Durable, State};
use crate::history::hash_kv::HashKvs;
use crate::history::leases::Leases;
use crate::history::revisions::Revisions;
use crate::history::state_hash::StateHashes;
use crate::host::{Flush, Slot};
use crate::member::Member;
use crate::readers::SlowRead;
use crate::settings::Settings;
use crate::store::StoreFault;
use crate::trace::Trace;
use crate::watching::Client;
use crate::writes::{Asked, Waiting};

/// Why a life ends before its steps are over.
#[derive(Debug)]
pub enum Stop {
    /// The member ended itself, as the process does.
    Died(Fatal),
    /// The plan ended it.
    Struck,
    /// A promise is broken.
    Violation(String),
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Stop {
        Stop::Died(fatal)
    }
}

impl From<String> for Stop {
    fn from(violation: String) -> Stop {
        Stop::Violation(violation)
    }
}

/// What a campaign adds up.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub writes: u64,
    pub reads: u64,
    pub events: u64,
    pub progress: u64,
    pub cancelled: u64,
    pub checkpoints: u64,
    pub cleaned_segments: u64,
    pub moved_values: u64,
    /// Passes of the scrub.
    pub scrubs: u64,
    pub recoveries: u64,
    pub open_writes_kept: u64,
    pub open_writes_lost: u64,
    pub refused_writes: u64,
    /// Time that passed for the members.
    pub simulated: Duration,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.events += other.events;
        self.progress += other.progress;
        self.cancelled += other.cancelled;
        self.checkpoints += other.checkpoints;
        self.cleaned_segments += other.cleaned_segments;
        self.moved_values += other.moved_values;
        self.scrubs += other.scrubs;
        self.recoveries += other.recoveries;
        self.open_writes_kept += other.open_writes_kept;
        self.open_writes_lost += other.open_writes_lost;
        self.refused_writes += other.refused_writes;
        self.simulated += other.simulated;
    }
}

pub struct Run {
    pub random: SplitMix64,
    pub settings: Settings,
    pub trace: Rc<RefCell<Trace>>,
    pub counts: Counts,
    pub stats: Stats,
    pub now: Instant,
    pub durable: Durable,
    pub revisions: Revisions,
    pub hashes: StateHashes,
    pub leases: Leases,
    pub watch_clients: Vec<Client>,
    pub slow_reads: Vec<SlowRead>,
    /// Writes in the order they were handed over, and answers on their way.
    pub asked: VecDeque<Asked>,
    pub waiting: VecDeque<Waiting>,
    /// Writes that were refused for want of space and wait for the alarm.
    pub refused: Vec<Slot<Applied>>,
    /// Clients that wait for the purge of a compaction.
    pub purges: Vec<Slot<()>>,
    pub hash_kvs: HashKvs,
    pub serving: bool,
    /// When the run began.
    pub began: Instant,
    /// When this life began: leases have their full time from then on.
    pub life_began: Instant,
    /// Where the log ends.
    pub tail: Tail,
    pub old_copy: Option<OldCopy>,
    /// The state of the old copy, while it may be found.
    pub old_state: Option<State>,
    /// The fault of this life waits to be reached.
    pub armed: bool,
    /// The log thread stands still until then.
    pub slow_until: u64,
    pub step: u64,
    /// A flush had to wait for a slow disk.
    pub slowed: bool,
    pub disk: SimDisk,
    pub store_disk: ModelDisk,
    pub store_fault: StoreFault,
    /// Failures that the disk had reached when this life began.
    reached_before: u64,
    /// How often the disk had been full when this life began.
    full_before: u64,
}

/// The kinds of operations that faults make fail.
const FAILING: [OperationKind; 6] = [
    OperationKind::Sync,
    OperationKind::Write,
    OperationKind::Create,
    OperationKind::Rename,
    OperationKind::SyncDir,
    OperationKind::Read,
];

/// Damaged copies after each life.
const PROBES: usize = 2;

impl Run {
    pub fn new(seed: u64, trace: Rc<RefCell<Trace>>) -> Run {
        let mut random = SplitMix64(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x5eed);
        let settings = Settings::draw(&mut random);
        let disk = SimDisk::new(random.next_u64());
        let now = Instant::now();
        Run {
            random,
            settings,
            trace,
            counts: Counts::default(),
            stats: Stats::default(),
            now,
            began: now,
            life_began: now,
            durable: Durable::new(),
            revisions: Revisions::new(),
            hashes: StateHashes::default(),
            leases: Leases::default(),
            watch_clients: Vec::new(),
            slow_reads: Vec::new(),
            asked: VecDeque::new(),
            waiting: VecDeque::new(),
            refused: Vec::new(),
            purges: Vec::new(),
            hash_kvs: HashKvs::default(),
            serving: false,
            tail: Tail::default(),
            old_copy: None,
            old_state: None,
            armed: false,
            slow_until: 0,
            step: 0,
            slowed: false,
            disk,
            store_disk: ModelDisk::default(),
            store_fault: StoreFault::default(),
            reached_before: 0,
            full_before: 0,
        }
    }

    pub fn note(&self, text: std::fmt::Arguments<'_>) {
        self.trace.borrow_mut().line(text);
    }

    /// The whole run: lives with faults, then a quiet one.
    pub fn go(&mut self) -> Result<(), String> {
        self.note(format_args!("{:?}", self.settings));
        for life in 0..self.settings.lives {
            let plan = Plan::draw(&mut self.random);
            *self.counts.announced.entry(plan.kind).or_default() += 1;
            self.note(format_args!("life {life}: {plan:?}"));
            self.live(plan)?;
            self.copy_disks();
            self.between_lives()?;
        }
        self.note(format_args!("the quiet life"));
        let ended = self.quiet_life();
        self.stats.simulated = self.now - self.began;
        match ended {
            Ok(()) => Ok(()),
            Err(Stop::Violation(text)) => Err(text),
            Err(stop) => Err(format!("the member ends without a fault: {stop:?}")),
        }
    }

    fn live(&mut self, plan: Plan) -> Result<(), String> {
        self.begin_life();
        let mut tried = 0;
        if plan.while_starting() {
            plan.arm(&self.disk, &self.store_fault, &mut self.random);
        }
        let started = boot::open(
            &self.disk,
            (&self.store_disk, &self.store_fault),
            &self.settings,
            self.now,
        );
        let stop = match started {
            Ok(mut member) => {
                let stop = self.steps_of(&mut member, plan, &mut tried);
                self.count_made(&member);
                stop
            }
            Err(fatal) => Err(Stop::Died(fatal)),
        };
        if let Err(Stop::Violation(text)) = stop {
            return Err(text);
        }
        let reached = self.fault_reached(plan) || matches!(stop, Err(Stop::Struck));
        if let Err(Stop::Died(fatal)) = &stop {
            self.note(format_args!("died: {fatal}"));
            if !reached {
                return Err(format!("the member ends without a fault: {fatal}"));
            }
        }
        if reached {
            *self.counts.reached.entry(plan.kind).or_default() += 1;
            self.note(format_args!("reached {:?} after {tried} steps", plan.kind));
        }
        self.end_life(plan, reached);
        Ok(())
    }

    pub fn begin_life(&mut self) {
        self.serving = false;
        self.slow_until = 0;
        self.slowed = false;
        self.armed = false;
        self.life_began = self.now;
        // Streams end with the member.
        self.watch_clients = self.watch_clients.clone();
        self.slow_reads.clear();
        self.asked.clear();
        self.waiting.clear();
        self.refused.clear();
        self.purges.clear();
        self.reached_before = self.failures();
        self.full_before = self.disk.no_space();
    }

    /// True once the disk was full in this life.
    pub fn disk_was_full(&self) -> bool {
        self.disk.no_space() > self.full_before
    }

    /// What lies on the disk is checked, and a copy of it is damaged.
    fn between_lives(&mut self) -> Result<(), String> {
        if self.stats.recoveries == 0 {
            // Perhaps not even founded.
            return Ok(());
        }
        if !self.check_is_clean()? {
            return Err("`check` finds a defect after a life".to_owned());
        }
        for _ in 0..PROBES {
            self.probe()?;
        }
        Ok(())
    }

    /// What is left of the disk after the life.
    fn end_life(&mut self, plan: Plan, reached: bool) {
        self.slow_reads.clear();
        self.asked.clear();
        self.waiting.clear();
        self.refused.clear();
        self.purges.clear();
        let failed = !plan.kind.takes_the_power() && plan.kind != FaultKind::CleanStop;
        let power = self.disk.is_dead()
            || (reached && plan.kind.takes_the_power())
            || (failed && self.random.chance(1, 3));
        self.store_fault.clear();
        if power {
            self.note(format_args!("power cut"));
            self.disk = self.disk.power_cut(self.random.next_u64());
            let random = &mut self.random;
            let kept_of_4 = random.below(5);
            self.store_disk
                .power_cut(&mut || random.chance(kept_of_4, 4));
        } else {
            self.note(format_args!("kill"));
            self.disk.forget_faults();
            self.disk = self.disk.kill();
        }
        self.now += Duration::from_secs(self.random.below(5));
    }

    fn failures(&self) -> u64 {
        let failures = FAILING.iter().map(|kind| self.disk.reached(*kind));
        failures.sum::<u64>() + self.disk.no_space()
    }

    fn fault_reached(&self, plan: Plan) -> bool {
        let between = matches!(
            plan.kind,
            FaultKind::CutBetween | FaultKind::KillBetween | FaultKind::CleanStop
        );
        !between
            && (self.slowed
                || self.disk.is_dead()
                || self.store_fault.struck()
                || self.failures() > self.reached_before)
    }

    fn count_made(&mut self, member: &Member) {
        self.stats.checkpoints += member.checkpoints;
        self.stats.cleaned_segments += member.cleaned;
        self.stats.moved_values += member.host.moved;
        self.stats.scrubs += member.scrubs;
    }

    fn steps_of(&mut self, member: &mut Member, plan: Plan, tried: &mut u64) -> Result<(), Stop> {
        self.check_loaded(member)?;
        for step in 0..self.settings.steps {
            *tried = step;
            self.step = step;
            if step >= plan.at_step && !plan.while_starting() {
                self.strike(member, plan, step)?;
            }
            self.step(member)?;
            if self.disk.is_dead() || self.store_fault.struck() {
                // The process is gone, whoever has noticed.
                return Err(Stop::Struck);
            }
        }
        Ok(())
    }

    fn strike(&mut self, member: &mut Member, plan: Plan, step: u64) -> Result<(), Stop> {
        match plan.kind {
            FaultKind::CutBetween | FaultKind::KillBetween => Err(Stop::Struck),
            FaultKind::CleanStop => {
                self.slow_until = 0;
                self.flush(member)?;
                member.report_flush()?;
                self.outputs(member)?;
                Err(Stop::Struck)
            }
            FaultKind::KillWithFlushUnderWay => {
                let Flush::Submitted(group) = &member.host.flush else {
                    return Ok(());
                };
                let bytes = group.bytes();
                let length = self.random.below(bytes.len() as u64 + 1);
                let part = &bytes[..usize::try_from(length).unwrap()];
                group.file().write_all_at(part, group.offset()).unwrap();
                self.note(format_args!("killed with {length} bytes written"));
                Err(Stop::Struck)
            }
            FaultKind::SlowFlush => {
                if step == plan.at_step {
                    self.slow_until = step + 50 + self.random.below(100);
                    self.note(format_args!(
                        "the disk is slow until step {}",
                        self.slow_until
                    ));
                }
                Ok(())
            }
            kind if kind.while_cleaning() => {
                if !self.armed && member.is_cleaning() {
                    self.armed = true;
                    self.note(format_args!("armed while cleaning"));
                    plan.arm(&self.disk, &self.store_fault, &mut self.random);
                }
                Ok(())
            }
            _ if step == plan.at_step => {
                self.note(format_args!("armed"));
                plan.arm(&self.disk, &self.store_fault, &mut self.random);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The last life: everything is carried out, and nothing may be missing.
    fn quiet_life(&mut self) -> Result<(), Stop> {
        self.begin_life();
        let disks = (&self.store_disk, &self.store_fault);
        let mut member = boot::open(&self.disk, disks, &self.settings, self.now)?;
        self.check_loaded(&member)?;
        for _ in 0..self.settings.steps {
            self.step(&mut member)?;
        }
        self.settle(&mut member)?;
        assert!(self.serving, "a member without faults serves");
        // Every lease ends once nobody renews it.
        self.now += Duration::from_secs(60);
        self.expire(&mut member)?;
        self.settle(&mut member)?;
        if !member.machine().leases().is_empty() {
            return Err(Stop::Violation("a lease never ends".to_owned()));
        }
        self.finish_purge(&mut member)?;
        self.drain_watchers(&mut member)?;
        let everything: BTreeSet<i64> = self.retained(&member).collect();
        self.check_revisions(&mut member, everything)?;
        self.check_state(&mut member)?;
        self.scrub_once(&mut member)?;
        self.count_made(&member);
        Ok(())
    }
}
