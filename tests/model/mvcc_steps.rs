//! Random histories: what can happen to a store.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Op {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    /// `ignore_value`; left out where the key is not live.
    Keep {
        key: Vec<u8>,
        lease: i64,
    },
    Delete {
        key: Vec<u8>,
        range_end: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
pub enum Step {
    Request {
        ops: Vec<Op>,
        abandoned: bool,
    },
    Compact {
        below_current: i64,
        hash_slice: Option<usize>,
    },
    Purge {
        budget: usize,
    },
    Pin {
        below_current: i64,
    },
    Unpin,
    Evict {
        budget: usize,
    },
    Pack {
        budget: usize,
    },
    Warm {
        scan: usize,
    },
    Restart {
        slice: usize,
    },
    Read {
        key: Vec<u8>,
        range_end: Vec<u8>,
        below_current: i64,
        limit: usize,
        scan: usize,
    },
    History {
        below_current: i64,
        events: usize,
    },
    HashKv {
        below_current: i64,
        slice: usize,
    },
}

fn a_key() -> impl Strategy<Value = Vec<u8>> {
    let keys: Vec<&[u8]> = vec![
        b"a", b"a\0", b"ab", b"b", b"c/1", b"c/2", b"c/3", b"\xff", b"\0",
    ];
    prop::sample::select(keys).prop_map(<[u8]>::to_vec)
}

fn a_range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(vec![0]),
        a_key(),
        Just(b"c0".to_vec())
    ]
}

fn an_op() -> impl Strategy<Value = Op> {
    let lease = || prop::sample::select(vec![0, 0, 7, -3, i64::MAX]);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        6 => (a_key(), value, lease())
            .prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        1 => (a_key(), lease()).prop_map(|(key, lease)| Op::Keep { key, lease }),
        2 => (a_key(), a_range_end()).prop_map(|(key, range_end)| Op::Delete { key, range_end }),
    ]
}

pub fn a_step() -> impl Strategy<Value = Step> {
    let request = (
        prop::collection::vec(an_op(), 0..4),
        prop::bool::weighted(0.1),
    );
    let back = || 0..12_i64;
    let read = (a_key(), a_range_end(), back(), 0..5_usize, 1..5_usize);
    prop_oneof![
        12 => request.prop_map(|(ops, abandoned)| Step::Request { ops, abandoned }),
        2 => (-1..8_i64, prop::option::of(1..9_usize)).prop_map(|(below_current, hash_slice)| {
            Step::Compact { below_current, hash_slice }
        }),
        3 => (1..7_usize).prop_map(|budget| Step::Purge { budget }),
        1 => back().prop_map(|below_current| Step::Pin { below_current }),
        1 => Just(Step::Unpin),
        2 => (1..5_usize).prop_map(|budget| Step::Evict { budget }),
        3 => (1..30_usize).prop_map(|budget| Step::Pack { budget }),
        1 => (1..9_usize).prop_map(|scan| Step::Warm { scan }),
        1 => prop::option::weighted(0.5, 1..9_usize).prop_map(|slice| match slice {
            Some(slice) => Step::Restart { slice },
            // All that may go: long chains of packed records.
            None => Step::Evict { budget: 1000 },
        }),
        6 => read.prop_map(|(key, range_end, below_current, limit, scan)| {
            Step::Read { key, range_end, below_current, limit, scan }
        }),
        2 => (back(), 1..9_usize).prop_map(|(below_current, events)| {
            Step::History { below_current, events }
        }),
        2 => (back(), 1..9_usize).prop_map(|(below_current, slice)| {
            Step::HashKv { below_current, slice }
        }),
    ]
}
