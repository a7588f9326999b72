//! Leases and the keys attached to them.
//!
//! Owns: which leases exist, their granted time to live, which key hangs on
//! which. Time itself is not here: the lessor of the server counts it down.
//! Invariants: `attached` maps exactly the keys that the leases list, each to
//! the lease that lists it; no lease is 0. Bounded by the live keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Refusal;
use crate::limits::LEASE_TTL_SECONDS_MAX;
use crate::planted::{Bug, planted};
use crate::types::{Key, LeaseId, RevisionEvents};

/// All leases of the cluster.
#[derive(Debug, Default)]
pub struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    attached: BTreeMap<Key, LeaseId>,
}

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    keys: BTreeSet<Key>,
}

impl Leases {
    /// True when the lease exists.
    #[must_use]
    pub fn contains(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// The granted time to live, seconds; None when there is no such lease.
    #[must_use]
    pub fn ttl_seconds(&self, lease: LeaseId) -> Option<i64> {
        self.leases.get(&lease).map(|lease| lease.ttl_seconds)
    }

    /// All leases with their granted time to live, by identity.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        let leases = self.leases.iter();
        leases.map(|(lease, state)| (*lease, state.ttl_seconds))
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The keys attached to a lease, sorted; None when there is no such lease.
    #[must_use]
    pub fn keys(&self, lease: LeaseId) -> Option<impl Iterator<Item = &Key>> {
        self.leases.get(&lease).map(|lease| lease.keys.iter())
    }

    /// The lease that a key is attached to.
    #[must_use]
    pub fn lease_of(&self, key: &[u8]) -> Option<LeaseId> {
        self.attached.get(key).copied()
    }

    /// Creates a lease (contract 1.10).
    pub(super) fn grant(&mut self, lease: LeaseId, ttl_seconds: i64) -> Result<(), Refusal> {
        assert!(!lease.is_none(), "a proposer never grants lease 0");
        // etcd looks at the time to live before it looks the lease up.
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.contains(lease) {
            return Err(Refusal::LeaseExists);
        }
        self.insert(lease, ttl_seconds);
        Ok(())
    }

    /// Puts back a lease of a checkpoint.
    pub(super) fn insert(&mut self, lease: LeaseId, ttl_seconds: i64) {
        let keys = BTreeSet::new();
        let before = self.leases.insert(lease, Lease { ttl_seconds, keys });
        assert!(before.is_none(), "lease {lease:?} is granted twice");
    }

    /// Forgets a lease whose keys were deleted.
    pub(super) fn remove(&mut self, lease: LeaseId) {
        let removed = self.leases.remove(&lease);
        let removed = removed.expect("only an existing lease is revoked");
        assert!(
            removed.keys.is_empty() || planted(Bug::RevokeLeavesKey),
            "the keys of lease {lease:?} were deleted before it"
        );
    }

    /// Notes what a request put and deleted, in order.
    pub(super) fn follow(&mut self, events: &RevisionEvents) {
        for event in &events.events {
            self.follow_record(&event.meta.key, event.meta.lease);
        }
    }

    /// Notes that `key` was put with `lease`, or deleted ([`LeaseId::NONE`]).
    /// A lease that does not exist is passed over, as etcd does when it loads
    /// a store: a put with one never gets here.
    pub(super) fn follow_record(&mut self, key: &Key, lease: LeaseId) {
        if lease.is_none() {
            self.detach(key);
        } else {
            self.attach(key, lease);
        }
    }

    /// The last put wins.
    fn attach(&mut self, key: &Key, lease: LeaseId) {
        if self.lease_of(key) == Some(lease) {
            return;
        }
        self.detach(key);
        if let Some(state) = self.leases.get_mut(&lease) {
            state.keys.insert(Key::clone(key));
            self.attached.insert(Key::clone(key), lease);
        }
    }

    fn detach(&mut self, key: &[u8]) {
        // Most stores have few leased keys: this line is all that a put pays.
        if self.attached.is_empty() {
            return;
        }
        if let Some(lease) = self.attached.remove(key) {
            let state = self.leases.get_mut(&lease);
            let state = state.expect("a key is attached only to an existing lease");
            assert!(
                state.keys.remove(key),
                "a lease lists the keys attached to it"
            );
        }
    }
}
