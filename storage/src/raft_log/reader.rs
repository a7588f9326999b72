//! Reads values back by their place. Cloned freely, used from any thread.
//! Owns a share of the segment table; invariant: what it returns carried the
//! place's checksum and its segment was not retired when the read ended.

use std::sync::Arc;

use crate::error::Fatal;
use crate::types::Place;

use super::segment::SegmentTable;

/// See [`super::RaftLog::reader`].
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) table: Arc<SegmentTable>,
}

impl LogReader {
    /// The value's bytes; `None` when its segment is not in the log (any more):
    /// then the value lies in the cold store. The group that holds the value
    /// must have been reported durable.
    ///
    /// # Errors
    /// `Corruption` when the bytes do not carry the place's checksum, `Io` when
    /// they cannot be read.
    pub fn read_value(&self, place: Place) -> Result<Option<Vec<u8>>, Fatal> {
        if place.length == 0 {
            return Ok(Some(Vec::new()));
        }
        let Some(segment) = self.table.get(place.segment) else {
            return Ok(None);
        };
        let read = segment.read(u64::from(place.offset), place.length);
        // A retired file may be recycled under our hands; only its absence from
        // the table after the read tells that from corruption.
        if self.table.get(place.segment).is_none() {
            return Ok(None);
        }
        let value = read?;
        let found = crc32fast::hash(&value);
        if found != place.crc {
            return Err(Fatal::corruption(
                &segment.path,
                u64::from(place.offset),
                format!(
                    "a value of {} bytes should have checksum {:08x} and has {found:08x}",
                    place.length, place.crc
                ),
            ));
        }
        Ok(Some(value))
    }
}
