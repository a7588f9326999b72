//! Reads (contract 1.5, traps 2 and 10).

use super::super::Projection;
use super::super::command::{SortOrder, SortTarget};
use super::*;

/// Keys a to e; versions 1 2 1 3 1; created in the order e d c b a.
fn filled() -> Member {
    let mut member = Member::new();
    for key in ["e", "d", "c", "b", "a"] {
        member.put(key, &format!("value of {key}"));
    }
    for key in ["b", "d", "d"] {
        member.put(key, "x");
    }
    member
}

fn sorted(target: SortTarget, order: SortOrder, limit: i64) -> Range {
    Range {
        sort_target: target,
        sort_order: order,
        limit,
        ..a_range("a", "z")
    }
}

fn keys_in_order(member: &mut Member, range: &Range) -> (String, bool, i64) {
    let result = member.machine.range(range).unwrap();
    (
        keys_of(&result.key_values).concat(),
        result.more,
        result.count,
    )
}

fn answer(keys: &str, more: bool, count: i64) -> (String, bool, i64) {
    (keys.to_string(), more, count)
}

#[test]
fn a_missing_key_and_an_inverted_interval_are_empty_answers() {
    let mut member = filled();
    for range in [a_range("x", ""), a_range("c", "b"), a_range("c", "c")] {
        assert_eq!(keys_in_order(&mut member, &range), answer("", false, 0));
    }
}

#[test]
fn count_ignores_the_limit_and_more_tells_of_it() {
    let mut member = filled();
    let limited = |limit| Range {
        limit,
        ..a_range("a", "z")
    };
    assert_eq!(
        keys_in_order(&mut member, &limited(2)),
        answer("ab", true, 5)
    );
    assert_eq!(
        keys_in_order(&mut member, &limited(5)),
        answer("abcde", false, 5)
    );
    assert_eq!(
        keys_in_order(&mut member, &limited(0)),
        answer("abcde", false, 5)
    );
    assert_eq!(
        keys_in_order(&mut member, &limited(-1)),
        answer("abcde", false, 5)
    );
    assert_eq!(
        keys_in_order(&mut member, &limited(i64::MAX)),
        answer("abcde", false, 5)
    );
}

#[test]
fn the_header_of_an_old_read_has_the_current_revision() {
    let mut member = filled();
    let old = Range {
        revision: 3,
        limit: 1,
        ..a_range("a", "z")
    };
    let result = member.machine.range(&old).unwrap();
    assert_eq!((result.revision, result.count, result.more), (9, 2, true));
    assert_eq!(keys_of(&result.key_values), ["d"]);
}

#[test]
fn revisions_out_of_reach_are_refused_and_negative_is_current() {
    let mut member = filled();
    member.compact(4).unwrap();
    let at = |revision| Range {
        revision,
        ..a_range("a", "z")
    };
    let mut refused = |revision| member.machine.range(&at(revision)).unwrap_err();
    assert_eq!(refused(3), Refusal::Compacted);
    assert_eq!(refused(10), Refusal::FutureRevision);
    assert_eq!(keys_in_order(&mut member, &at(4)), answer("cde", false, 3));
    assert_eq!(
        keys_in_order(&mut member, &at(-7)),
        answer("abcde", false, 5)
    );
}

#[test]
fn count_only_answers_nothing_else() {
    let mut member = filled();
    let count = Range {
        count_only: true,
        limit: 2,
        min_mod_revision: 9,
        ..a_range("a", "z")
    };
    assert_eq!(keys_in_order(&mut member, &count), answer("", false, 5));
}

#[test]
fn sorting_fetches_all_then_cuts_and_ties_keep_key_order() {
    use SortOrder::{Ascend, Descend};
    let mut member = filled();
    for (target, order, expected) in [
        (SortTarget::Key, Ascend, "abc"),
        (SortTarget::Key, Descend, "edc"),
        (SortTarget::Version, Ascend, "ace"),
        (SortTarget::Version, Descend, "dba"),
        (SortTarget::Create, Ascend, "edc"),
        (SortTarget::Create, Descend, "abc"),
        (SortTarget::Mod, Ascend, "eca"),
        (SortTarget::Mod, Descend, "dba"),
        (SortTarget::Value, Ascend, "ace"),
        (SortTarget::Value, Descend, "bde"),
    ] {
        let range = sorted(target, order, 3);
        let expected = answer(expected, true, 5);
        assert_eq!(
            keys_in_order(&mut member, &range),
            expected,
            "{target:?} {order:?}"
        );
    }
}

/// The quirk: no order by another target sorts, but only the first limit + 1.
#[test]
fn no_order_by_version_sorts_only_the_first_limit_plus_one() {
    let mut member = filled();
    let quirk = sorted(SortTarget::Create, SortOrder::None, 2);
    assert_eq!(keys_in_order(&mut member, &quirk), answer("cb", true, 5));
    let ascending = sorted(SortTarget::Create, SortOrder::Ascend, 2);
    assert_eq!(
        keys_in_order(&mut member, &ascending),
        answer("ed", true, 5)
    );
}

#[test]
fn filters_are_inclusive_and_leave_the_count() {
    let mut member = filled();
    let base = || a_range("a", "z");
    for (range, expected) in [
        (
            Range {
                min_mod_revision: 7,
                ..base()
            },
            answer("bd", false, 5),
        ),
        (
            Range {
                max_mod_revision: 6,
                ..base()
            },
            answer("ace", false, 5),
        ),
        (
            Range {
                min_create_revision: 5,
                ..base()
            },
            answer("ab", false, 5),
        ),
        (
            Range {
                max_create_revision: 3,
                ..base()
            },
            answer("de", false, 5),
        ),
        (
            Range {
                max_mod_revision: 6,
                limit: 2,
                ..base()
            },
            answer("ac", true, 5),
        ),
        (
            Range {
                max_mod_revision: 6,
                limit: 3,
                ..base()
            },
            answer("ace", false, 5),
        ),
        (
            Range {
                max_mod_revision: -1,
                ..base()
            },
            answer("", false, 5),
        ),
        (
            Range {
                min_mod_revision: -1,
                ..base()
            },
            answer("abcde", false, 5),
        ),
    ] {
        assert_eq!(keys_in_order(&mut member, &range), expected, "{range:?}");
    }
}

/// Trap 10.
#[test]
fn keys_only_drops_the_lease_unless_sorted_by_value() {
    let mut member = filled();
    let keys_only = |target| Range {
        keys_only: true,
        ..sorted(target, SortOrder::None, 0)
    };
    let mut projection = |range| member.machine.range(&range).unwrap().projection;
    let by_key = projection(keys_only(SortTarget::Key));
    assert_eq!(by_key, Projection::WithoutValueAndLease);
    let by_value = projection(keys_only(SortTarget::Value));
    assert_eq!(by_value, Projection::WithoutValue);
    assert_eq!(projection(a_range("a", "z")), Projection::Whole);
}

#[test]
fn inside_a_transaction_the_limit_counts_own_writes() {
    let mut member = filled();
    let limited = RequestOp::Range(Range {
        limit: 1,
        ..a_range("a", "z")
    });
    let ops = vec![
        RequestOp::DeleteRange(a_delete("a", "c")),
        op_put("f", "1"),
        limited,
    ];
    let (result, _) = member.txn(always(ops));
    let super::super::OpResult::Range(range) = &result.unwrap().responses[2] else {
        panic!("a read");
    };
    assert_eq!(keys_of(&range.key_values), ["c"]);
    assert_eq!((range.count, range.more, range.revision), (4, true, 10));
}
