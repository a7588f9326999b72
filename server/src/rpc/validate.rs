//! What a request must look like before anyone looks at data (contract 1.5 to
//! 1.7), in etcd's order. Pure; decides nothing about keys that exist.

use std::collections::BTreeSet;

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::request_op::Request;
use tonic::Status;

use super::status::invalid;

/// A Range or RangeStream request.
///
/// # Errors
/// Empty key; a sort option that does not exist.
pub fn range(request: &pb::RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(invalid::empty_key());
    }
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
        return Err(invalid::sort_option());
    }
    Ok(())
}

/// A Put request.
///
/// # Errors
/// Empty key; a value or lease beside the wish to keep the stored one.
pub fn put(request: &pb::PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(invalid::empty_key());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(invalid::value_provided());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(invalid::lease_provided());
    }
    Ok(())
}

/// A DeleteRange request.
///
/// # Errors
/// Empty key.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(invalid::empty_key());
    }
    Ok(())
}

/// A Txn request. `operations_max` is the budget of this level; a nested
/// transaction has what its parent leaves, so depth is bounded too.
///
/// # Errors
/// Too many operations; a malformed operation; two changes of one key.
pub fn txn(request: &pb::TxnRequest, operations_max: usize) -> Result<(), Status> {
    budget(request, operations_max)?;
    keys_changed(&request.success)?;
    keys_changed(&request.failure)?;
    Ok(())
}

fn budget(request: &pb::TxnRequest, operations_max: usize) -> Result<(), Status> {
    let used = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = operations_max.checked_sub(used) else {
        return Err(invalid::too_many_operations());
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(invalid::empty_key());
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => budget(request, left)?,
            None => return Err(invalid::key_not_found()),
        }
    }
    Ok(())
}

/// What a list of operations changes: keys put, intervals deleted.
#[derive(Default)]
struct Changed<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a pb::DeleteRangeRequest>,
}

/// The duplicate-key rule (contract 1.7, step 3), quirks included: a put of a
/// nested transaction is checked against the deletes of this level and of
/// earlier nested ones only.
fn keys_changed(list: &[pb::RequestOp]) -> Result<Changed<'_>, Status> {
    let mut changed = Changed::default();
    for operation in list {
        if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
            changed.deletes.push(delete);
        }
    }
    for operation in list {
        let Some(Request::RequestTxn(nested)) = &operation.request else {
            continue;
        };
        let then = keys_changed(&nested.success)?;
        let otherwise = keys_changed(&nested.failure)?;
        // One key in both branches is fine: only one of them is taken.
        let puts: BTreeSet<&Bytes> = then.puts.union(&otherwise.puts).copied().collect();
        for key in puts {
            if changed.deletes.iter().any(|delete| deletes(delete, key)) {
                return Err(invalid::duplicate_key());
            }
            if !changed.puts.insert(key) {
                return Err(invalid::duplicate_key());
            }
        }
        changed.deletes.extend(then.deletes);
        changed.deletes.extend(otherwise.deletes);
    }
    for operation in list {
        let Some(Request::RequestPut(put)) = &operation.request else {
            continue;
        };
        let duplicate = !changed.puts.insert(&put.key);
        if duplicate
            || changed
                .deletes
                .iter()
                .any(|delete| deletes(delete, &put.key))
        {
            return Err(invalid::duplicate_key());
        }
    }
    Ok(changed)
}

/// Whether a delete covers a key, as etcd's interval tree sees it: a range end of
/// one zero byte makes an inverted interval that covers nothing.
fn deletes(delete: &pb::DeleteRangeRequest, key: &Bytes) -> bool {
    if delete.range_end.is_empty() {
        return delete.key == *key;
    }
    delete.key <= *key && *key < delete.range_end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> pb::RequestOp {
        let put = pb::PutRequest {
            key: key.into(),
            ..Default::default()
        };
        pb::RequestOp {
            request: Some(Request::RequestPut(put)),
        }
    }

    fn delete_op(key: &'static str, range_end: &'static str) -> pb::RequestOp {
        let delete = pb::DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        };
        pb::RequestOp {
            request: Some(Request::RequestDeleteRange(delete)),
        }
    }

    fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        let txn = pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        };
        pb::RequestOp {
            request: Some(Request::RequestTxn(txn)),
        }
    }

    fn message(success: Vec<pb::RequestOp>) -> Option<String> {
        let request = pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure: Vec::new(),
        };
        txn(&request, 128)
            .err()
            .map(|status| status.message().to_owned())
    }

    #[test]
    fn the_budget_is_checked_at_its_limit() {
        for (operations, allowed) in [(127, true), (128, true), (129, false)] {
            let deletes = vec![delete_op("a", ""); operations];
            assert_eq!(
                message(deletes).is_none(),
                allowed,
                "{operations} operations"
            );
        }
        let mut deep = delete_op("a", "");
        for _ in 0..127 {
            deep = nested(vec![deep], Vec::new());
        }
        assert_eq!(message(vec![deep.clone()]), None);
        deep = nested(vec![deep], Vec::new());
        let text = "etcdserver: too many operations in txn request";
        assert_eq!(message(vec![deep]).as_deref(), Some(text));
    }

    #[test]
    fn one_key_is_changed_once() {
        let text = Some("etcdserver: duplicate key given in txn request".to_owned());
        assert_eq!(message(vec![put_op("a"), put_op("a")]), text);
        assert_eq!(message(vec![put_op("b"), delete_op("a", "c")]), text);
        assert_eq!(message(vec![delete_op("b", ""), put_op("b")]), text);
        assert_eq!(message(vec![delete_op("a", "c"), delete_op("b", "")]), None);
        assert_eq!(
            message(vec![put_op("b"), delete_op("a", "\0")]),
            None,
            "etcd's quirk"
        );
        assert_eq!(
            message(vec![nested(vec![put_op("a")], vec![put_op("a")])]),
            None
        );
        let twice = vec![
            nested(vec![put_op("a")], vec![]),
            nested(vec![put_op("a")], vec![]),
        ];
        assert_eq!(message(twice), text);
        assert_eq!(
            message(vec![nested(vec![put_op("a")], vec![]), put_op("a")]),
            text
        );
        let empty = pb::RequestOp { request: None };
        assert_eq!(
            message(vec![empty]).as_deref(),
            Some("etcdserver: key not found")
        );
    }
}
