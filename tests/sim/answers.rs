//! From the member's answers to what a client sees: values are fetched here, as
//! the server fetches them when it encodes.

use storage::apply::{DeferredRange, OpResult, Projection, RangeResult, Response, TxnResult};
use storage::error::{Fatal, Refusal};
use storage::types::{Event, KeyValueRef};

use crate::answer::{Answer, Change, KeyValue};
use crate::deferred::made;
use crate::engine::{Applied, ReadTxn, Rejected};
use crate::history::durable::{State, everything};
use crate::member::Member;

impl Member {
    pub fn key_value(&self, reference: &KeyValueRef) -> Result<KeyValue, Fatal> {
        let encoded = self.values.encoded(reference)?;
        let fields = encoded.fields();
        Ok(KeyValue {
            key: fields.key.to_vec(),
            create: fields.create_revision,
            modified: fields.mod_revision,
            version: fields.version,
            value: fields.value.to_vec(),
            lease: fields.lease,
        })
    }

    pub fn key_values(&self, references: &[KeyValueRef]) -> Result<Vec<KeyValue>, Fatal> {
        references.iter().map(|kv| self.key_value(kv)).collect()
    }

    pub fn write_answer(&self, applied: &Result<Applied, Rejected>) -> Result<Answer, Fatal> {
        match applied {
            Ok(applied) => self.answer(&applied.response, applied.revision),
            Err(rejected) => Ok(rejection(rejected)),
        }
    }

    fn answer(&self, response: &Response, revision: i64) -> Result<Answer, Fatal> {
        Ok(match response {
            Response::Put { previous } => Answer::Put {
                revision,
                previous: previous.as_ref().map(|kv| self.key_value(kv)).transpose()?,
            },
            Response::DeleteRange { deleted, previous } => Answer::Delete {
                revision,
                deleted: *deleted,
                previous: self.key_values(previous)?,
            },
            Response::Txn(result) => self.txn_answer(result)?,
            Response::Compact => Answer::Compact,
            Response::LeaseGrant { lease, ttl_seconds } => Answer::Grant {
                lease: lease.0,
                ttl: *ttl_seconds,
            },
            Response::LeaseRevoke => Answer::Revoke,
            Response::Alarm(alarms) => {
                let plain = alarms
                    .iter()
                    .map(|(member, alarm)| (member.0, alarm.number()));
                Answer::Alarm(plain.collect())
            }
        })
    }

    fn txn_answer(&self, result: &TxnResult) -> Result<Answer, Fatal> {
        let answers = result.responses.iter().map(|response| match response {
            OpResult::Range(range) => self.range_answer(range),
            OpResult::Deferred(range) => self.range_answer(&self.made(range)?),
            OpResult::Put { revision, previous } => {
                let previous = previous.clone();
                self.answer(&Response::Put { previous }, *revision)
            }
            OpResult::DeleteRange {
                revision,
                deleted,
                previous,
            } => {
                let (deleted, previous) = (*deleted, previous.clone());
                self.answer(&Response::DeleteRange { deleted, previous }, *revision)
            }
            OpResult::Txn(nested) => self.txn_answer(nested),
        });
        Ok(Answer::Txn {
            revision: result.revision,
            succeeded: result.succeeded,
            answers: answers.collect::<Result<_, Fatal>>()?,
        })
    }

    /// The answer to a transaction of one range.
    pub fn read_answer(&self, read: &Result<ReadTxn, Rejected>) -> Result<Answer, Fatal> {
        match read {
            Ok(read) => match read.result.responses.as_slice() {
                [OpResult::Range(range)] => self.range_answer(range),
                [OpResult::Deferred(range)] => self.range_answer(&self.made(range)?),
                other => panic!("one range is answered {other:?}"),
            },
            Err(rejected) => Ok(rejection(rejected)),
        }
    }

    /// Made under the pin that came with the answer.
    fn made(&self, deferred: &DeferredRange) -> Result<RangeResult, Fatal> {
        made(self.mvcc(), deferred, 3, |reference| {
            self.values.encoded(reference)
        })
    }

    fn range_answer(&self, result: &RangeResult) -> Result<Answer, Fatal> {
        let mut key_values = self.key_values(&result.key_values)?;
        for kv in &mut key_values {
            if result.projection != Projection::Whole {
                kv.value.clear();
            }
            if result.projection == Projection::WithoutValueAndLease {
                kv.lease = 0;
            }
        }
        Ok(Answer::Range {
            revision: result.revision,
            key_values,
            more: result.more,
            count: result.count,
        })
    }

    /// An event as it goes out.
    pub fn change(&self, event: &Event, prev_kv: bool) -> Result<Change, Fatal> {
        let previous = event.previous.as_ref().filter(|_| prev_kv);
        let previous = previous.filter(|kv| !self.is_purged(event, kv));
        let previous = previous.map(|kv| self.key_value(kv));
        Ok(Change {
            sub: event.meta.revision.sub,
            deletion: event.meta.tombstone,
            key_value: self.key_value(&event.key_value)?,
            previous: previous.transpose()?,
        })
    }

    /// `Stream::predecessor`: events in the ring hold no pin.
    fn is_purged(&self, event: &Event, previous: &KeyValueRef) -> bool {
        let KeyValueRef::Stored(meta) = previous else {
            return false;
        };
        let compacted = self.mvcc().compacted_revision();
        event.meta.revision.main <= compacted
            && matches!(self.values.find(meta.revision, meta.place), Ok(None))
    }

    /// All that can be asked for now.
    pub fn state(&mut self) -> Result<State, Fatal> {
        let whole = self.read(&everything(0))?.expect("the current revision");
        let result = match whole.result.responses.as_slice() {
            [OpResult::Range(result)] => result.clone(),
            [OpResult::Deferred(deferred)] => self.made(deferred)?,
            other => panic!("one range is answered {other:?}"),
        };
        let leases = self.machine().leases();
        let with_keys = leases.iter().map(|(lease, ttl)| {
            let keys = leases.keys(lease).unwrap();
            (lease.0, ttl, keys.map(|key| key.to_vec()).collect())
        });
        let alarms = self.machine().alarms().iter();
        Ok(State {
            revision: result.revision,
            compacted: self.mvcc().compacted_revision(),
            leases: with_keys.collect(),
            alarms: alarms
                .map(|(member, alarm)| (member.0, alarm.number()))
                .collect(),
            live: self.key_values(&result.key_values)?,
        })
    }
}

/// What a client is told that is refused.
pub fn rejection(rejected: &Rejected) -> Answer {
    match rejected {
        Rejected::Refusal(refusal) => refused(refusal),
        other => panic!("a member that serves answers {other:?}"),
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
        Refusal::NoSpace => "NoSpace",
        Refusal::Corrupt => panic!("no alarm of this kind is raised"),
    })
}
