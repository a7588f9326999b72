//! One voter alone, by hand: inputs in, outputs looked at.

use super::*;

const ALONE: MemberId = MemberId(7);
const TIMING: Timing = Timing {
    election_ticks: 10,
    heartbeat_ticks: 1,
};

fn fresh() -> Node {
    restored(Restored {
        hard_state: HardState::default(),
        applied: (LogIndex(0), Term(0)),
        entries: Vec::new(),
        voters: vec![ALONE],
    })
}

fn restored(restored: Restored) -> Node {
    Node::new(ALONE, TIMING, restored)
}

/// Polls, reports every append durable and every commit applied; gives back the
/// appends and commits seen.
fn settle(node: &mut Node) -> (Vec<Append>, Vec<LogEntry>) {
    let (mut appends, mut committed) = (Vec::new(), Vec::new());
    while let Some(mut output) = node.poll() {
        if let Some(append) = output.append.take() {
            node.step(Input::Persisted(append.number, append.last()));
            appends.push(append);
        }
        if let Some(last) = output.committed.last() {
            node.step(Input::Applied(last.index));
        }
        committed.append(&mut output.committed);
    }
    (appends, committed)
}

#[test]
fn a_single_voter_leads_once_its_first_entry_is_durable() {
    let mut node = fresh();
    let output = node.poll().unwrap();
    let append = output.append.unwrap();
    assert!(
        output.committed.is_empty(),
        "nothing is committed before it is durable"
    );
    assert!(!node.reads_are_current());
    assert_eq!(append.hard_state.unwrap().term, Term(1));
    assert_eq!(append.entries.len(), 1);
    node.step(Input::Persisted(append.number, append.last()));
    let (_, committed) = settle(&mut node);
    assert_eq!(committed.len(), 1);
    assert!(node.reads_are_current());
    assert_eq!(node.leader(), Some(ALONE));
}

#[test]
fn proposals_wait_while_an_append_is_flushed_and_then_share_one() {
    let mut node = fresh();
    settle(&mut node);
    node.step(Input::Propose(Bytes::from_static(b"a")));
    let first = node.poll().unwrap().append.unwrap();
    assert_eq!(first.entries.len(), 1);
    node.step(Input::Propose(Bytes::from_static(b"b")));
    node.step(Input::Propose(Bytes::from_static(b"c")));
    assert!(node.poll().is_none(), "one append at a time");
    node.step(Input::Persisted(first.number, first.last()));
    let output = node.poll().unwrap();
    assert_eq!(output.committed.len(), 1);
    let second = output.append.unwrap();
    assert_eq!(second.entries.len(), 2);
    assert_eq!(
        second.hard_state.unwrap().commit,
        first.last().unwrap().0,
        "the commit rides along"
    );
}

#[test]
fn a_restart_commits_every_entry_of_its_log() {
    let mut node = fresh();
    settle(&mut node);
    let mut entries = Vec::new();
    for data in [&b"x"[..], b"y"] {
        node.step(Input::Propose(Bytes::copy_from_slice(data)));
        let (appends, _) = settle(&mut node);
        entries.extend(appends.into_iter().flat_map(|append| append.entries));
    }
    let hard_state = HardState {
        term: Term(1),
        vote: ALONE,
        commit: LogIndex(2),
    };
    let mut again = restored(Restored {
        hard_state,
        applied: (LogIndex(1), Term(1)),
        entries: entries.clone(),
        voters: vec![ALONE],
    });
    let (_, committed) = settle(&mut again);
    let data: Vec<_> = committed.iter().map(|entry| entry.data.clone()).collect();
    assert_eq!(
        data,
        [
            Bytes::from_static(b"x"),
            Bytes::from_static(b"y"),
            Bytes::new()
        ]
    );
    assert_eq!(again.term(), Term(2));
}

/// Found by the simulation's reading of this file: with more to replay than one
/// output holds and a write waiting, reads were answered from a state that still
/// lacked answered writes.
#[test]
fn reads_wait_until_everything_before_the_term_is_applied() {
    let entries: Vec<LogEntry> = (1..=3)
        .map(|index| LogEntry {
            term: Term(1),
            index: LogIndex(index),
            kind: EntryKind::Normal,
            data: Bytes::from(vec![7; 3 << 20]),
        })
        .collect();
    let mut node = restored(Restored {
        hard_state: HardState {
            term: Term(1),
            vote: ALONE,
            commit: LogIndex(0),
        },
        applied: (LogIndex(0), Term(0)),
        entries,
        voters: vec![ALONE],
    });
    let first = node.poll().unwrap().append.unwrap();
    node.step(Input::Propose(Bytes::from_static(b"a client is quick")));
    node.step(Input::Persisted(first.number, first.last()));
    let output = node.poll().unwrap();
    let last = output.committed.last().unwrap().index;
    assert!(
        output.append.is_some() && last < LogIndex(3),
        "replay takes several turns"
    );
    node.step(Input::Applied(last));
    assert!(
        !node.reads_are_current(),
        "entries up to 3 may be answered writes"
    );
    let append = output.append.unwrap();
    node.step(Input::Persisted(append.number, append.last()));
    settle(&mut node);
    assert!(node.reads_are_current());
}

#[test]
#[should_panic(expected = "not the one under way")]
fn an_append_nobody_asked_for_is_never_acknowledged() {
    let mut node = fresh();
    let append = node.poll().unwrap().append.unwrap();
    node.step(Input::Persisted(
        append.number,
        Some((LogIndex(9), Term(1))),
    ));
}
