//! The state machine: what it owns, and one entry after the other.
//!
//! Owns [`Mvcc`], [`Leases`] and [`Alarms`]; the core loop's thread runs it.
//! Invariants: entries are applied in order without a gap; the same entries give
//! the same state and outcomes everywhere (quota and deferred reads excepted, which change
//! no state); nothing here knows time, files or randomness.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::alarm::Alarms;
use super::command::{Alarm, Command, Envelope, Range, Txn};
use super::compare::Path;
use super::lease::Leases;
use super::needs::Needs;
use super::outcome::{InheritedValue, LeaseChange, Outcome, RangeResult, Response, TxnResult};
use super::read::{Gathering, Supplied, read};
use super::space;
use super::txn::{Checks, Writing, inherited_values, read_path};
use crate::error::Refusal;
use crate::limits::GATHERED_KEYS_MAX;
use crate::mvcc::{Bounds, Mvcc, StateHash};
use crate::planted::{Bug, planted};
use crate::types::{
    Key, LeaseId, LogIndex, MemberId, Place, RecordMeta, Revision, RevisionEvents, SegmentNumber,
    Term,
};

/// Where the data of an entry lies: in memory, and in the log.
#[derive(Clone, Debug)]
pub struct EntryData {
    /// The data; what was decoded from it are slices of it.
    pub bytes: Bytes,
    /// The segment that holds the entry.
    pub segment: SegmentNumber,
    /// Byte offset of the data within the segment's file.
    pub offset: u32,
}

/// What of the state machine is not a record: enough, with the records, to go
/// on from here. For the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The last entry applied.
    pub applied_index: LogIndex,
    /// Its term.
    pub applied_term: Term,
    /// Current main revision.
    pub current_revision: i64,
    /// Compacted main revision, -1 before the first compaction.
    pub compacted_revision: i64,
    /// The chain of the state hash.
    pub hash_chain: u128,
    /// Leases with their granted time to live in seconds, by identity.
    pub leases: Vec<(LeaseId, i64)>,
    /// Raised alarms, by member, then kind.
    pub alarms: Vec<(MemberId, Alarm)>,
}

/// The hash of the whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineHash {
    /// Of keys and revisions.
    pub store: StateHash,
    /// Of leases and alarms.
    pub leases_and_alarms: u128,
}

/// The state machine of one member.
#[derive(Debug)]
pub struct StateMachine {
    mvcc: Mvcc,
    leases: Leases,
    alarms: Alarms,
    applied: (LogIndex, Term),
    /// For the request that comes next; empty after it.
    supplied: Supplied,
    /// Bytes; None is no quota. Only `over_quota` looks at it.
    quota_bytes: Option<u64>,
    gathered_keys_max: usize,
}

/// A state machine that is being loaded from a checkpoint.
#[derive(Debug)]
pub struct Loading {
    machine: StateMachine,
    restart: Restart,
}

impl StateMachine {
    /// The state before the first entry.
    #[must_use]
    pub fn new(mvcc: Mvcc, quota_bytes: Option<u64>) -> StateMachine {
        assert_eq!(
            mvcc.record_count(),
            0,
            "a new state machine has an empty store"
        );
        StateMachine {
            mvcc,
            leases: Leases::default(),
            alarms: Alarms::default(),
            applied: (LogIndex(0), Term(0)),
            supplied: Supplied::new(),
            quota_bytes,
            gathered_keys_max: GATHERED_KEYS_MAX,
        }
    }

    /// Begins to load a checkpoint into the empty store `mvcc`.
    #[must_use]
    pub fn load(mvcc: Mvcc, quota_bytes: Option<u64>, restart: Restart) -> Loading {
        let mut machine = StateMachine::new(mvcc, quota_bytes);
        for (lease, ttl_seconds) in &restart.leases {
            machine.leases.insert(*lease, *ttl_seconds);
        }
        for (member, alarm) in &restart.alarms {
            machine.alarms.activate(*member, *alarm);
        }
        Loading { machine, restart }
    }

    /// How many keys the ranges of a transaction look at in its turn.
    pub fn set_gathered_keys_max(&mut self, gathered_keys_max: usize) {
        self.gathered_keys_max = gathered_keys_max;
    }

    /// What a manifest has to hold besides the records.
    #[must_use]
    pub fn restart(&self) -> Restart {
        Restart {
            applied_index: self.applied.0,
            applied_term: self.applied.1,
            current_revision: self.mvcc.current_revision(),
            compacted_revision: self.mvcc.compacted_revision(),
            hash_chain: self.mvcc.state_hash().chain,
            leases: self.leases.iter().collect(),
            alarms: self.alarms.iter().collect(),
        }
    }

    /// Values that must be resident when `command` is applied: those that
    /// guards look at, and those that `ignore_value` keeps. Fetch them, hand them to
    /// [`supply`](Self::supply) and ask again until none is named; then apply in the same turn.
    #[must_use]
    pub fn needs(&self, command: &Command) -> Vec<Arc<RecordMeta>> {
        let mut needs = Needs::new(&self.mvcc, &self.supplied);
        needs.command(command);
        needs.into_metas()
    }

    /// As [`needs`](Self::needs), for [`read_txn`](Self::read_txn).
    #[must_use]
    pub fn txn_needs(&self, txn: &Txn) -> Vec<Arc<RecordMeta>> {
        let mut needs = Needs::new(&self.mvcc, &self.supplied);
        needs.txn(txn);
        needs.into_metas()
    }

    /// As [`needs`](Self::needs), for [`range`](Self::range).
    #[must_use]
    pub fn range_needs(&self, range: &Range) -> Vec<Arc<RecordMeta>> {
        let mut needs = Needs::new(&self.mvcc, &self.supplied);
        needs.range(range);
        needs.into_metas()
    }

    /// Takes a value that was fetched because the request that comes next needs
    /// it: a newest one stays resident, a superseded one is forgotten after the
    /// request.
    ///
    /// # Panics
    /// When it is not the value of `meta` (length, and CRC of a newest one).
    pub fn supply(&mut self, meta: &RecordMeta, value: &[u8]) {
        if !self.mvcc.install_value(meta.revision, value) {
            self.supplied.insert(meta.revision, meta.encode(value));
        }
    }

    /// Applies the entry at `index`, whose data is `data` and was decoded to
    /// `envelope`.
    ///
    /// # Panics
    /// When `index` is not the next one, a value of the command is not a slice
    /// of the data, or a value that [`needs`](Self::needs) names is not there.
    pub fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        data: &EntryData,
        envelope: &Envelope,
    ) -> Outcome {
        self.advance(index, term);
        let size_bytes = self.mvcc.size().in_use_bytes;
        let cost_bytes = space::cost_bytes(&envelope.command);
        let fits = space::fits(size_bytes, cost_bytes, self.quota_bytes);

        let applied = self.command(&envelope.command, data);
        self.supplied.clear();
        let (result, effects) = match applied {
            Ok((response, effects)) => (Ok(response), effects),
            Err(refusal) => (Err(refusal), Effects::default()),
        };
        Outcome {
            request_id: envelope.request_id,
            revision: self.mvcc.current_revision(),
            over_quota: result.is_ok() && !fits,
            result,
            events: effects.events,
            lease_changes: effects.lease_changes,
            inherited: effects.inherited,
        }
    }

    /// Passes over an entry that is not for the state machine: an empty one, or
    /// a change of membership.
    ///
    /// # Panics
    /// When `index` is not the next one.
    pub fn skip(&mut self, index: LogIndex, term: Term) {
        self.advance(index, term);
    }

    /// Answers a transaction that only reads, without an entry.
    ///
    /// # Errors
    /// The revision of a read is compacted or in the future.
    ///
    /// # Panics
    /// When it writes ([`Txn::is_read_only`]), or a value that
    /// [`txn_needs`](Self::txn_needs) names is not there.
    pub fn read_txn(&self, txn: &Txn) -> Result<TxnResult, Refusal> {
        assert!(txn.is_read_only(), "what writes takes an entry");
        let path = Path::of(&self.mvcc, txn);
        self.checks().path(&path)?;
        Ok(read_path(&self.mvcc, self.gathering(), &path))
    }

    /// Answers a read as a whole (contract 1.5). For answers that may be large,
    /// [`super::Plan`] and [`Mvcc::range_slice`] do the same in slices.
    ///
    /// # Errors
    /// The revision is compacted or in the future.
    ///
    /// # Panics
    /// When a value that [`range_needs`](Self::range_needs) names is not there.
    pub fn range(&mut self, range: &Range) -> Result<RangeResult, Refusal> {
        let supplied = std::mem::take(&mut self.supplied);
        self.mvcc.check_revision(range.revision)?;
        let revision = self.mvcc.current_revision();
        Ok(read(&self.mvcc, &supplied, revision, range))
    }

    /// The store.
    #[must_use]
    pub fn mvcc(&self) -> &Mvcc {
        &self.mvcc
    }

    /// The store, for what changes no answer: purging, eviction, installing
    /// values, HashKV. Everything else is a command.
    pub fn mvcc_mut(&mut self) -> &mut Mvcc {
        &mut self.mvcc
    }

    /// The leases.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The alarms.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The last entry applied; 0 before the first.
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        self.applied.0
    }

    /// The term of the last entry applied.
    #[must_use]
    pub fn applied_term(&self) -> Term {
        self.applied.1
    }

    /// True when the store has room for `command` (contract 1.13): the
    /// proposer's check, before it proposes.
    #[must_use]
    pub fn has_space(&self, command: &Command) -> bool {
        let size_bytes = self.mvcc.size().in_use_bytes;
        space::fits(size_bytes, space::cost_bytes(command), self.quota_bytes)
    }

    /// The hash of the whole state: equal on every member that has applied the
    /// same entries, however far each has purged.
    #[must_use]
    pub fn state_hash(&self) -> MachineHash {
        let mut hasher = Sha256::new();
        for (lease, ttl_seconds) in self.leases.iter() {
            hasher.update([0]);
            hasher.update(lease.0.to_le_bytes());
            hasher.update(ttl_seconds.to_le_bytes());
        }
        for (member, alarm) in self.alarms.iter() {
            hasher.update([alarm.number()]);
            hasher.update(member.0.to_le_bytes());
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let half = digest.first_chunk::<16>().expect("32 bytes hold 16");
        MachineHash {
            store: self.mvcc.state_hash(),
            leases_and_alarms: u128::from_le_bytes(*half),
        }
    }
}

/// What a command did besides its answer.
#[derive(Default)]
struct Effects {
    events: Option<RevisionEvents>,
    lease_changes: Vec<LeaseChange>,
    inherited: Vec<InheritedValue>,
}

type Applied = Result<(Response, Effects), Refusal>;

impl StateMachine {
    fn advance(&mut self, index: LogIndex, term: Term) {
        let (applied_index, applied_term) = self.applied;
        assert_eq!(
            index.0,
            applied_index.0 + 1,
            "entries are applied in order, without a gap"
        );
        assert!(term >= applied_term, "terms never fall along the log");
        self.applied = (index, term);
    }

    fn gathering(&self) -> Gathering {
        Gathering {
            keys_left: self.gathered_keys_max,
        }
    }

    fn checks(&self) -> Checks<'_> {
        Checks {
            mvcc: &self.mvcc,
            leases: &self.leases,
        }
    }

    fn command(&mut self, command: &Command, data: &EntryData) -> Applied {
        match command {
            Command::Put(put) => {
                self.checks().put(put)?;
                self.write(data, |writing| {
                    let previous = writing.put(put)?;
                    Ok(Response::Put { previous })
                })
            }
            Command::DeleteRange(delete) => self.write(data, |writing| {
                let (deleted, previous) = writing.delete_range(delete);
                Ok(Response::DeleteRange { deleted, previous })
            }),
            Command::Txn(txn) => self.txn(txn, data),
            Command::Compact { revision } => {
                self.mvcc.compact(*revision)?;
                Ok((Response::Compact, Effects::default()))
            }
            Command::LeaseGrant { lease, ttl_seconds } => self.grant(*lease, *ttl_seconds),
            Command::LeaseRevoke { lease } => self.revoke(*lease),
            Command::Alarm {
                activate,
                member,
                alarm,
            } => {
                let changed = if *activate {
                    self.alarms.activate(*member, *alarm)
                } else {
                    self.alarms.deactivate(*member, *alarm)
                };
                Ok((Response::Alarm(changed), Effects::default()))
            }
        }
    }

    /// Runs one request that may change keys: one main revision or none.
    fn write(
        &mut self,
        data: &EntryData,
        perform: impl FnOnce(&mut Writing<'_, '_>) -> Result<Response, Refusal>,
    ) -> Applied {
        let gathering = self.gathering();
        let mut writing = Writing {
            write: self.mvcc.write(),
            data,
            gathering,
            kept_values: false,
        };
        // On a refusal `writing` is dropped, which takes its changes back.
        let response = perform(&mut writing)?;
        let (events, kept_values) = writing.finish();
        let inherited = match &events {
            Some(events) if kept_values => inherited_values(events, data),
            _ => Vec::new(),
        };
        if let Some(events) = &events {
            self.leases.follow(events);
        }
        let effects = Effects {
            events,
            inherited,
            ..Effects::default()
        };
        Ok((response, effects))
    }

    fn txn(&mut self, txn: &Txn, data: &EntryData) -> Applied {
        let path = Path::of(&self.mvcc, txn);
        self.checks().path(&path)?;
        self.write(data, |writing| {
            let mut result = writing.path(&path)?;
            result.revision = writing.write.revision();
            Ok(Response::Txn(result))
        })
    }

    fn grant(&mut self, lease: LeaseId, ttl_seconds: i64) -> Applied {
        self.leases.grant(lease, ttl_seconds)?;
        let lease_changes = vec![LeaseChange::Granted { lease, ttl_seconds }];
        let effects = Effects {
            lease_changes,
            ..Effects::default()
        };
        Ok((Response::LeaseGrant { lease, ttl_seconds }, effects))
    }

    /// Deletes the keys of a lease, sorted, in one revision, then the lease.
    fn revoke(&mut self, lease: LeaseId) -> Applied {
        let keys = self.leases.keys(lease).ok_or(Refusal::LeaseNotFound)?;
        let left = usize::from(planted(Bug::RevokeLeavesKey));
        let keys: Vec<Key> = keys.skip(left).cloned().collect();
        let mut write = self.mvcc.write();
        for key in &keys {
            let deleted = write.delete_range(&Bounds::single(key));
            assert_eq!(deleted.len(), 1, "an attached key is live");
        }
        let events = write.finish();
        if let Some(events) = &events {
            self.leases.follow(events);
        }
        self.leases.remove(lease);
        let effects = Effects {
            events,
            lease_changes: vec![LeaseChange::Revoked { lease }],
            ..Effects::default()
        };
        Ok((Response::LeaseRevoke, effects))
    }
}

impl Loading {
    /// Adds a record; records come in revision order, whole, without values.
    pub fn record(&mut self, record: RecordMeta) {
        let leases = &mut self.machine.leases;
        if !planted(Bug::LeaseKeysNotLoaded) {
            leases.follow_record(&record.key, record.lease);
        }
        self.machine.mvcc.load(record);
    }

    /// Ends the load of records that hold nothing compacted.
    #[must_use]
    pub fn finish(self) -> StateMachine {
        self.finish_with_dropped().0
    }

    /// Ends the load; also gives the records that were compacted and that the
    /// checkpoint still held, which the next one has to remove.
    #[must_use]
    pub fn finish_with_dropped(self) -> (StateMachine, Vec<(Revision, Place)>) {
        let Loading {
            mut machine,
            restart,
        } = self;
        let dropped = machine.mvcc.finish_load(
            restart.current_revision,
            restart.compacted_revision,
            restart.hash_chain,
        );
        machine.applied = (restart.applied_index, restart.applied_term);
        (machine, dropped)
    }
}
