//! What the core loop counts and times (contract 6), and its slow log.
//!
//! Owned by the core loop; the numbers are atomics that a scrape reads. What a
//! [`super::View`] publishes anyway is not counted here but read at the scrape.
//! Invariant: nothing here waits or takes a lock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use storage::apply::command::{Command, Put, RequestOp, Txn};
use storage::apply::{LeaseChange, OpResult, Outcome, Response, TxnResult};
use storage::error::Refusal;
use storage::types::MemberId;

use crate::engine::Observation;
use crate::metrics::{Metrics, Operation};
use crate::node::Node;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Meters {
    metrics: Arc<Metrics>,
    slow_apply: Duration,
    leader: Option<MemberId>,
}

/// Operations on keys, as etcd counts them: calls, not keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Operations {
    ranges: u64,
    puts: u64,
    put_bytes: u64,
    deletes: u64,
}

impl Meters {
    /// `slow_apply`: `--warning-apply-duration`.
    pub(super) fn new(metrics: Arc<Metrics>, slow_apply: Duration) -> Meters {
        Meters {
            metrics,
            slow_apply,
            leader: None,
        }
    }

    /// A turn is over; `waiting`: proposals without an answer.
    pub(super) fn turn(&mut self, node: &Node, waiting: usize) {
        let member = &self.metrics.member;
        member.proposals_pending.set_unsigned(waiting as u64);
        let leader = node.leader();
        if leader.is_some() && leader != self.leader {
            member.leader_changes_seen.increment();
        }
        self.leader = leader;
    }

    /// Counts and times what the engine does.
    pub(super) fn observe(&mut self, what: Observation<'_>) {
        let member = &self.metrics.member;
        match what {
            Observation::Encoded(took) => member.wal_write_duration.observe_seconds(took),
            Observation::Applied(command, outcome, took) => self.applied(command, outcome, took),
            Observation::ProposedUnasked(_) | Observation::WaitsForAlarm => {}
            Observation::Read => member.ranges.increment(),
            Observation::ReadTxn(txn, result, took) => self.read_txn(txn, result, took),
            Observation::LeaseRenewed => member.leases_renewed.increment(),
            Observation::LeasesExpired(number) => member.leases_expired.add(number as u64),
            Observation::Purged(dropped, took) => {
                member.db_compaction_keys.add(dropped as u64);
                member
                    .db_compaction_pause_duration
                    .observe_milliseconds(took);
            }
            Observation::CompactionEnded(took) => self.compaction_ended(took),
        }
    }

    /// An entry was applied.
    fn applied(&self, command: &Command, outcome: &Outcome, took: Duration) {
        // Revisions that are compacted already are no failure, as in etcd.
        let success = matches!(outcome.result, Ok(_) | Err(Refusal::Compacted));
        let durations = &self.metrics.apply_durations;
        let operation = operation(command);
        durations.of(operation, success).observe_seconds(took);
        if took > self.slow_apply {
            self.log_slow("", operation, success, took);
        }
        if let Ok(response) = &outcome.result {
            self.count_write(command, response);
        }
        let member = &self.metrics.member;
        for change in &outcome.lease_changes {
            match *change {
                LeaseChange::Granted { ttl_seconds, .. } => {
                    member.leases_granted.increment();
                    let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
                    member.lease_ttl.observe_seconds(ttl);
                }
                LeaseChange::Revoked { .. } => member.leases_revoked.increment(),
            }
        }
        // A revocation deletes its keys one by one (contract 1.10).
        if let (Command::LeaseRevoke { .. }, Some(events)) = (command, &outcome.events) {
            let deletes = events.events.len() as u64;
            self.count(Operations {
                deletes,
                ..Operations::default()
            });
        }
    }

    fn count_write(&self, command: &Command, response: &Response) {
        match (command, response) {
            (Command::Put(request), _) => self.count(put_operations(request)),
            (Command::DeleteRange(request), _) => self.count(Operations {
                deletes: 1,
                ranges: u64::from(request.prev_kv),
                ..Operations::default()
            }),
            // etcd learns its revision by a read.
            (Command::Compact { .. }, _) => self.count(Operations {
                ranges: 1,
                ..Operations::default()
            }),
            (Command::Txn(request), Response::Txn(result)) => {
                // etcd compares in a transaction of its own when it is going to write.
                self.count(Operations {
                    ranges: compares(request, result),
                    ..Operations::default()
                });
                self.count(txn_operations(request, result));
            }
            _ => {}
        }
    }

    /// A transaction of reads was answered.
    fn read_txn(&self, txn: &Txn, result: &TxnResult, took: Duration) {
        let mut operations = txn_operations(txn, result);
        operations.ranges += compares(txn, result);
        self.count(operations);
        if took > self.slow_apply {
            self.log_slow("read-only txn ", Operation::Txn, true, took);
        }
    }

    fn count(&self, operations: Operations) {
        let member = &self.metrics.member;
        let Operations {
            ranges,
            puts,
            put_bytes,
            deletes,
        } = operations;
        if ranges + puts + deletes > 1 {
            member.txns.increment();
        }
        member.ranges.add(ranges);
        member.puts.add(puts);
        member.deletes.add(deletes);
        if put_bytes > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            member.total_put_size.add(put_bytes as f64);
        }
    }

    fn log_slow(&self, prefix: &str, operation: Operation, success: bool, took: Duration) {
        self.metrics.member.slow_apply.increment();
        tracing::warn!(
            ?took,
            expected_duration = ?self.slow_apply,
            prefix,
            request = ?operation,
            success,
            "apply request took too long"
        );
    }

    /// Nothing is left to purge.
    fn compaction_ended(&self, took: Duration) {
        let member = &self.metrics.member;
        let total = &member.db_compaction_total_duration;
        total.observe_milliseconds(took);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 says nothing.
        let seconds = now.map_or(0, |now| now.as_secs());
        member.db_compaction_last.set_unsigned(seconds);
    }
}

/// How etcd's metrics name a command.
pub(super) fn operation(command: &Command) -> Operation {
    match command {
        Command::Put(_) => Operation::Put,
        Command::DeleteRange(_) => Operation::DeleteRange,
        Command::Txn(_) => Operation::Txn,
        Command::Compact { .. } => Operation::Compaction,
        Command::LeaseGrant { .. } => Operation::LeaseGrant,
        Command::LeaseRevoke { .. } => Operation::LeaseRevoke,
        Command::Alarm { .. } => Operation::Alarm,
    }
}

fn put_operations(put: &Put) -> Operations {
    Operations {
        puts: 1,
        put_bytes: (put.key.len() + put.value.len()) as u64,
        // etcd reads what was there before.
        ranges: u64::from(put.prev_kv || put.ignore_value || put.ignore_lease),
        deletes: 0,
    }
}

/// The operations of the branches that were taken.
fn txn_operations(txn: &Txn, result: &TxnResult) -> Operations {
    let mut sum = Operations::default();
    for (operation, answer) in taken(txn, result) {
        let one = match (operation, answer) {
            (RequestOp::Range(_), _) => Operations {
                ranges: 1,
                ..Operations::default()
            },
            (RequestOp::Put(put), _) => put_operations(put),
            (RequestOp::DeleteRange(delete), _) => Operations {
                deletes: 1,
                ranges: u64::from(delete.prev_kv),
                ..Operations::default()
            },
            (RequestOp::Txn(nested), OpResult::Txn(answer)) => txn_operations(nested, answer),
            (RequestOp::Txn(_), _) => unreachable!("a transaction is answered as a transaction"),
        };
        sum.ranges += one.ranges;
        sum.puts += one.puts;
        sum.put_bytes += one.put_bytes;
        sum.deletes += one.deletes;
    }
    sum
}

/// The comparisons that were made, each a range in etcd.
fn compares(txn: &Txn, result: &TxnResult) -> u64 {
    let nested = taken(txn, result).map(|(operation, answer)| match (operation, answer) {
        (RequestOp::Txn(nested), OpResult::Txn(answer)) => compares(nested, answer),
        _ => 0,
    });
    txn.compare.len() as u64 + nested.sum::<u64>()
}

fn taken<'a>(
    txn: &'a Txn,
    result: &'a TxnResult,
) -> impl Iterator<Item = (&'a RequestOp, &'a OpResult)> {
    let list = if result.succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    list.iter().zip(&result.responses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::apply::command::{Compare, CompareTarget, DeleteRange, KeyRange, Range};

    fn put(key: &'static [u8], value: &'static [u8]) -> Put {
        Put {
            key: key.into(),
            value: value.into(),
            ..Put::default()
        }
    }

    /// What etcd counts for kube-apiserver's update that loses its race.
    #[test]
    fn only_the_branch_taken_counts() {
        let txn = Txn {
            compare: vec![Compare {
                result: 0,
                target: CompareTarget::Mod(7),
                range: KeyRange::default(),
            }],
            success: vec![
                RequestOp::Put(put(b"k", b"four")),
                RequestOp::DeleteRange(DeleteRange::default()),
            ],
            failure: vec![RequestOp::Range(Range::default())],
        };
        let answered = |succeeded, responses| TxnResult {
            succeeded,
            revision: 1,
            responses,
        };
        let put = OpResult::Put {
            revision: 2,
            previous: None,
        };
        let deleted = OpResult::DeleteRange {
            revision: 2,
            deleted: 5,
            previous: Vec::new(),
        };
        let won = answered(true, vec![put, deleted]);
        assert_eq!(compares(&txn, &won), 1);
        let expected = Operations {
            ranges: 0,
            puts: 1,
            put_bytes: 5,
            deletes: 1,
        };
        assert_eq!(txn_operations(&txn, &won), expected);

        let metrics = Metrics::new(&[], false);
        let meters = Meters::new(Arc::clone(&metrics), Duration::MAX);
        meters.count_write(&Command::Txn(txn.clone()), &Response::Txn(won));
        assert_eq!(metrics.member.puts.get(), 1);
        assert_eq!(metrics.member.deletes.get(), 1);
        assert_eq!(metrics.member.ranges.get(), 1);
        assert_eq!(metrics.member.txns.get(), 1);

        let lost = answered(false, Vec::new());
        assert_eq!(txn_operations(&txn, &lost), Operations::default());
    }

    #[test]
    fn a_slow_apply_is_counted() {
        let metrics = Metrics::new(&[], false);
        let meters = Meters::new(Arc::clone(&metrics), Duration::from_millis(100));
        meters.log_slow("", Operation::Put, true, Duration::from_secs(1));
        assert_eq!(metrics.member.slow_apply.get(), 1);
    }
}
