//! The faults: announced before they happen, counted when they did.
//!
//! Each life of the member (from one start to the next) has one fault, drawn
//! from the seed. Most name an operation in the future; those that are never
//! reached before the life is over are announced and not counted. Between lives
//! a copy of the disk is damaged (`damage.rs`).

use std::collections::BTreeMap;

use storage::vfs::sim::{CutPoint, OperationKind, SimDisk, SplitMix64};

use crate::probe::Ended;
use crate::store::StoreFault;

/// Every kind of fault. A campaign fails unless each fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    CutBefore,
    CutWithin,
    CutAfter,
    CutWhileStarting,
    CutInStore,
    CutBetween,
    KillBetween,
    KillWithFlushUnderWay,
    KillInStore,
    KillWhileStarting,
    FailedSync,
    FailedWrite,
    FailedCreate,
    FailedRename,
    FailedDirectorySync,
    FailedRead,
    FailedStoreSync,
    FullDisk,
    CleanStop,
    SlowFlush,
    CutWhileCleaning,
    KillWhileCleaning,
    FailedReadWhileCleaning,
    FullDiskWhileCleaning,
    BitFlip,
    TailFlip,
    ZeroedSector,
    MisdirectedSector,
    DamagedRecord,
    LostRecord,
    StaleFile,
    StalePart,
}

impl FaultKind {
    /// Those that end a life, or go with it.
    pub const OF_A_LIFE: [FaultKind; 24] = [
        FaultKind::CutBefore,
        FaultKind::CutWithin,
        FaultKind::CutAfter,
        FaultKind::CutWhileStarting,
        FaultKind::CutInStore,
        FaultKind::CutBetween,
        FaultKind::KillBetween,
        FaultKind::KillWithFlushUnderWay,
        FaultKind::KillInStore,
        FaultKind::KillWhileStarting,
        FaultKind::FailedSync,
        FaultKind::FailedWrite,
        FaultKind::FailedCreate,
        FaultKind::FailedRename,
        FaultKind::FailedDirectorySync,
        FaultKind::FailedRead,
        FaultKind::FailedStoreSync,
        FaultKind::FullDisk,
        FaultKind::CleanStop,
        FaultKind::SlowFlush,
        FaultKind::CutWhileCleaning,
        FaultKind::KillWhileCleaning,
        FaultKind::FailedReadWhileCleaning,
        FaultKind::FullDiskWhileCleaning,
    ];

    /// Those of a disk that breaks its word.
    pub const OF_A_DISK: [FaultKind; 8] = [
        FaultKind::BitFlip,
        FaultKind::TailFlip,
        FaultKind::ZeroedSector,
        FaultKind::MisdirectedSector,
        FaultKind::DamagedRecord,
        FaultKind::LostRecord,
        FaultKind::StaleFile,
        FaultKind::StalePart,
    ];

    /// Those that the scrub must find at least once in a campaign.
    pub const OF_BYTES: [FaultKind; 5] = [
        FaultKind::BitFlip,
        FaultKind::TailFlip,
        FaultKind::ZeroedSector,
        FaultKind::MisdirectedSector,
        FaultKind::DamagedRecord,
    ];

    /// True for a fault that waits until values are moved out of segments.
    pub fn while_cleaning(self) -> bool {
        matches!(
            self,
            FaultKind::CutWhileCleaning
                | FaultKind::KillWhileCleaning
                | FaultKind::FailedReadWhileCleaning
                | FaultKind::FullDiskWhileCleaning
        )
    }

    /// The operation of the disk that fails, if it is that kind of fault.
    fn failing(self) -> Option<OperationKind> {
        match self {
            FaultKind::FailedSync => Some(OperationKind::Sync),
            FaultKind::FailedWrite => Some(OperationKind::Write),
            FaultKind::FailedCreate => Some(OperationKind::Create),
            FaultKind::FailedRename => Some(OperationKind::Rename),
            FaultKind::FailedDirectorySync => Some(OperationKind::SyncDir),
            FaultKind::FailedRead | FaultKind::FailedReadWhileCleaning => Some(OperationKind::Read),
            _ => None,
        }
    }

    fn cut_point(self) -> Option<CutPoint> {
        match self {
            FaultKind::CutBefore => Some(CutPoint::Before),
            FaultKind::CutWithin | FaultKind::CutWhileStarting => Some(CutPoint::Within),
            FaultKind::CutAfter => Some(CutPoint::After),
            _ => None,
        }
    }

    /// True when what the page cache holds is lost with it.
    pub fn takes_the_power(self) -> bool {
        matches!(
            self,
            FaultKind::CutBefore
                | FaultKind::CutWithin
                | FaultKind::CutAfter
                | FaultKind::CutWhileStarting
                | FaultKind::CutInStore
                | FaultKind::CutBetween
                | FaultKind::CutWhileCleaning
        )
    }
}

/// How often each fault was announced and reached.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub announced: BTreeMap<FaultKind, u64>,
    pub reached: BTreeMap<FaultKind, u64>,
    /// How the damaged copies ended.
    pub probes: BTreeMap<(FaultKind, Ended), u64>,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        for (kind, count) in &other.announced {
            *self.announced.entry(*kind).or_default() += count;
        }
        for (kind, count) in &other.reached {
            *self.reached.entry(*kind).or_default() += count;
        }
        for (probe, count) in &other.probes {
            *self.probes.entry(*probe).or_default() += count;
        }
    }
}

/// The fault of one life.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub kind: FaultKind,
    /// The step at which it happens or is armed.
    pub at_step: u64,
}

impl Plan {
    pub fn draw(random: &mut SplitMix64) -> Plan {
        let at = random.below(FaultKind::OF_A_LIFE.len() as u64);
        let kind = FaultKind::OF_A_LIFE[usize::try_from(at).unwrap()];
        Plan {
            kind,
            at_step: 20 + random.below(160),
        }
    }

    /// True for a fault that strikes while the member starts.
    pub fn while_starting(self) -> bool {
        matches!(
            self.kind,
            FaultKind::CutWhileStarting | FaultKind::KillWhileStarting
        )
    }

    /// Arms the disk and the store; for faults that strike at an operation.
    pub fn arm(self, disk: &SimDisk, store: &StoreFault, random: &mut SplitMix64) {
        let soon = match self.kind {
            FaultKind::CutWhileCleaning => 10,
            _ if self.while_starting() => 30,
            _ => 60,
        };
        let points = [CutPoint::Before, CutPoint::Within, CutPoint::After];
        let cleaning = (self.kind == FaultKind::CutWhileCleaning)
            .then(|| points[usize::try_from(random.below(3)).unwrap()]);
        if let Some(point) = self.kind.cut_point().or(cleaning) {
            let next = disk.operation_count();
            let ahead = usize::try_from(random.below(soon)).unwrap();
            disk.cut_at(next + ahead, point);
        }
        if self.kind == FaultKind::KillWhileStarting {
            // A process that is killed in the middle: its next operation of one
            // kind fails, then the kill.
            let kinds = [
                OperationKind::Write,
                OperationKind::Sync,
                OperationKind::Rename,
                OperationKind::SyncDir,
            ];
            let kind = kinds[usize::try_from(random.below(4)).unwrap()];
            disk.fail(kind, disk.count(kind) + 1 + random.below(4));
        }
        if let Some(kind) = self.kind.failing() {
            let rare = matches!(kind, OperationKind::Create | OperationKind::Rename);
            let soon = self.kind == FaultKind::FailedReadWhileCleaning;
            let ahead = match (rare, soon) {
                (_, true) => 0,
                (true, _) => random.below(2),
                (false, _) => random.below(12),
            };
            disk.fail(kind, disk.count(kind) + 1 + ahead);
        }
        match self.kind {
            FaultKind::FullDisk => {
                let room = random.below(60_000);
                disk.set_capacity(Some(disk.used_bytes() + room));
            }
            FaultKind::FullDiskWhileCleaning => {
                disk.set_capacity(Some(disk.used_bytes()));
                store.fill_up();
            }
            FaultKind::KillWhileCleaning => store.stop_after(random.below(4)),
            FaultKind::CutInStore | FaultKind::KillInStore => store.stop_after(random.below(12)),
            FaultKind::FailedStoreSync => store.fail_sync_after(random.below(3)),
            _ => {}
        }
    }
}
