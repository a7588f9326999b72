//! The judge itself: a good history passes, each spoiled one is found.

use kvproto::etcdserverpb::{RangeResponse, ResponseHeader};
use kvproto::mvccpb::event::EventType;
use kvproto::mvccpb::{Event, KeyValue};

use crate::content;
use crate::history::{Change, History, Lease, lease_key};

/// What a member tells in this small life: the responses of the resumed watch, all keys,
/// and the history from the beginning.
#[derive(Clone)]
struct Told {
    responses: Vec<Vec<Event>>,
    shown: RangeResponse,
    replayed: Vec<Event>,
}

fn put(revision: i64, key: &str, number: u64) -> Event {
    let kv = KeyValue {
        key: key.to_owned().into(),
        value: content::value(number).into(),
        mod_revision: revision,
        ..KeyValue::default()
    };
    Event {
        r#type: EventType::Put.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

fn delete(revision: i64, key: &str) -> Event {
    let mut event = put(revision, key, content::EMPTY);
    event.r#type = EventType::Delete.into();
    event
}

fn wanted(key: &str, content: Option<u64>) -> Change {
    Change {
        key: key.to_owned(),
        content,
        lease: 0,
    }
}

/// a = 1, then b = 2, then a is deleted (never answered), then a = 3 and b = 4 at once.
fn honest() -> Told {
    let events = vec![
        vec![put(2, "a", 1), put(3, "b", 2)],
        vec![delete(4, "a")],
        vec![put(5, "a", 3), put(5, "b", 4)],
    ];
    let row = |key: &str, number, create_revision, version| KeyValue {
        key: key.to_owned().into(),
        value: content::value(number).into(),
        create_revision,
        mod_revision: 5,
        version,
        lease: 0,
    };
    let header = ResponseHeader {
        revision: 5,
        ..ResponseHeader::default()
    };
    Told {
        replayed: events.concat(),
        responses: events,
        shown: RangeResponse {
            header: Some(header),
            kvs: vec![row("a", 3, 5, 1), row("b", 4, 3, 2)],
            count: 2,
            more: false,
        },
    }
}

fn judge(told: &Told) {
    let mut history = History::new();
    history.acknowledge(2, vec![wanted("a", Some(1))]);
    history.acknowledge(3, vec![wanted("b", Some(2))]);
    history.give_up(vec![wanted("a", None)]);
    history.acknowledge(5, vec![wanted("a", Some(3)), wanted("b", Some(4))]);
    for response in &told.responses {
        history.append(response);
    }
    history.promise(5);
    history.judge(&told.shown, 1, &told.replayed);
}

/// Spoils what a member told; the judge must find it.
fn found(name: &str, spoil: impl Fn(&mut Told)) {
    let mut told = honest();
    spoil(&mut told);
    let judged = std::panic::catch_unwind(|| judge(&told));
    assert!(judged.is_err(), "not found: {name}");
}

#[test]
fn a_good_history_passes() {
    judge(&honest());
}

#[test]
fn every_spoiled_history_is_found() {
    found("the last write is lost", |told| {
        told.responses.pop();
        told.shown.header.as_mut().unwrap().revision = 4;
    });
    found("another value", |told| {
        told.responses[0][1] = put(3, "b", 7)
    });
    found("an event twice", |told| {
        let last = told.responses[2].clone();
        told.responses.push(last);
    });
    found("a gap", |told| drop(told.responses.remove(1)));
    found("a split revision", |told| {
        let half = told.responses[2].split_off(1);
        told.responses.push(half);
    });
    found("half a transaction", |told| drop(told.responses[2].pop()));
    found("an older row", |told| told.shown.kvs[1].mod_revision = 3);
    found("a version too high", |told| told.shown.kvs[1].version = 3);
    found("a key too many", |told| {
        let mut row = told.shown.kvs[0].clone();
        row.key = "c".into();
        told.shown.kvs.push(row);
    });
    found("a key too few", |told| drop(told.shown.kvs.pop()));
    found("a wrong count", |told| told.shown.count = 3);
    found("a damaged value", |told| {
        let mut value = told.shown.kvs[0].value.to_vec();
        *value.last_mut().unwrap() ^= 1;
        told.shown.kvs[0].value = value.into();
    });
    found("a history with a hole", |told| {
        drop(told.replayed.remove(1))
    });
    found("a write that nobody asked for", |told| {
        told.responses.push(vec![put(6, "c", 9)]);
        told.replayed.push(put(6, "c", 9));
        told.shown.header.as_mut().unwrap().revision = 6;
    });
}

#[test]
fn a_promise_that_is_broken_is_found() {
    let told = honest();
    let broken = std::panic::catch_unwind(|| {
        let mut history = History::new();
        history.append(&told.responses[0]);
        history.promise(4);
    });
    assert!(broken.is_err(), "progress ahead of its events");
}

#[test]
fn a_lease_that_ends_early_is_found() {
    let early = std::panic::catch_unwind(|| {
        let mut history = History::new();
        history.leases.insert(7, Lease::new(7, 3600));
        let key = lease_key(7);
        history.acknowledge(2, vec![wanted(&key, Some(1))]);
        history.append(&[put(2, &key, 1), delete(3, &key)]);
        let header = ResponseHeader {
            revision: 3,
            ..ResponseHeader::default()
        };
        let shown = RangeResponse {
            header: Some(header),
            ..RangeResponse::default()
        };
        let replayed = [put(2, &key, 1), delete(3, &key)];
        history.judge(&shown, 1, &replayed);
    });
    assert!(early.is_err(), "its key vanished an hour too soon");
}
