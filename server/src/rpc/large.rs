//! Answers of Txn and DeleteRange that are too large to be put together before they leave: a
//! list of parts in which a key-value is a reference, written in chunks as a list's answer is
//! (`range`). A value that is not resident is in memory for its chunk only.
//!
//! An answer is laid out from its end to its beginning, since a message's length stands before
//! it. Invariant: the parts are as long as was said. Limit: [`PARTS_AT_ONCE`]. The references
//! that the transaction has gathered in its turn are all there; what it has deferred is read
//! when it is its turn to be written (`range/deferred`).

use kvproto::etcdserverpb as pb;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use storage::apply::{OpResult, Projection, TxnResult};
use storage::types::KeyValueRef;

use super::convert::{Projected, projected, projected_len, revision_header};
use super::grpc::{BodySender, FRAME_HEADER_BYTES, Pieces, frame_header};
use super::range::{FETCH_KEY_VALUES_MAX, Measured, Stop};
use crate::runtime::{Pin, Rejected, Values};

/// Parts at a time: a key-value has one for its key and length before it.
const PARTS_AT_ONCE: usize = 2 * FETCH_KEY_VALUES_MAX;

/// What an answer is made of.
enum Part {
    Bytes(Vec<u8>),
    KeyValue(KeyValueRef, Projection),
    Deferred(Box<Measured>),
}

impl Part {
    /// Bytes of it, unless it is more than fits a chunk.
    fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::KeyValue(reference, projection) => projected_len(reference, *projection),
            Part::Deferred(_) => 0,
        }
    }
}

/// An answer, its last part first.
#[derive(Default)]
pub(super) struct Layout {
    parts: Vec<Part>,
    bytes: u64,
    /// Those that are not laid yet, in the order of the transaction.
    deferred: Vec<Measured>,
}

impl Layout {
    /// A transaction's answer, with what is still deferred in it.
    pub(super) fn txn(
        header: Option<pb::ResponseHeader>,
        result: TxnResult,
        deferred: Vec<Measured>,
    ) -> Layout {
        let mut layout = Layout {
            deferred,
            ..Layout::default()
        };
        layout.lay_txn(header, result);
        assert!(layout.deferred.is_empty(), "each has its place");
        layout
    }

    /// A deletion's answer.
    pub(super) fn delete_range(
        header: Option<pb::ResponseHeader>,
        deleted: i64,
        previous: Vec<KeyValueRef>,
    ) -> Layout {
        let mut layout = Layout::default();
        layout.lay_delete_range(header, deleted, previous);
        layout
    }

    fn lay_txn(&mut self, header: Option<pb::ResponseHeader>, result: TxnResult) {
        for response in result.responses.into_iter().rev() {
            let end = self.bytes;
            self.lay_operation(response);
            self.lay_key(3, end);
        }
        self.lay_message(&pb::TxnResponse {
            header,
            succeeded: result.succeeded,
            responses: Vec::new(),
        });
    }

    fn lay_operation(&mut self, result: OpResult) {
        let end = self.bytes;
        let number = match result {
            OpResult::Range(range) => {
                self.lay_message(&pb::RangeResponse {
                    more: range.more,
                    count: range.count,
                    ..Default::default()
                });
                self.lay_key_values(2, range.key_values, range.projection);
                self.lay_message(&pb::RangeResponse {
                    header: revision_header(range.revision),
                    ..Default::default()
                });
                1
            }
            OpResult::Deferred(_) => {
                let range = self.deferred.pop().expect("each was measured");
                let revision = range.revision;
                self.lay_message(&pb::RangeResponse {
                    more: range.more,
                    count: range.count,
                    ..Default::default()
                });
                self.bytes += range.body_len;
                self.parts.push(Part::Deferred(Box::new(range)));
                self.lay_message(&pb::RangeResponse {
                    header: revision_header(revision),
                    ..Default::default()
                });
                1
            }
            OpResult::Put { revision, previous } => {
                self.lay_key_values(2, previous, Projection::Whole);
                self.lay_message(&pb::PutResponse {
                    header: revision_header(revision),
                    prev_kv: None,
                });
                2
            }
            OpResult::DeleteRange {
                revision,
                deleted,
                previous,
            } => {
                self.lay_delete_range(revision_header(revision), deleted, previous);
                3
            }
            OpResult::Txn(nested) => {
                self.lay_txn(revision_header(nested.revision), nested);
                4
            }
        };
        self.lay_key(number, end);
    }

    fn lay_delete_range(
        &mut self,
        header: Option<pb::ResponseHeader>,
        deleted: i64,
        previous: Vec<KeyValueRef>,
    ) {
        self.lay_key_values(3, previous, Projection::Whole);
        self.lay_message(&pb::DeleteRangeResponse {
            header,
            deleted,
            prev_kvs: Vec::new(),
        });
    }

    fn lay_key_values(
        &mut self,
        number: u32,
        references: impl IntoIterator<Item = KeyValueRef, IntoIter: DoubleEndedIterator>,
        projection: Projection,
    ) {
        for reference in references.into_iter().rev() {
            let end = self.bytes;
            self.bytes += projected_len(&reference, projection) as u64;
            self.parts.push(Part::KeyValue(reference, projection));
            self.lay_key(number, end);
        }
    }

    /// The fields of a message that hold no key-value.
    fn lay_message(&mut self, message: &impl Message) {
        self.lay_bytes(message.encode_to_vec());
    }

    /// The key and the length of the field that was laid since `end`.
    fn lay_key(&mut self, number: u32, end: u64) {
        let mut key = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut key);
        encode_varint(self.bytes - end, &mut key);
        self.lay_bytes(key);
    }

    fn lay_bytes(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        self.parts.push(Part::Bytes(bytes));
    }

    /// Writes the answer as one message. `pin` holds what it refers to.
    pub(super) async fn send(
        mut self,
        values: &Values,
        pin: &Pin,
        sender: &BodySender,
    ) -> Result<(), Stop> {
        let mut chunk = Pieces::with_room();
        chunk.put_slice(&frame_header(self.bytes)?);
        let mut sent = 0;
        while let Some(mut parts) = self.next_parts(values, pin).await? {
            for part in &mut parts {
                sent += sender.make_room(&mut chunk, part.len()).await?;
                match part {
                    Part::Bytes(bytes) => chunk.put_slice(bytes),
                    Part::Deferred(range) => {
                        let before = chunk.len() as u64;
                        let written = range.write(sender, &mut chunk).await.map_err(left_open)?;
                        sent += before + written - chunk.len() as u64;
                    }
                    Part::KeyValue(reference, projection) => {
                        match projected(reference, *projection) {
                            Projected::Whole(encoded) => chunk.put_encoded(encoded),
                            Projected::Part(fields) => {
                                chunk.put(|small| fields.encode_into(small));
                            }
                        }
                    }
                }
            }
        }
        sent += chunk.len() as u64;
        let wanted = self.bytes + FRAME_HEADER_BYTES as u64;
        assert_eq!(sent, wanted, "lengths were summed wrongly");
        sender.send(chunk).await?;
        Ok(())
    }

    /// The next parts in their order, with their values in memory; None behind the last.
    async fn next_parts(&mut self, values: &Values, pin: &Pin) -> Result<Option<Vec<Part>>, Stop> {
        let from = self.parts.len().saturating_sub(PARTS_AT_ONCE);
        let mut parts = self.parts.split_off(from);
        if parts.is_empty() {
            return Ok(None);
        }
        parts.reverse();
        let mut stored: Vec<&mut KeyValueRef> = parts
            .iter_mut()
            .filter_map(|part| match part {
                Part::KeyValue(reference @ KeyValueRef::Stored(_), Projection::Whole) => {
                    Some(reference)
                }
                Part::KeyValue(..) | Part::Bytes(_) | Part::Deferred(_) => None,
            })
            .collect();
        let mut fetched: Vec<KeyValueRef> = stored.iter().map(|one| (**one).clone()).collect();
        // The write has happened: whoever stood still so long that its values are gone is told
        // nothing of that.
        let made = values.make_resident(&mut fetched, pin).await;
        made.map_err(|_| Rejected::TimedOut)?;
        for (reference, fetched) in stored.iter_mut().zip(fetched) {
            **reference = fetched;
        }
        Ok(Some(parts))
    }
}

/// As above: what was to be read is gone, and the write has happened.
fn left_open(stop: Stop) -> Stop {
    match stop {
        Stop::Gone => Stop::Gone,
        Stop::Failed(_) => Rejected::TimedOut.into(),
    }
}

#[cfg(test)]
mod tests {
    use storage::apply::RangeResult;
    use storage::mvcc::key_value::Fields;
    use storage::types::LeaseId;

    use super::*;
    use crate::rpc::convert;

    fn key_value(key: &[u8], value_bytes: usize) -> KeyValueRef {
        let fields = Fields {
            key,
            create_revision: 2,
            mod_revision: 300,
            version: 1,
            value: &vec![7; value_bytes],
            lease: LeaseId(5).0,
        };
        KeyValueRef::Resident(fields.encode())
    }

    fn range(projection: Projection, key_values: Vec<KeyValueRef>) -> OpResult {
        OpResult::Range(RangeResult {
            revision: 300,
            count: 9,
            key_values,
            projection,
            more: true,
        })
    }

    fn bytes_of(mut layout: Layout) -> Vec<u8> {
        let mut all = Vec::new();
        let said = layout.bytes;
        while let Some(part) = layout.parts.pop() {
            match part {
                Part::Bytes(bytes) => all.extend(bytes),
                Part::Deferred(_) => unreachable!("nothing was deferred"),
                Part::KeyValue(reference, projection) => {
                    all.extend_from_slice(&projected(&reference, projection).encode().0);
                }
            }
        }
        assert_eq!(all.len() as u64, said);
        all
    }

    fn header() -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: 1,
            member_id: u64::MAX,
            revision: 300,
            raft_term: 2,
        })
    }

    /// Byte by byte what the generated code makes of the same answer.
    #[test]
    fn an_answer_is_that_of_the_generated_code() {
        let many = || {
            vec![
                key_value(b"a", 0),
                key_value(b"b", 200),
                key_value(b"c", 70_000),
            ]
        };
        let inner = TxnResult {
            succeeded: false,
            revision: 0,
            responses: vec![
                OpResult::DeleteRange {
                    revision: 300,
                    deleted: 3,
                    previous: many(),
                },
                range(Projection::Whole, Vec::new()),
            ],
        };
        let result = TxnResult {
            succeeded: true,
            revision: 300,
            responses: vec![
                range(Projection::Whole, many()),
                range(Projection::WithoutValueAndLease, many()),
                range(Projection::WithoutValue, many()),
                OpResult::Put {
                    revision: 300,
                    previous: Some(key_value(b"p", 128)),
                },
                OpResult::Put {
                    revision: 300,
                    previous: None,
                },
                OpResult::Txn(inner),
            ],
        };
        let wanted = pb::TxnResponse {
            header: header(),
            ..convert::txn_result(result.clone())
        };
        let found = bytes_of(Layout::txn(header(), result, Vec::new()));
        assert_eq!(found, wanted.encode_to_vec());
        let wanted = pb::DeleteRangeResponse {
            header: header(),
            deleted: 3,
            prev_kvs: many().iter().map(convert::resident).collect(),
        };
        let found = bytes_of(Layout::delete_range(header(), 3, many()));
        assert_eq!(found, wanted.encode_to_vec());
    }
}
