//! What of the state machine stands in the manifest, and back.

use storage::apply::{MachineHash, Restart, StateMachine};
use storage::checkpoint::Manifest;
use storage::checkpoint::layout::MANIFEST;
use storage::error::Fatal;
use storage::mvcc::Mvcc;

/// Bytes of a state hash in the manifest: chain, live versions, leases and
/// alarms, 16 bytes each, little-endian.
const STATE_HASH_BYTES: usize = 48;

/// The state hash of an empty machine.
#[must_use]
pub fn empty_state_hash() -> Vec<u8> {
    encode(&StateMachine::new(Mvcc::new(), None).state_hash())
}

/// Writes the state machine's part of a manifest.
pub(super) fn fill(manifest: &mut Manifest, machine: &StateMachine) {
    let restart = machine.restart();
    manifest.applied_index = restart.applied_index;
    manifest.applied_term = restart.applied_term;
    manifest.first_needed_index = storage::types::LogIndex(restart.applied_index.0 + 1);
    manifest.current_revision = restart.current_revision;
    manifest.compacted_revision = restart.compacted_revision;
    manifest.leases = restart.leases;
    manifest.alarms = restart.alarms;
    manifest.state_hash = encode(&machine.state_hash());
}

/// What a state machine needs besides the records.
///
/// # Errors
/// `Corruption` for a state hash of a wrong length.
pub fn restart_of(manifest: &Manifest) -> Result<Restart, Fatal> {
    let chain = manifest.state_hash.first_chunk::<16>();
    let Some(chain) = chain.filter(|_| manifest.state_hash.len() == STATE_HASH_BYTES) else {
        let text = format!("a state hash of {} bytes", manifest.state_hash.len());
        return Err(Fatal::corruption(MANIFEST, 0, text));
    };
    Ok(Restart {
        applied_index: manifest.applied_index,
        applied_term: manifest.applied_term,
        current_revision: manifest.current_revision,
        compacted_revision: manifest.compacted_revision,
        hash_chain: u128::from_le_bytes(*chain),
        leases: manifest.leases.clone(),
        alarms: manifest.alarms.clone(),
    })
}

/// The state that was loaded is the one that the manifest names.
///
/// # Errors
/// `Corruption` when it is not.
pub fn check_state_hash(manifest: &Manifest, machine: &StateMachine) -> Result<(), Fatal> {
    let loaded = encode(&machine.state_hash());
    if loaded == manifest.state_hash {
        return Ok(());
    }
    let text = format!(
        "the loaded state has hash {loaded:02x?}, the manifest says {:02x?}; restore the \
         member from a snapshot",
        manifest.state_hash
    );
    Err(Fatal::corruption(MANIFEST, 0, text))
}

fn encode(hash: &MachineHash) -> Vec<u8> {
    let parts = [hash.store.chain, hash.store.live, hash.leases_and_alarms];
    parts.iter().flat_map(|part| part.to_le_bytes()).collect()
}
