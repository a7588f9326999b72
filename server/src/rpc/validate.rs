//! What a request must look like before anyone looks at data (contract 1.5 to
//! 1.7), in etcd's order. Pure; decides nothing about keys that exist.

use std::collections::{BTreeMap, BTreeSet};

use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::request_op::Request;
use storage::limits::TXN_DEPTH_MAX;
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
/// transaction has what its parent leaves, so depth is bounded too; by
/// [`TXN_DEPTH_MAX`] where the budget is larger.
///
/// # Errors
/// Too many operations; a malformed operation; two changes of one key.
pub fn txn(request: &pb::TxnRequest, operations_max: usize) -> Result<(), Status> {
    budget(request, operations_max, TXN_DEPTH_MAX)?;
    keys_changed(&request.success)?;
    keys_changed(&request.failure)?;
    Ok(())
}

fn budget(
    request: &pb::TxnRequest,
    operations_max: usize,
    levels_max: usize,
) -> Result<(), Status> {
    let Some(levels_left) = levels_max.checked_sub(1) else {
        return Err(invalid::too_many_operations());
    };
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
            Some(Request::RequestTxn(request)) => budget(request, left, levels_left)?,
            None => return Err(invalid::key_not_found()),
        }
    }
    Ok(())
}

/// What a list of operations changes: keys put, intervals deleted.
#[derive(Default)]
struct Changed<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// The duplicate-key rule (contract 1.7, step 3), quirks included: a put of a
/// nested transaction is checked against the deletes of this level and of
/// earlier nested ones only. What nested ones change moves up the levels: the
/// smaller set into the larger, so that a key moves a logarithm of times.
fn keys_changed(list: &[pb::RequestOp]) -> Result<Changed<'_>, Status> {
    let mut changed = Changed::default();
    for operation in list {
        if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
            changed.deletes.insert_delete(delete);
        }
    }
    for operation in list {
        let Some(Request::RequestTxn(nested)) = &operation.request else {
            continue;
        };
        let then = keys_changed(&nested.success)?;
        let otherwise = keys_changed(&nested.failure)?;
        // One key in both branches is fine: only one of them is taken.
        let puts = united(then.puts, otherwise.puts);
        let twice = !puts.is_disjoint(&changed.puts);
        if twice || changed.deletes.cover_any(&puts) {
            return Err(invalid::duplicate_key());
        }
        changed.puts = united(changed.puts, puts);
        let deletes = then.deletes.united(otherwise.deletes);
        changed.deletes = changed.deletes.united(deletes);
    }
    for operation in list {
        let Some(Request::RequestPut(put)) = &operation.request else {
            continue;
        };
        let twice = !changed.puts.insert(&put.key);
        if twice || changed.deletes.cover(&put.key) {
            return Err(invalid::duplicate_key());
        }
    }
    Ok(changed)
}

fn united<'a>(one: BTreeSet<&'a [u8]>, other: BTreeSet<&'a [u8]>) -> BTreeSet<&'a [u8]> {
    let (smaller, mut larger) = if one.len() < other.len() {
        (one, other)
    } else {
        (other, one)
    };
    larger.extend(smaller);
    larger
}

/// The keys that deletes cover: intervals that do not overlap, by where they
/// begin. Each ends before a key, or (true) behind it.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], (&'a [u8], bool)>);

impl<'a> Intervals<'a> {
    /// As etcd's interval tree sees it: a range end of one zero byte makes an
    /// inverted interval that covers nothing.
    fn insert_delete(&mut self, delete: &'a pb::DeleteRangeRequest) {
        if delete.range_end.is_empty() {
            self.insert(&delete.key, (&delete.key, true));
        } else if delete.key < delete.range_end {
            self.insert(&delete.key, (&delete.range_end, false));
        }
    }

    fn insert(&mut self, start: &'a [u8], end: (&'a [u8], bool)) {
        let (mut start, mut end) = (start, end);
        if let Some((&before, &ends)) = self.0.range(..start).next_back()
            && ends >= (start, false)
        {
            start = before;
        }
        while let Some((&next, &ends)) = self.0.range(start..).next()
            && (next, false) <= end
        {
            end = end.max(ends);
            self.0.remove(next);
        }
        self.0.insert(start, end);
    }

    fn cover(&self, key: &[u8]) -> bool {
        let last = self.0.range(..=key).next_back();
        last.is_some_and(|(_, &end)| (key, false) < end)
    }

    /// Looks from the side that is smaller.
    fn cover_any(&self, keys: &BTreeSet<&'a [u8]>) -> bool {
        if keys.len() < self.0.len() {
            return keys.iter().any(|key| self.cover(key));
        }
        self.0.iter().any(|(&start, &end)| {
            let first = keys.range(start..).next();
            first.is_some_and(|&key| (key, false) < end)
        })
    }

    fn united(self, other: Self) -> Self {
        let (smaller, mut larger) = if self.0.len() < other.0.len() {
            (self, other)
        } else {
            (other, self)
        };
        for (start, end) in smaller.0 {
            larger.insert(start, end);
        }
        larger
    }
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

    /// Covered as when every delete is looked at for every key.
    #[test]
    fn intervals_cover_what_their_deletes_do() {
        let keys = ["a", "a\0", "b", "ba", "c", "d", "\u{7f}"];
        let ends = ["", "\0", "a", "a\0", "b", "c", "d", "e"];
        let delete = |n: usize| pb::DeleteRangeRequest {
            key: keys[n % keys.len()].into(),
            range_end: ends[(n / keys.len()) % ends.len()].into(),
            prev_kv: false,
        };
        // Three deletes drawn from all there are, in an order of their own.
        for seed in 0..20_000_usize {
            let drawn = [seed, seed * 31 + 7, seed * 101 + 13].map(delete);
            let (mut both, mut other) = (Intervals::default(), Intervals::default());
            both.insert_delete(&drawn[0]);
            both.insert_delete(&drawn[1]);
            other.insert_delete(&drawn[2]);
            let both = if seed % 2 == 0 {
                both.united(other)
            } else {
                other.united(both)
            };
            for key in keys {
                let covers = |delete: &pb::DeleteRangeRequest| {
                    let (start, end) = (&delete.key[..], &delete.range_end[..]);
                    let key = key.as_bytes();
                    (end.is_empty() && key == start) || (start <= key && key < end)
                };
                let wanted = drawn.iter().any(covers);
                assert_eq!(both.cover(key.as_bytes()), wanted, "{drawn:?} {key:?}");
                let one = BTreeSet::from([key.as_bytes()]);
                assert_eq!(both.cover_any(&one), wanted, "{drawn:?} {key:?}");
            }
        }
    }
}
