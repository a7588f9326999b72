//! Bugs on purpose, to prove that the simulation finds them (docs/durability.md).
//! Only with the feature `planted-bugs`; without it the question is a constant
//! and the compiler leaves the bug out.

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches one bug on for this thread, or all off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.with(|planted| planted.set(bug));
    }

    /// True when this bug is switched on.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.with(|planted| planted.get() == Some(bug))
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{plant, planted};

/// True when this bug is switched on: never, in a build that serves.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn planted(_bug: Bug) -> bool {
    false
}

/// What can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Shell: entries count as durable before their flush.
    AnswerBeforeFlush,
    /// Shell: cleaned segments are retired before the manifest is durable.
    RetireBeforeManifest,
    /// Shell: a lease is revoked a second early.
    LeaseEarly,
    /// Shell: a watcher that catches up skips a revision.
    WatcherSkipsRevision,
    /// The manifest is published before its run of the store is synced.
    ManifestBeforeRun,
    /// A replaced file's directory is not synced.
    SkipDirectorySync,
    /// The manifest names one entry less than its state holds: it is applied
    /// twice after a restart.
    ApplyTwice,
    /// A purge drops the tombstone at exactly the compacted revision.
    DropTombstone,
    /// A start does not make sure of what a killed process left in the page cache.
    BelieveThePageCache,
    /// A flush group is written and not synced.
    SkipFlush,
    /// A failed sync of the log is tried again, and the second one believed.
    RetryFailedFlush,
    /// The checksums of the log do not tell the file's former life from this one.
    BelieveOldGroup,
    /// The header of the next segment does not take over vote, term and commit.
    HardStateLostAtRoll,
    /// The next segment is prepared, and retired ones are recycled, before the header of
    /// the active one is durable.
    PrepareBeforeHeader,
    /// The manifest names an entry whose records it does not hold.
    IndexWithoutEffects,
    /// A collection that goes on in the next slice skips the rest of a transaction.
    CollectionSkips,
    /// A value goes cold under another one's revision.
    ColdValueOfAnother,
    /// A value that was taken over leaves memory before it can be read anywhere.
    EvictInherited,
    /// The purge does not look at pins.
    PinIgnored,
    /// A read inside a transaction may look below the compaction.
    ReadCompacted,
    /// The remaining count of a page is that of another revision.
    PageCountOfAnotherRevision,
    /// From the second change on a transaction gets the next revision.
    SplitTransaction,
    /// The predecessor of an event is one version too old.
    PredecessorTooOld,
    /// The end of a lease leaves one of its keys behind.
    RevokeLeavesKey,
    /// A start forgets which key hangs on which lease.
    LeaseKeysNotLoaded,
    /// Only the first change of a revision wakes streams.
    MissedBell,
    /// A watcher that falls behind begins again where it started.
    WatcherRepeats,
    /// Puts reach a watcher that filters them.
    NoPutIgnored,
    /// Shell: progress is told for what is still to be sent.
    ProgressBeforeEvents,
    /// The scrub reads groups and does not compare their checksums.
    ScrubSkipsChecksums,
    /// The scrub takes a segment that was retired for a lost one.
    ScrubBelievesRecycled,
}
