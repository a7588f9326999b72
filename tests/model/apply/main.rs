//! The whole state machine against a naive model of the contract: two members,
//! one that loses values from memory, purges, restarts in between and leaves reads of
//! transactions for later, one that does not, must give the model's answers and equal state hashes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test target may end in a panic"
)]

mod answer;
mod deferred;
mod generate;
mod member;
mod model;

use proptest::collection::vec;
use proptest::prelude::*;

use generate::{Step, any_step};
use member::Member;
use model::Model;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_state_machine_answers_as_the_contract_says(
        steps in vec(any_step(), 1..60),
        gathered_keys_max in 0_usize..5,
    ) {
        let mut model = Model::new();
        let mut calm = Member::new();
        let mut troubled = Member::gathering(gathered_keys_max);
        for step in &steps {
            match step {
                Step::Command(command) => {
                    let expected = model.command(command);
                    prop_assert_eq!(&calm.apply(command), &expected, "calm: {:?}", command);
                    prop_assert_eq!(&troubled.apply(command), &expected, "troubled: {:?}", command);
                }
                Step::Range(range) => {
                    let expected = model.stand_alone_range(range);
                    prop_assert_eq!(&calm.range(range), &expected, "calm: {:?}", range);
                    prop_assert_eq!(&troubled.range(range), &expected, "troubled: {:?}", range);
                }
                Step::ReadTxn(txn) => {
                    let expected = model.read_txn(txn);
                    prop_assert_eq!(&calm.read_txn(txn), &expected, "calm: {:?}", txn);
                    prop_assert_eq!(&troubled.read_txn(txn), &expected, "troubled: {:?}", txn);
                }
                Step::Purge => troubled.purge(),
                Step::Evict => troubled.evict(),
                Step::Restart => troubled.restart(),
            }
            troubled.read_deferred_again();
            prop_assert_eq!(calm.state_hash(), troubled.state_hash(), "after {:?}", step);
            prop_assert_eq!(troubled.leases(), model.leases(), "after {:?}", step);
        }
        prop_assert_eq!(&calm.dump(), &troubled.dump());
    }
}

/// The generator reaches what the test is about: without this a change of the
/// generator could make the property true of nothing.
#[test]
fn the_generator_reaches_every_kind_of_answer() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..300 {
        let steps = vec(any_step(), 60).new_tree(&mut runner).unwrap().current();
        let mut model = Model::new();
        for step in &steps {
            let answer = match step {
                Step::Command(command) => model.command(command).answer,
                Step::Range(range) => model.stand_alone_range(range),
                Step::ReadTxn(txn) => model.read_txn(txn),
                Step::Purge | Step::Evict | Step::Restart => continue,
            };
            for kind in answer.kinds() {
                *seen.entry(kind).or_insert(0) += 1;
            }
        }
    }
    for kind in [
        "put",
        "put with previous",
        "delete",
        "delete of nothing",
        "range",
        "range with more",
        "range of nothing",
        "txn taken",
        "txn not taken",
        "nested txn",
        "compact",
        "grant",
        "revoke",
        "alarm",
        "alarm of nothing",
        "Compacted",
        "FutureRevision",
        "KeyNotFound",
        "LeaseNotFound",
        "LeaseExists",
        "LeaseTtlTooLarge",
    ] {
        assert!(
            seen.get(kind).is_some_and(|count| *count >= 20),
            "{kind}: {seen:?}"
        );
    }
}
