//! Put, delete range, compaction (contract 1.4, 1.6, 1.8).

use super::super::codec;
use super::*;

fn refusal(outcome: Outcome) -> Refusal {
    assert!(outcome.events.is_none(), "a refusal changes nothing");
    assert!(
        outcome.lease_changes.is_empty(),
        "a refusal changes nothing"
    );
    outcome.result.unwrap_err()
}

/// Trap 1.
#[test]
fn the_first_write_returns_revision_2() {
    let mut member = Member::new();
    assert_eq!(member.machine.mvcc().current_revision(), 1);
    assert_eq!(member.put("a", "1"), 2);
    assert_eq!(member.put("b", "1"), 3);
}

#[test]
fn put_answers_the_previous_key_value_only_when_asked() {
    let mut member = Member::new();
    let asking = |value| {
        Command::Put(Put {
            prev_kv: true,
            ..a_put("a", value)
        })
    };
    let first = member.apply(asking("1"));
    assert!(matches!(first.result, Ok(Response::Put { previous: None })));
    let Ok(Response::Put { previous }) = member.apply(asking("2")).result else {
        panic!("a put");
    };
    assert_eq!(text(&previous.unwrap()), pair("a", "1"));
    let silent = member.apply(put("a", "3"));
    assert!(matches!(
        silent.result,
        Ok(Response::Put { previous: None })
    ));
}

#[test]
fn put_with_an_unknown_lease_is_refused_before_the_missing_key() {
    let mut member = Member::new();
    let both = Put {
        lease: LeaseId(7),
        ignore_value: true,
        ..a_put("missing", "")
    };
    let outcome = member.apply(Command::Put(both));
    assert_eq!(outcome.revision, 1);
    assert_eq!(refusal(outcome), Refusal::LeaseNotFound);
}

#[test]
fn ignore_on_a_missing_key_is_key_not_found() {
    for (ignore_value, ignore_lease) in [(true, false), (false, true), (true, true)] {
        let mut member = Member::new();
        let put = Put {
            ignore_value,
            ignore_lease,
            ..a_put("missing", "")
        };
        assert_eq!(
            refusal(member.apply(Command::Put(put))),
            Refusal::KeyNotFound
        );
    }
}

#[test]
fn ignore_value_keeps_the_value_in_its_place_as_a_new_version() {
    let mut member = Member::new();
    member.put("a", "kept");
    let keep = Put {
        ignore_value: true,
        ..a_put("a", "")
    };
    let outcome = member.apply(Command::Put(keep));
    assert_eq!(outcome.revision, 3);
    let events = outcome.events.unwrap();
    let meta = &events.events[0].meta;
    assert_eq!((meta.version, meta.create_revision), (2, 2));
    assert_eq!(member.all(), [pair("a", "kept")]);
    let inherited = &outcome.inherited[0];
    assert_eq!(inherited.revision, meta.revision);
    assert_eq!(inherited.place, meta.place);
    let first = &member.machine.mvcc().records_slice(Default::default(), 1)[0];
    assert_eq!(first.meta.place, meta.place);
}

#[test]
fn ignore_lease_keeps_the_lease_and_a_plain_put_detaches_it() {
    let mut member = Member::new();
    member.grant(5, 60).result.unwrap();
    member.put_leased("a", 5);
    let keep = Put {
        ignore_lease: true,
        ..a_put("a", "2")
    };
    member.apply(Command::Put(keep)).result.unwrap();
    assert_eq!(member.machine.leases().lease_of(b"a"), Some(LeaseId(5)));
    member.put("a", "3");
    assert_eq!(member.machine.leases().lease_of(b"a"), None);
    assert_eq!(member.machine.leases().keys(LeaseId(5)).unwrap().count(), 0);
}

#[test]
fn a_value_lies_where_the_entry_says() {
    let mut member = Member::new();
    let outcome = member.apply(put("key", "the value"));
    let place = outcome.events.unwrap().events[0].meta.place;
    let envelope = Envelope {
        request_id: RequestId(1),
        command: put("key", "the value"),
    };
    let data = codec::encode(&envelope).unwrap();
    let start = usize::try_from(place.offset).unwrap() - 4096;
    let end = start + usize::try_from(place.length).unwrap();
    assert_eq!(&data[start..end], b"the value");
    assert_eq!(place.segment, SegmentNumber(1));
    assert_eq!(place.crc, crc32fast::hash(b"the value"));
    assert!(outcome.inherited.is_empty());
}

/// Trap 3.
#[test]
fn deleting_nothing_is_no_revision_and_no_event() {
    let mut member = Member::new();
    member.put("b", "1");
    let outcome = member.delete("a", "");
    assert_eq!(outcome.revision, 2);
    assert!(outcome.events.is_none());
    let Ok(Response::DeleteRange { deleted, previous }) = outcome.result else {
        panic!("a deletion");
    };
    assert_eq!((deleted, previous.len()), (0, 0));
}

#[test]
fn deleting_a_range_is_one_revision_in_key_order() {
    let mut member = Member::new();
    for key in ["c", "a", "b"] {
        member.put(key, "1");
    }
    let outcome = member.delete("a", "c");
    assert_eq!(outcome.revision, 5);
    let events = outcome.events.unwrap();
    let subs: Vec<_> = events
        .events
        .iter()
        .map(|event| event.meta.revision.sub)
        .collect();
    assert_eq!(subs, [0, 1]);
    let Ok(Response::DeleteRange { deleted, previous }) = outcome.result else {
        panic!("a deletion");
    };
    assert_eq!(
        (deleted, keys_of(&previous)),
        (2, vec!["a".into(), "b".into()])
    );
    assert_eq!(member.all(), [pair("c", "1")]);
}

#[test]
fn deletion_ends_the_generation() {
    let mut member = Member::new();
    member.put("a", "1");
    member.delete("a", "").result.unwrap();
    let outcome = member.apply(put("a", "2"));
    let meta = outcome.events.unwrap().events[0].meta.clone();
    assert_eq!((meta.create_revision, meta.version), (4, 1));
}

/// Trap 14.
#[test]
fn compaction_refuses_what_is_compacted_or_not_there_yet() {
    let mut member = Member::new();
    for value in ["1", "2", "3"] {
        member.put("a", value);
    }
    assert_eq!(member.compact(5), Err(Refusal::FutureRevision));
    assert_eq!(
        member.compact(0),
        Ok(()),
        "0 works while nothing was compacted"
    );
    assert_eq!(member.compact(0), Err(Refusal::Compacted));
    assert_eq!(member.compact(3), Ok(()));
    assert_eq!(member.compact(3), Err(Refusal::Compacted));
    assert_eq!(
        member.compact(4),
        Ok(()),
        "the current revision may be compacted"
    );
    let at = |revision| Range {
        revision,
        ..a_range("a", "")
    };
    assert_eq!(
        member.machine.range(&at(3)).unwrap_err(),
        Refusal::Compacted
    );
    assert_eq!(
        texts(&member.machine.range(&at(4)).unwrap().key_values),
        [pair("a", "3")]
    );
    assert_eq!(member.machine.mvcc().current_revision(), 4);
}
