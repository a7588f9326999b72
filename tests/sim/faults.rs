//! The faults: announced before they happen, counted when they did.
//!
//! Each life of the member (from one start to the next) has one fault, drawn
//! from the seed. Most name an operation in the future; those that are never
//! reached before the life is over are announced and not counted.

use std::collections::BTreeMap;

use storage::vfs::sim::{CutPoint, OperationKind, SimDisk, SplitMix64};

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
}

impl FaultKind {
    pub const ALL: [FaultKind; 19] = [
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
    ];

    /// The operation of the disk that fails, if it is that kind of fault.
    fn failing(self) -> Option<OperationKind> {
        match self {
            FaultKind::FailedSync => Some(OperationKind::Sync),
            FaultKind::FailedWrite => Some(OperationKind::Write),
            FaultKind::FailedCreate => Some(OperationKind::Create),
            FaultKind::FailedRename => Some(OperationKind::Rename),
            FaultKind::FailedDirectorySync => Some(OperationKind::SyncDir),
            FaultKind::FailedRead => Some(OperationKind::Read),
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
        )
    }
}

/// How often each fault was announced and reached.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub announced: BTreeMap<FaultKind, u64>,
    pub reached: BTreeMap<FaultKind, u64>,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        for (kind, count) in &other.announced {
            *self.announced.entry(*kind).or_default() += count;
        }
        for (kind, count) in &other.reached {
            *self.reached.entry(*kind).or_default() += count;
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
        let at = random.below(FaultKind::ALL.len() as u64);
        let kind = FaultKind::ALL[usize::try_from(at).unwrap()];
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
        let soon = if self.while_starting() { 30 } else { 60 };
        if let Some(point) = self.kind.cut_point() {
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
            let ahead = random.below(if rare { 2 } else { 12 });
            disk.fail(kind, disk.count(kind) + 1 + ahead);
        }
        match self.kind {
            FaultKind::FullDisk => {
                let room = random.below(60_000);
                disk.set_capacity(Some(disk.used_bytes() + room));
            }
            FaultKind::CutInStore | FaultKind::KillInStore => store.stop_after(random.below(12)),
            FaultKind::FailedStoreSync => store.fail_sync_after(random.below(3)),
            _ => {}
        }
    }
}
