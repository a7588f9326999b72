//! The checkpoint store under faults: a model of fjall's promises whose every
//! step can be the last one of the process.

use std::sync::{Arc, Mutex};

use storage::checkpoint::{ModelDisk, StepGate, SteppedStore, StoreStep};
use storage::error::Fatal;

/// What will go wrong in the store; shared with whoever plans it.
#[derive(Clone, Debug, Default)]
pub struct StoreFault {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    steps_left: Option<u64>,
    syncs_left: Option<u64>,
    full: bool,
    struck: bool,
}

impl StoreFault {
    /// The process ends after so many more steps.
    pub fn stop_after(&self, steps: u64) {
        self.state.lock().unwrap().steps_left = Some(steps);
    }

    /// A sync fails after so many good ones.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state.lock().unwrap().syncs_left = Some(syncs);
    }

    /// There is no room for anything more.
    pub fn fill_up(&self) {
        self.state.lock().unwrap().full = true;
    }

    pub fn struck(&self) -> bool {
        self.state.lock().unwrap().struck
    }

    pub fn clear(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    fn take_step(&self, sync: bool) -> Result<(), Fatal> {
        let mut state = self.state.lock().unwrap();
        if state.full {
            state.struck = true;
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Fatal::io("change", "model-of-the-checkpoint-store", error));
        }
        let State {
            steps_left,
            syncs_left,
            struck,
            ..
        } = &mut *state;
        let counters = [Some(steps_left), Some(syncs_left).filter(|_| sync)];
        for left in counters.into_iter().flatten().flat_map(Option::as_mut) {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => *struck = true,
            }
        }
        if *struck {
            let error = std::io::Error::other("injected failure");
            return Err(Fatal::io("change", "model-of-the-checkpoint-store", error));
        }
        Ok(())
    }
}

/// Records that go to the store in one step: a run may be cut within.
const STEP_RECORDS: usize = 3;

impl StepGate for StoreFault {
    fn step(&self, step: StoreStep) -> Result<(), Fatal> {
        self.take_step(step == StoreStep::Sync)
    }
}

/// A model store whose every step asks the plan first.
pub fn open(disk: &ModelDisk, fault: &StoreFault) -> SteppedStore<StoreFault> {
    SteppedStore::open(disk, STEP_RECORDS, fault.clone())
}
