//! Runs of requests against the model (`tests/model/apply`): the bytes are seeds of
//! that test's own generator, one a step, so both reach the same requests.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::generate::{Step, any_step};
use crate::member::Member;
use crate::model::Model;

const STEPS_MAX: usize = 40;
/// Bytes that choose one step: a mutation there leaves the others alone.
const STEP_BYTES: usize = 3;

fn step(strategy: &impl Strategy<Value = Step>, choice: &[u8]) -> Step {
    let mut seed = [0; 32];
    seed[..choice.len()].copy_from_slice(choice);
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let drawn = strategy.new_tree(&mut runner);
    drawn.expect("no choice is rejected").current()
}

pub fn check(data: &[u8]) -> bool {
    let strategy = any_step();
    let choices = data.chunks(STEP_BYTES).take(STEPS_MAX);
    let steps: Vec<Step> = choices.map(|choice| step(&strategy, choice)).collect();
    let mut model = Model::new();
    let mut calm = Member::new();
    let mut troubled = Member::gathering(2);
    for step in &steps {
        match step {
            Step::Command(command) => {
                let expected = model.command(command);
                assert_eq!(calm.apply(command), expected, "calm: {command:?}");
                assert_eq!(troubled.apply(command), expected, "troubled: {command:?}");
            }
            Step::Range(range) => {
                let expected = model.stand_alone_range(range);
                assert_eq!(calm.range(range), expected, "calm: {range:?}");
                assert_eq!(troubled.range(range), expected, "troubled: {range:?}");
            }
            Step::ReadTxn(txn) => {
                let expected = model.read_txn(txn);
                assert_eq!(calm.read_txn(txn), expected, "calm: {txn:?}");
                assert_eq!(troubled.read_txn(txn), expected, "troubled: {txn:?}");
            }
            Step::Purge => troubled.purge(),
            Step::Evict => troubled.evict(),
            Step::Restart => troubled.restart(),
        }
        troubled.read_deferred_again();
        assert_eq!(calm.state_hash(), troubled.state_hash(), "after {step:?}");
        assert_eq!(troubled.leases(), model.leases(), "after {step:?}");
    }
    assert_eq!(calm.dump(), troubled.dump());
    steps.len() > 1
}
