//! Leases, alarms, space, order of entries, restart (contract 1.10, 1.12, 1.13).

use super::super::command::Alarm;
use super::super::{LeaseChange, space};
use super::*;
use crate::limits::LEASE_TTL_SECONDS_MAX;
use crate::types::MemberId;

fn revoke(member: &mut Member, lease: i64) -> Outcome {
    member.apply(Command::LeaseRevoke {
        lease: LeaseId(lease),
    })
}

#[test]
fn a_grant_is_no_revision_and_is_told_to_the_lessor() {
    let mut member = Member::new();
    let outcome = member.grant(-5, 60);
    assert_eq!(outcome.revision, 1);
    let granted = LeaseChange::Granted {
        lease: LeaseId(-5),
        ttl_seconds: 60,
    };
    assert_eq!(outcome.lease_changes, [granted]);
    assert!(matches!(
        outcome.result,
        Ok(Response::LeaseGrant {
            lease: LeaseId(-5),
            ttl_seconds: 60
        })
    ));
    assert_eq!(member.machine.leases().ttl_seconds(LeaseId(-5)), Some(60));
}

#[test]
fn a_grant_is_refused_for_its_ttl_before_its_identity() {
    let mut member = Member::new();
    member.grant(1, LEASE_TTL_SECONDS_MAX).result.unwrap();
    let too_large = member.grant(1, LEASE_TTL_SECONDS_MAX + 1);
    assert_eq!(too_large.result.unwrap_err(), Refusal::LeaseTtlTooLarge);
    let again = member.grant(1, 60);
    assert_eq!(again.result.unwrap_err(), Refusal::LeaseExists);
    assert!(again.lease_changes.is_empty());
}

#[test]
fn revoking_deletes_the_keys_sorted_in_one_revision() {
    let mut member = Member::new();
    member.grant(1, 60).result.unwrap();
    for key in ["c", "a", "b"] {
        member.put_leased(key, 1);
    }
    member.put("free", "1");
    let outcome = revoke(&mut member, 1);
    assert_eq!(outcome.revision, 6);
    let revoked = LeaseChange::Revoked { lease: LeaseId(1) };
    assert_eq!(outcome.lease_changes, [revoked]);
    let events = outcome.events.unwrap().events;
    let deleted = events
        .iter()
        .map(|event| (&event.meta.key[..], event.meta.tombstone));
    let deleted: Vec<_> = deleted.collect();
    assert_eq!(deleted, [(&b"a"[..], true), (b"b", true), (b"c", true)]);
    assert_eq!(member.all(), [pair("free", "1")]);
    assert_eq!(
        revoke(&mut member, 1).result.unwrap_err(),
        Refusal::LeaseNotFound
    );
}

#[test]
fn revoking_a_lease_without_keys_is_no_revision() {
    let mut member = Member::new();
    member.grant(1, 60).result.unwrap();
    let outcome = revoke(&mut member, 1);
    assert_eq!(outcome.revision, 1);
    assert!(outcome.events.is_none());
    assert!(member.machine.leases().is_empty());
}

#[test]
fn the_last_put_and_a_deletion_detach() {
    let mut member = Member::new();
    member.grant(1, 60).result.unwrap();
    member.grant(2, 60).result.unwrap();
    for key in ["a", "b"] {
        member.put_leased(key, 1);
    }
    member.put_leased("a", 2);
    member.delete("b", "").result.unwrap();
    assert!(revoke(&mut member, 1).events.is_none());
    let events = revoke(&mut member, 2).events.unwrap();
    assert_eq!(&events.events[0].meta.key[..], b"a");
}

#[test]
fn alarms_are_raised_once_and_cleared_once() {
    let mut member = Member::new();
    let mut alarm = |activate| {
        let outcome = member.apply(Command::Alarm {
            activate,
            member: MemberId(3),
            alarm: Alarm::NoSpace,
        });
        assert_eq!(outcome.revision, 1);
        match outcome.result {
            Ok(Response::Alarm(alarms)) => alarms,
            other => panic!("{other:?}"),
        }
    };
    let entry = [(MemberId(3), Alarm::NoSpace)];
    assert_eq!(alarm(false), []);
    assert_eq!(alarm(true), entry);
    assert_eq!(alarm(true), entry, "again is answered alike");
    assert_eq!(alarm(false), entry);
    assert_eq!(alarm(false), []);
}

#[test]
fn an_alarm_does_not_stop_an_entry() {
    let mut member = Member::new();
    member
        .apply(Command::Alarm {
            activate: true,
            member: MemberId(3),
            alarm: Alarm::NoSpace,
        })
        .result
        .unwrap();
    assert!(member.machine.alarms().is_raised(Alarm::NoSpace));
    assert!(!member.machine.alarms().is_raised(Alarm::Corrupt));
    assert_eq!(member.put("a", "1"), 2);
}

/// Trap 15: the write that overflows is applied and told.
#[test]
fn over_quota_is_told_but_applied() {
    // A put of one byte to one key costs 258; less than the quota must remain.
    let mut member = Member::with_quota(Some(259));
    assert!(member.machine.has_space(&put("a", "1")));
    assert!(!member.apply(put("a", "1")).over_quota);
    assert!(!member.machine.has_space(&put("b", "1")));
    let outcome = member.apply(put("b", "1"));
    assert!(outcome.over_quota && outcome.result.is_ok());
    assert_eq!(member.all().len(), 2);
    assert!(!member.delete("b", "").over_quota, "deletions stay free");
    let refused = member.apply(Command::Put(Put {
        lease: LeaseId(4),
        ..a_put("c", "1")
    }));
    assert!(!refused.over_quota, "a refusal is answered as itself");
    assert!(member.grant(1, 60).result.is_ok());
}

#[test]
fn costs_are_those_of_etcd() {
    let nested = always(vec![op_put("k", "vv"), op_range("a", "")]);
    let txn = if_then_else(
        Vec::new(),
        vec![op_put("k", "v")],
        vec![op_put("k", "v"), RequestOp::Txn(nested)],
    );
    assert_eq!(space::cost_bytes(&put("key", "value")), 256 + 8);
    assert_eq!(space::cost_bytes(&Command::Txn(txn)), 258 + 259);
    let delete = Command::DeleteRange(a_delete("a", ""));
    assert_eq!(space::cost_bytes(&delete), 0);
    let lease = LeaseId(1);
    let grant = Command::LeaseGrant {
        lease,
        ttl_seconds: 1,
    };
    assert_eq!(space::cost_bytes(&grant), 64);
    assert!(space::fits(u64::MAX, 0, Some(0)), "what costs nothing fits");
    assert!(!space::fits(10, 10, Some(20)) && space::fits(10, 9, Some(20)));
}

#[test]
#[should_panic(expected = "without a gap")]
fn a_gap_in_the_log_is_a_broken_invariant() {
    let mut member = Member::new();
    member.machine.skip(LogIndex(2), Term(1));
}

#[test]
fn skipped_entries_move_the_applied_index_alone() {
    let mut member = Member::new();
    member.machine.skip(LogIndex(1), Term(3));
    assert_eq!(member.machine.applied_index(), LogIndex(1));
    assert_eq!(member.machine.applied_term(), Term(3));
    assert_eq!(member.machine.mvcc().current_revision(), 1);
}

/// After a restart values are not resident: what looks at them names them.
#[test]
fn needs_names_what_is_not_resident() {
    let mut member = Member::new();
    member.put("a", "1");
    member.put("b", "2");
    let mut machine = reloaded(&member.machine);
    let keep = Command::Put(Put {
        ignore_value: true,
        ..a_put("a", "")
    });
    let guard = compare("a", "z", 0, CompareTarget::Value(bytes("1")));
    let nested = RequestOp::Txn(if_then_else(vec![guard], Vec::new(), Vec::new()));
    let nested = Command::Txn(if_then_else(Vec::new(), Vec::new(), vec![nested]));
    let keys = |machine: &StateMachine, command: &Command| -> Vec<Vec<u8>> {
        let needs = machine.needs(command);
        needs.iter().map(|meta| meta.key.to_vec()).collect()
    };
    assert_eq!(keys(&machine, &put("a", "3")), Vec::<Vec<u8>>::new());
    assert_eq!(keys(&machine, &keep), [b"a".to_vec()]);
    assert_eq!(keys(&machine, &nested), [b"a".to_vec(), b"b".to_vec()]);
    let by_value = Range {
        sort_target: super::super::command::SortTarget::Value,
        ..a_range("b", "")
    };
    let needs = machine.range_needs(&by_value);
    assert_eq!(needs.len(), 1);
    machine.supply(&needs[0], b"2");
    assert!(machine.range_needs(&by_value).is_empty());
    assert_eq!(keys(&machine, &nested), [b"a".to_vec()]);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut member = Member::new();
    member.grant(1, 60).result.unwrap();
    member.grant(2, 70).result.unwrap();
    member.put_leased("a", 1);
    member.put_leased("a", 2);
    member.put_leased("b", 1);
    member.put_leased("c", 1);
    member.delete("c", "").result.unwrap();
    member.compact(4).unwrap();
    let before = member.machine.state_hash();
    let machine = reloaded(&member.machine);
    assert_eq!(machine.state_hash(), before);
    assert_eq!(machine.restart(), member.machine.restart());
    let attached = |lease| -> Vec<Vec<u8>> {
        let keys = machine.leases().keys(LeaseId(lease)).unwrap();
        keys.map(|key| key.to_vec()).collect()
    };
    assert_eq!(attached(1), [b"b".to_vec()]);
    assert_eq!(attached(2), [b"a".to_vec()]);
}

/// What a checkpoint and its load do.
fn reloaded(machine: &StateMachine) -> StateMachine {
    let mut loading = StateMachine::load(Mvcc::new(), None, machine.restart());
    let records = machine.mvcc().records_slice(Default::default(), usize::MAX);
    for record in records {
        loading.record((*record.meta).clone());
    }
    loading.finish()
}
