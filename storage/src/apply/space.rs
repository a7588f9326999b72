//! What a command costs against the space quota, as etcd estimates it
//! (contract 1.13). Pure; the proposer's pre-check and `over_quota` share it.

use super::command::{Command, Put, RequestOp, Txn};
use crate::limits::{LEASE_COST_BYTES, PUT_COST_BYTES};

/// Estimated bytes that `command` adds; 0 for what the quota never stops
/// (deletions, compaction, revocation, alarms, transactions without puts).
#[must_use]
pub fn cost_bytes(command: &Command) -> u64 {
    match command {
        Command::Put(put) => put_cost(put),
        Command::Txn(txn) => txn_cost(txn),
        Command::LeaseGrant { .. } => LEASE_COST_BYTES,
        Command::DeleteRange(_)
        | Command::Compact { .. }
        | Command::LeaseRevoke { .. }
        | Command::Alarm { .. } => 0,
    }
}

/// True when a store of `size_bytes` has room for `cost_bytes` more. None is no
/// quota; what costs nothing always fits.
#[must_use]
pub fn fits(size_bytes: u64, cost_bytes: u64, quota_bytes: Option<u64>) -> bool {
    let Some(quota_bytes) = quota_bytes else {
        return true;
    };
    // etcd asks for less than, not up to, the quota.
    cost_bytes == 0 || size_bytes.saturating_add(cost_bytes) < quota_bytes
}

fn put_cost(put: &Put) -> u64 {
    let payload = put.key.len() + put.value.len();
    let payload = u64::try_from(payload).expect("a length fits into 64 bits");
    PUT_COST_BYTES + payload
}

fn txn_cost(txn: &Txn) -> u64 {
    let list_cost = |list: &[RequestOp]| -> u64 {
        let costs = list.iter().map(|op| match op {
            RequestOp::Put(put) => put_cost(put),
            RequestOp::Txn(nested) => txn_cost(nested),
            RequestOp::Range(_) | RequestOp::DeleteRange(_) => 0,
        });
        costs.sum()
    };
    list_cost(&txn.success).max(list_cost(&txn.failure))
}
