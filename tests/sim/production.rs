//! The sans-IO parts of the server, compiled here from the same source: what is
//! simulated is what runs, without building all that serves around it. Items that
//! are visible to their parent alone are handed on here.

#[path = "../../server/src/runtime/lessor.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
mod lessor;
#[path = "../../server/src/runtime/limits.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
mod limits;
#[path = "../../server/src/node/mod.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
pub mod node;
#[path = "../../server/src/runtime/pins.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
mod pins;

use std::time::{Duration, Instant};

use storage::types::LeaseId;

pub use pins::Pin;

/// The lessor of the server.
#[derive(Debug, Default)]
pub struct Lessor(lessor::Lessor);

impl Lessor {
    pub fn granted(&mut self, lease: LeaseId, ttl_seconds: i64, now: Instant) {
        self.0.granted(lease, ttl_seconds, now);
    }

    pub fn revoked(&mut self, lease: LeaseId) {
        self.0.revoked(lease);
    }

    pub fn renew(&mut self, lease: LeaseId, now: Instant) -> Option<i64> {
        self.0.renew(lease, now)
    }

    pub fn take_expired(&mut self, now: Instant) -> Vec<LeaseId> {
        self.0.take_expired(now, limits::EXPIRED_LEASES_PER_SCAN)
    }
}

/// The pins of the server.
#[derive(Debug, Default)]
pub struct Pins(pins::Pins);

impl Pins {
    pub fn pin(&mut self, revision: i64) -> Pin {
        self.0.pin(revision)
    }

    pub fn floor(&mut self, compacted_revision: i64, now: Instant) -> i64 {
        self.0.floor(compacted_revision, now)
    }
}

/// After this long without a flush an empty group proves the last one.
pub const IDLE_BEFORE_PROOF: Duration = limits::IDLE_BEFORE_PROOF;
