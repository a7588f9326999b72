//! A member under test: the state machine over a log that is a byte vector.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use storage::apply::command::{Command, Envelope, Range, Txn};
use storage::apply::{
    DeferredRange, EntryData, MachineHash, OpResult, Projection, RangeResult, Response, Restart,
    StateMachine, TxnResult, codec,
};
use storage::error::Refusal;
use storage::limits::GATHERED_KEYS_MAX;
use storage::mvcc::Mvcc;
use storage::types::{
    Event, KeyValueRef, LogIndex, RecordMeta, RequestId, Revision, SegmentNumber, Term,
};

use crate::answer::{Answer, Change, Effect, KeyValue};
use crate::deferred::made;

pub struct Member {
    machine: StateMachine,
    log: Vec<u8>,
    gathered_keys_max: usize,
    /// Reads that transactions left for later, which go on being made: what they see is
    /// pinned, so they go on giving what they gave at first.
    deferred: Vec<(DeferredRange, Answer)>,
}

/// Deferred reads that are made again and again.
const DEFERRED_MAX: usize = 5;

const SEGMENT: SegmentNumber = SegmentNumber(7);

fn empty_store() -> Mvcc {
    // Nothing superseded stays in memory once eviction has run.
    Mvcc::with_hot_bytes_max(0)
}

impl Member {
    pub fn new() -> Member {
        Member::gathering(GATHERED_KEYS_MAX)
    }

    /// One whose transactions defer reads of more keys than that.
    pub fn gathering(gathered_keys_max: usize) -> Member {
        let mut machine = StateMachine::new(empty_store(), None);
        machine.set_gathered_keys_max(gathered_keys_max);
        Member {
            machine,
            log: vec![0; 100],
            gathered_keys_max,
            deferred: Vec::new(),
        }
    }

    /// Makes the deferred reads once more.
    pub fn read_deferred_again(&self) {
        for (deferred, first) in &self.deferred {
            assert_eq!(&self.make(deferred), first, "{deferred:?}");
        }
    }

    pub fn apply(&mut self, command: &Command) -> Effect {
        let index = LogIndex(self.machine.applied_index().0 + 1);
        let envelope = Envelope {
            request_id: RequestId(index.0),
            command: command.clone(),
        };
        let bytes = codec::encode(&envelope).unwrap();
        let decoded = codec::decode(&bytes).unwrap();
        assert_eq!(decoded, envelope);
        let offset = self.log.len().try_into().unwrap();
        self.log.extend_from_slice(&bytes);
        self.log.extend_from_slice(b"between entries");

        self.fetch(|machine| machine.needs(command));
        let data = EntryData {
            bytes,
            segment: SEGMENT,
            offset,
        };
        let outcome = self.machine.apply(index, Term(1), &data, &decoded);
        assert!(!outcome.over_quota, "there is no quota");
        let answer = match outcome.result {
            Ok(response) => self.answer(response, outcome.revision),
            Err(refusal) => refused(&refusal),
        };
        let events = outcome.events.map_or_else(Vec::new, |events| {
            assert_eq!(events.revision, outcome.revision);
            events.events
        });
        Effect {
            answer,
            revision: outcome.revision,
            changes: events.iter().map(|event| self.change(event)).collect(),
        }
    }

    pub fn range(&mut self, range: &Range) -> Answer {
        self.fetch(|machine| machine.range_needs(range));
        match self.machine.range(range) {
            Ok(result) => self.range_answer(result),
            Err(refusal) => refused(&refusal),
        }
    }

    pub fn read_txn(&mut self, txn: &Txn) -> Answer {
        self.fetch(|machine| machine.txn_needs(txn));
        match self.machine.read_txn(txn) {
            Ok(result) => self.txn_answer(result),
            Err(refusal) => refused(&refusal),
        }
    }

    pub fn purge(&mut self) {
        let mut dropped = Vec::new();
        let pinned = self
            .deferred
            .iter()
            .map(|(deferred, _)| deferred.at.oldest());
        let floor = pinned.min().unwrap_or(i64::MAX);
        let mvcc = self.machine.mvcc_mut();
        while mvcc.compact_slice(floor, 3, &mut dropped) {}
    }

    pub fn evict(&mut self) {
        while self.machine.mvcc_mut().evict_slice(3) {}
    }

    /// As a checkpoint and its load: records without values, and the rest.
    pub fn restart(&mut self) {
        let restart = self.machine.restart();
        let mut loading = StateMachine::load(empty_store(), None, restart);
        let records = self
            .machine
            .mvcc()
            .records_slice(Revision::default(), usize::MAX);
        for record in records {
            loading.record((*record.meta).clone());
        }
        self.machine = loading.finish();
        self.machine.set_gathered_keys_max(self.gathered_keys_max);
        self.deferred.clear();
    }

    pub fn state_hash(&self) -> MachineHash {
        self.machine.state_hash()
    }

    pub fn dump(&self) -> Restart {
        self.machine.restart()
    }

    pub fn leases(&self) -> Vec<(i64, i64, Vec<Vec<u8>>)> {
        let leases = self.machine.leases();
        let with_keys = leases.iter().map(|(lease, ttl)| {
            let keys = leases
                .keys(lease)
                .unwrap()
                .map(|key| key.to_vec())
                .collect();
            (lease.0, ttl, keys)
        });
        with_keys.collect()
    }

    fn fetch(&mut self, needs: impl Fn(&StateMachine) -> Vec<Arc<RecordMeta>>) {
        for meta in needs(&self.machine) {
            let value = self.stored_value(&meta);
            self.machine.supply(&meta, &value);
        }
        assert!(needs(&self.machine).is_empty(), "fetched once is enough");
    }

    fn stored_value(&self, meta: &RecordMeta) -> Bytes {
        let place = meta.place;
        if place.length == 0 {
            return Bytes::new();
        }
        assert_eq!(place.segment, SEGMENT);
        let start = usize::try_from(place.offset).unwrap();
        let end = start + usize::try_from(place.length).unwrap();
        let value = Bytes::copy_from_slice(&self.log[start..end]);
        assert_eq!(crc_by_bits(&value), place.crc);
        value
    }

    fn key_value(&self, key_value: &KeyValueRef) -> KeyValue {
        let encoded = match key_value {
            KeyValueRef::Resident(encoded) => encoded.clone(),
            KeyValueRef::Stored(meta) => meta.encode(&self.stored_value(meta)),
        };
        let fields = encoded.fields();
        KeyValue {
            key: fields.key.to_vec(),
            create: fields.create_revision,
            modified: fields.mod_revision,
            version: fields.version,
            value: fields.value.to_vec(),
            lease: fields.lease,
        }
    }

    fn key_values(&self, key_values: &[KeyValueRef]) -> Vec<KeyValue> {
        key_values.iter().map(|kv| self.key_value(kv)).collect()
    }

    fn change(&self, event: &Event) -> Change {
        Change {
            sub: event.meta.revision.sub,
            deletion: event.meta.tombstone,
            key_value: self.key_value(&event.key_value),
            previous: event.previous.as_ref().map(|kv| self.key_value(kv)),
        }
    }

    fn answer(&mut self, response: Response, revision: i64) -> Answer {
        match response {
            Response::Put { previous } => Answer::Put {
                revision,
                previous: previous.map(|kv| self.key_value(&kv)),
            },
            Response::DeleteRange { deleted, previous } => Answer::Delete {
                revision,
                deleted,
                previous: self.key_values(&previous),
            },
            Response::Txn(result) => self.txn_answer(result),
            Response::Compact => Answer::Compact,
            Response::LeaseGrant { lease, ttl_seconds } => Answer::Grant {
                lease: lease.0,
                ttl: ttl_seconds,
            },
            Response::LeaseRevoke => Answer::Revoke,
            Response::Alarm(alarms) => {
                let plain = alarms
                    .iter()
                    .map(|(member, alarm)| (member.0, alarm.number()));
                Answer::Alarm(plain.collect())
            }
        }
    }

    fn txn_answer(&mut self, result: TxnResult) -> Answer {
        let answers = result.responses.into_iter().map(|response| match response {
            OpResult::Range(range) => self.range_answer(range),
            OpResult::Deferred(deferred) => self.deferred_answer(deferred),
            OpResult::Put { revision, previous } => {
                self.answer(Response::Put { previous }, revision)
            }
            OpResult::DeleteRange {
                revision,
                deleted,
                previous,
            } => self.answer(Response::DeleteRange { deleted, previous }, revision),
            OpResult::Txn(nested) => self.txn_answer(nested),
        });
        Answer::Txn {
            revision: result.revision,
            succeeded: result.succeeded,
            answers: answers.collect(),
        }
    }

    fn deferred_answer(&mut self, deferred: DeferredRange) -> Answer {
        let answer = self.make(&deferred);
        self.deferred.push((deferred, answer.clone()));
        if self.deferred.len() > DEFERRED_MAX {
            self.deferred.remove(0);
        }
        answer
    }

    fn make(&self, deferred: &DeferredRange) -> Answer {
        let encoded = |reference: &KeyValueRef| {
            Ok::<_, Infallible>(match reference {
                KeyValueRef::Resident(encoded) => encoded.clone(),
                KeyValueRef::Stored(meta) => meta.encode(&self.stored_value(meta)),
            })
        };
        let Ok(range) = made(self.machine.mvcc(), deferred, 2, encoded);
        self.range_answer(range)
    }

    fn range_answer(&self, result: RangeResult) -> Answer {
        let mut key_values = self.key_values(&result.key_values);
        for kv in &mut key_values {
            if result.projection != Projection::Whole {
                kv.value.clear();
            }
            if result.projection == Projection::WithoutValueAndLease {
                kv.lease = 0;
            }
        }
        Answer::Range {
            revision: result.revision,
            key_values,
            more: result.more,
            count: result.count,
        }
    }
}

fn refused(refusal: &Refusal) -> Answer {
    Answer::Refused(match refusal {
        Refusal::Compacted => "Compacted",
        Refusal::FutureRevision => "FutureRevision",
        Refusal::KeyNotFound => "KeyNotFound",
        Refusal::LeaseNotFound => "LeaseNotFound",
        Refusal::LeaseExists => "LeaseExists",
        Refusal::LeaseTtlTooLarge => "LeaseTtlTooLarge",
        Refusal::NoSpace | Refusal::Corrupt => panic!("never at apply"),
    })
}

/// CRC-32 (IEEE), bit by bit: an expectation that storage has no part in.
fn crc_by_bits(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc >>= 1;
            if low == 1 {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}
