//! Ranges that a transaction left for after its turn: each is answered as a plain range is, by
//! the same reader, under the transaction's pin. A small one becomes part of the
//! transaction's result; of a large one the lengths are summed, and it is read a second time
//! while it is written. In between it holds a key and the pin, no references.

use storage::apply::{DeferredRange, Plan, RangeResult};
use storage::mvcc::Bounds;

use super::{PART_KEY_VALUES, Prepared, Reader, Stop};
use crate::rpc::Context;
use crate::rpc::grpc::{BodySender, Pieces};
use crate::runtime::{OpenedRead, Pin, ReadSlice};

/// A deferred range that was read.
pub(in crate::rpc) enum Made {
    /// All references are at hand.
    Whole(RangeResult),
    /// Too many for that.
    Measured(Box<Measured>),
}

/// A deferred range that is written slice by slice.
pub(in crate::rpc) struct Measured {
    reader: Reader,
    limit: usize,
    /// Revision of its header.
    pub(in crate::rpc) revision: i64,
    /// As in a range's answer.
    pub(in crate::rpc) more: bool,
    /// As in a range's answer.
    pub(in crate::rpc) count: i64,
    /// Bytes of its key-values, each as a field of the answer.
    pub(in crate::rpc) body_len: u64,
}

impl Measured {
    /// Appends its key-values to the chunk; full chunks are sent. Gives their bytes.
    pub(in crate::rpc) async fn write(
        &mut self,
        sender: &BodySender,
        chunk: &mut Pieces,
    ) -> Result<u64, Stop> {
        self.reader.write_slices(sender, chunk, self.limit).await
    }
}

/// Reads a deferred range, as far as it must be before the answer begins. `pin` holds what
/// the transaction has read.
pub(in crate::rpc) async fn make(
    context: &Context,
    deferred: &DeferredRange,
    pin: &Pin,
) -> Result<Made, Stop> {
    let DeferredRange {
        range,
        at,
        revision,
        count,
    } = deferred;
    let pin = pin.reading(*at);
    let plan = Plan::new(range);
    let bounds = Bounds::of_request(&range.range.key, &range.range.range_end);
    let first = if plan.count_only() {
        ReadSlice::default()
    } else {
        let wanted = plan.fetch_limit().unwrap_or(usize::MAX);
        let wanted = wanted.min(PART_KEY_VALUES);
        context.handle.read_slice(bounds, &pin, wanted).await?
    };
    let read = OpenedRead {
        header_revision: *revision,
        pin,
        first,
        count: *count,
    };
    let projection = plan.projection();
    let mut reader = Reader::new(context.clone(), range.clone(), plan, read);
    Ok(match reader.prepare().await? {
        Prepared::Whole(summary, key_values) => Made::Whole(RangeResult {
            revision: *revision,
            key_values,
            projection,
            more: summary.more,
            count: summary.count,
        }),
        Prepared::InSlices {
            summary,
            body_len,
            limit,
        } => {
            reader.read.first = ReadSlice::default();
            Made::Measured(Box::new(Measured {
                reader,
                limit,
                revision: *revision,
                more: summary.more,
                count: summary.count,
                body_len,
            }))
        }
    })
}
