//! Transactions (contract 1.7, traps 3 and 4).

use super::super::OpResult;
use super::*;

fn succeeds(member: &mut Member, guard: Compare) -> bool {
    let txn = if_then_else(vec![guard], Vec::new(), Vec::new());
    let read_only = member.machine.read_txn(&txn).unwrap();
    let (applied, _) = member.txn(txn);
    assert_eq!(applied.unwrap().succeeded, read_only.succeeded);
    read_only.succeeded
}

#[test]
fn a_missing_key_compares_as_zeroes() {
    use CompareTarget::{Create, Lease, Mod, Version};
    let mut member = Member::new();
    for target in [Version, Create, Mod, Lease] {
        assert!(succeeds(&mut member, compare("none", "", 0, target(0))));
        assert!(!succeeds(&mut member, compare("none", "", 1, target(0))));
        assert!(succeeds(&mut member, compare("none", "zzz", 2, target(1))));
    }
}

#[test]
fn a_missing_value_fails_whatever_the_comparison() {
    let mut member = Member::new();
    for result in 0..4 {
        for range_end in ["", "zzz"] {
            let guard = compare("none", range_end, result, CompareTarget::Value(bytes("x")));
            assert!(!succeeds(&mut member, guard), "result {result}");
        }
    }
}

#[test]
fn values_compare_by_bytes() {
    let mut member = Member::new();
    member.put("a", "m");
    for (result, wanted, expected) in [
        (0, "m", true),
        (1, "a", true),
        (1, "mm", false),
        (2, "mm", true),
        (3, "m", false),
        (3, "", true),
    ] {
        let guard = compare("a", "", result, CompareTarget::Value(bytes(wanted)));
        assert_eq!(succeeds(&mut member, guard), expected, "{result} {wanted}");
    }
}

#[test]
fn an_unknown_result_always_holds() {
    let mut member = Member::new();
    member.put("a", "1");
    for result in [-1, 4, i32::MAX] {
        let guard = compare("a", "", result, CompareTarget::Mod(99));
        assert!(succeeds(&mut member, guard));
        let guard = compare("none", "", result, CompareTarget::Value(bytes("")));
        assert!(!succeeds(&mut member, guard), "a missing value still fails");
    }
}

#[test]
fn a_guard_over_an_interval_needs_every_key() {
    let mut member = Member::new();
    for index in 0..1_100 {
        member.put(&format!("k{index:04}"), "v");
    }
    let guard = |version| compare("k", "l", 0, CompareTarget::Version(version));
    assert!(succeeds(&mut member, guard(1)));
    member.put("k1099", "v");
    assert!(!succeeds(&mut member, guard(1)), "the last key differs");
}

#[test]
fn all_changes_share_one_revision_and_reads_see_them() {
    let mut member = Member::new();
    member.put("a", "0");
    let txn = always(vec![
        op_range("a", ""),
        op_put("a", "1"),
        op_range("a", "z"),
        RequestOp::DeleteRange(a_delete("none", "")),
        op_put("b", "2"),
        RequestOp::DeleteRange(a_delete("a", "")),
        op_range("a", "z"),
    ]);
    let outcome = member.apply(Command::Txn(txn));
    assert_eq!(outcome.revision, 3);
    assert_eq!(outcome.events.unwrap().events.len(), 3);
    let Ok(Response::Txn(result)) = outcome.result else {
        panic!("a transaction");
    };
    assert_eq!(result.revision, 3);
    let read = |at: usize| match &result.responses[at] {
        OpResult::Range(range) => (range.revision, texts(&range.key_values), range.count),
        other => panic!("{other:?}"),
    };
    // The header's revision moves with the first write (contract 1.3).
    assert_eq!(read(0), (2, vec![pair("a", "0")], 1));
    assert_eq!(read(2), (3, vec![pair("a", "1")], 1));
    assert_eq!(read(6), (3, vec![pair("b", "2")], 1));
    let OpResult::DeleteRange {
        revision, deleted, ..
    } = &result.responses[3]
    else {
        panic!("a deletion");
    };
    assert_eq!((*revision, *deleted), (3, 0));
}

#[test]
fn a_deletion_of_nothing_before_any_write_shows_the_current_revision() {
    let mut member = Member::new();
    member.put("a", "0");
    let nothing = RequestOp::DeleteRange(a_delete("none", ""));
    let (result, revision) = member.txn(always(vec![nothing, op_put("b", "1")]));
    let OpResult::DeleteRange {
        revision: inner, ..
    } = &result.unwrap().responses[0]
    else {
        panic!("a deletion");
    };
    assert_eq!((*inner, revision), (2, 3));
}

#[test]
fn a_failed_guard_takes_the_other_list_and_changes_nothing_by_itself() {
    let mut member = Member::new();
    member.put("a", "0");
    let guard = compare("a", "", 0, CompareTarget::Mod(99));
    let txn = if_then_else(vec![guard], vec![op_put("a", "1")], vec![op_range("a", "")]);
    let outcome = member.apply(Command::Txn(txn));
    assert_eq!(outcome.revision, 2);
    assert!(outcome.events.is_none());
    assert_eq!(member.all(), [pair("a", "0")]);
}

/// Trap 4: a nested guard does not see what the transaction wrote before it.
#[test]
fn nested_guards_see_the_state_before_the_transaction() {
    let mut member = Member::new();
    let exists = compare("a", "", 1, CompareTarget::Version(0));
    let nested = if_then_else(
        vec![exists],
        vec![op_put("seen", "yes")],
        vec![op_put("seen", "no"), op_range("a", "")],
    );
    let (result, _) = member.txn(always(vec![op_put("a", "1"), RequestOp::Txn(nested)]));
    let result = result.unwrap();
    let OpResult::Txn(nested) = &result.responses[1] else {
        panic!("a nested transaction");
    };
    assert!(!nested.succeeded);
    assert_eq!(nested.revision, 0, "only the outermost header is filled");
    let OpResult::Range(range) = &nested.responses[1] else {
        panic!("a read");
    };
    assert_eq!(
        texts(&range.key_values),
        [pair("a", "1")],
        "reads do see it"
    );
    assert_eq!(member.all(), [pair("a", "1"), pair("seen", "no")]);
}

#[test]
fn the_first_failing_check_refuses_all_without_effect() {
    let ignoring = RequestOp::Put(Put {
        ignore_value: true,
        ..a_put("created by this transaction", "")
    });
    let leased = RequestOp::Put(Put {
        lease: LeaseId(9),
        ..a_put("x", "1")
    });
    let at = |revision| {
        RequestOp::Range(Range {
            revision,
            ..a_range("a", "")
        })
    };
    let created = op_put("created by this transaction", "1");
    for (ops, expected) in [
        (
            vec![created.clone(), ignoring.clone(), leased.clone()],
            Refusal::KeyNotFound,
        ),
        (
            vec![created.clone(), leased.clone(), ignoring],
            Refusal::LeaseNotFound,
        ),
        // The revision that the transaction itself would write is the future.
        (vec![created.clone(), at(4)], Refusal::FutureRevision),
        (
            vec![created.clone(), RequestOp::Txn(always(vec![leased]))],
            Refusal::LeaseNotFound,
        ),
        (vec![created.clone(), at(1)], Refusal::Compacted),
        // Unlike in a stand-alone read, a negative revision is not "current".
        (vec![created, at(-2)], Refusal::Compacted),
    ] {
        let mut member = Member::new();
        member.put("a", "0");
        member.put("a", "1");
        member.compact(2).unwrap();
        let before = member.machine.state_hash();
        let (result, revision) = member.txn(always(ops));
        assert_eq!(result.unwrap_err(), expected);
        assert_eq!(revision, 3);
        assert_eq!(member.machine.state_hash(), before);
    }
}

#[test]
fn revision_minus_1_inside_a_transaction_reads_while_nothing_is_compacted() {
    let mut member = Member::new();
    member.put("a", "0");
    let read = RequestOp::Range(Range {
        revision: -1,
        ..a_range("a", "")
    });
    let (result, _) = member.txn(always(vec![read.clone()]));
    assert!(result.is_ok());
    member.compact(2).unwrap();
    let (result, _) = member.txn(always(vec![read]));
    assert_eq!(result.unwrap_err(), Refusal::Compacted);
}

#[test]
fn checks_of_the_list_not_taken_do_not_count() {
    let mut member = Member::new();
    let leased = RequestOp::Put(Put {
        lease: LeaseId(9),
        ..a_put("x", "1")
    });
    let (result, _) = member.txn(if_then_else(
        Vec::new(),
        vec![op_put("a", "1")],
        vec![leased],
    ));
    assert!(result.unwrap().succeeded);
}

/// The duplicate-key rule lets a put follow a deletion up to "\0" that covers
/// it (contract 1.7); etcd panics when that put keeps the deleted value.
#[test]
fn keeping_what_the_same_transaction_deleted_is_refused_without_effect() {
    let mut member = Member::new();
    member.put("a", "0");
    let before = member.machine.state_hash();
    let keep = RequestOp::Put(Put {
        ignore_value: true,
        ..a_put("a", "")
    });
    let delete = RequestOp::DeleteRange(a_delete("a", "\0"));
    let (result, revision) = member.txn(always(vec![op_put("b", "1"), delete, keep]));
    assert_eq!(result.unwrap_err(), Refusal::KeyNotFound);
    assert_eq!(revision, 2);
    assert_eq!(member.machine.state_hash(), before);
    assert_eq!(member.put("b", "2"), 3);
}

#[test]
fn deleted_and_put_again_in_one_transaction_is_a_new_generation() {
    let mut member = Member::new();
    member.put("a", "0");
    let delete = RequestOp::DeleteRange(a_delete("a", "\0"));
    let outcome = member.apply(Command::Txn(always(vec![delete, op_put("a", "1")])));
    let events = outcome.events.unwrap();
    let meta = &events.events[1].meta;
    assert_eq!((meta.revision.main, meta.revision.sub), (3, 1));
    assert_eq!((meta.create_revision, meta.version), (3, 1));
}

#[test]
fn read_only_means_reads_in_both_lists() {
    let read = || vec![op_range("a", "")];
    assert!(if_then_else(Vec::new(), read(), read()).is_read_only());
    assert!(Txn::default().is_read_only(), "an empty one is");
    let nested = RequestOp::Txn(Txn::default());
    assert!(!always(vec![nested]).is_read_only(), "nesting is a write");
    let failure = vec![op_put("a", "1")];
    assert!(!if_then_else(Vec::new(), read(), failure).is_read_only());
}
