//! One checkpoint to be made: values that move go to the cold store in batches,
//! then index records and the manifest. Whoever owns the checkpointer takes it
//! step by step; only a step waits for the disk.

use bytes::Bytes;
use storage::checkpoint::{CheckpointJob, Checkpointer, ColdValue, Manifest};
use storage::error::Fatal;
use storage::types::{Place, Revision};

use super::value_reader::ValueReader;

/// A value that leaves its segment for the cold store.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) revision: Revision,
    pub(super) place: Place,
    /// The bytes, when the segment is gone already: a value that a record took
    /// over by `ignore_value` from one that lies in the cold store.
    pub(super) value: Option<Bytes>,
}

/// See the head of the file.
#[derive(Debug)]
pub struct CheckpointWork {
    /// None once it is carried out.
    pub(super) job: Option<CheckpointJob>,
    pub(super) moves: Vec<Move>,
    pub(super) values: ValueReader,
    pub(super) batch_bytes: usize,
    /// How many of the moves are in the store.
    pub(super) moved: usize,
}

impl CheckpointWork {
    /// How many values move.
    #[must_use]
    pub fn moves(&self) -> usize {
        self.moves.len()
    }

    /// Carries out one step; the manifest when it was the last one and this is
    /// published. `between` runs where the disk may be left to others.
    ///
    /// # Errors
    /// The disk or the store fails, or a value that moves is lost or damaged.
    pub fn step(
        &mut self,
        checkpointer: &mut Checkpointer,
        between: &mut dyn FnMut(),
    ) -> Result<Option<Manifest>, Fatal> {
        let batch = self.batch()?;
        if !batch.is_empty() {
            self.moved += batch.len();
            checkpointer.ingest_values(&batch, between)?;
            return Ok(None);
        }
        let job = self.job.take();
        checkpointer.perform(job.expect("no step follows the last one"), between)?;
        Ok(Some(checkpointer.published().clone()))
    }

    /// The next values that move.
    fn batch(&self) -> Result<Vec<ColdValue>, Fatal> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for moved in self.moves.iter().skip(self.moved) {
            let value = match &moved.value {
                Some(value) => value.clone(),
                None => self.values.fetch_at(moved.revision, moved.place)?,
            };
            bytes += value.len();
            batch.push(ColdValue {
                revision: moved.revision,
                place: moved.place,
                value,
            });
            if bytes >= self.batch_bytes {
                break;
            }
        }
        Ok(batch)
    }
}
