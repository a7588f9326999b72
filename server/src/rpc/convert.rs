//! Wire types to ours and back; the only place that maps them. Pure.

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use kvproto::etcdserverpb::compare::TargetUnion;
use kvproto::mvccpb;
use prost::Message;
use storage::apply::command::{
    Alarm, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp, SortOrder,
    SortTarget, Txn,
};
use storage::apply::{OpResult, Projection, TxnResult};
use storage::mvcc::key_value::Fields;
use storage::types::{EncodedKeyValue, KeyValueRef, LeaseId, MemberId};
use tonic::Status;

use super::status::invalid;

/// A Range request; its sort option is checked here since ours has no other.
///
/// # Errors
/// `invalid sort option`.
pub fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    let sort_order = match request.sort_order {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(invalid::sort_option()),
    };
    let sort_target = match request.sort_target {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        _ => return Err(invalid::sort_option()),
    };
    Ok(Range {
        range: KeyRange {
            key: request.key,
            range_end: request.range_end,
        },
        limit: request.limit,
        revision: request.revision,
        sort_order,
        sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// A Put request.
#[must_use]
pub fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A DeleteRange request.
#[must_use]
pub fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        range: KeyRange {
            key: request.key,
            range_end: request.range_end,
        },
        prev_kv: request.prev_kv,
    }
}

/// A Txn request that was validated: every operation has its variant.
///
/// # Errors
/// As the operations' own conversions.
pub fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    Ok(Txn {
        compare: request.compare.into_iter().map(compare).collect(),
        success: operations(request.success)?,
        failure: operations(request.failure)?,
    })
}

fn operations(list: Vec<pb::RequestOp>) -> Result<Vec<RequestOp>, Status> {
    use pb::request_op::Request;
    let convert = |op: pb::RequestOp| {
        Ok(match op.request {
            Some(Request::RequestRange(request)) => RequestOp::Range(range(request)?),
            Some(Request::RequestPut(request)) => RequestOp::Put(put(request)),
            Some(Request::RequestDeleteRange(request)) => {
                RequestOp::DeleteRange(delete_range(request))
            }
            Some(Request::RequestTxn(request)) => RequestOp::Txn(txn(request)?),
            None => return Err(invalid::key_not_found()),
        })
    };
    list.into_iter().map(convert).collect()
}

/// etcd reads the variant of the union that belongs to the target and finds
/// zero, or nothing, when another one is set.
fn compare(compare: pb::Compare) -> Compare {
    let range = KeyRange {
        key: compare.key,
        range_end: compare.range_end,
    };
    let union = compare.target_union;
    let number = match (compare.target, &union) {
        (0, Some(TargetUnion::Version(number)))
        | (1, Some(TargetUnion::CreateRevision(number)))
        | (2, Some(TargetUnion::ModRevision(number)))
        | (4, Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    };
    let target = match compare.target {
        0 => CompareTarget::Version(number),
        1 => CompareTarget::Create(number),
        2 => CompareTarget::Mod(number),
        3 => match union {
            Some(TargetUnion::Value(value)) => CompareTarget::Value(value),
            _ => CompareTarget::Value(Bytes::new()),
        },
        4 => CompareTarget::Lease(number),
        _ => return unknown_target(compare.result, range),
    };
    Compare {
        result: compare.result,
        target,
        range,
    }
}

/// A target that etcd does not know compares as equal: "equal" always holds,
/// every other known result never does.
fn unknown_target(result: i32, range: KeyRange) -> Compare {
    const LESS: i32 = 2;
    const ALWAYS_HOLDS: i32 = -1;
    let known_and_never = (1..=3).contains(&result);
    let result = if known_and_never { LESS } else { ALWAYS_HOLDS };
    Compare {
        result,
        target: CompareTarget::Version(i64::MIN),
        range,
    }
}

/// A stored key-value as a message, for answers that are built as messages.
#[must_use]
pub fn key_value(encoded: &EncodedKeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue::decode(&encoded.0[..]).expect("what is stored was encoded by us")
}

/// A key-value that is in memory, as a message.
///
/// # Panics
/// When it is not in memory.
#[must_use]
pub fn resident(reference: &KeyValueRef) -> mvccpb::KeyValue {
    match reference {
        KeyValueRef::Resident(encoded) => key_value(encoded),
        KeyValueRef::Stored(meta) => {
            unreachable!(
                "revision {:?} was brought into memory before",
                meta.revision
            )
        }
    }
}

/// The answer of a transaction whose key-values are in memory. The header holds
/// the revision alone (contract 1.3).
#[must_use]
pub fn txn_result(result: TxnResult) -> pb::TxnResponse {
    pb::TxnResponse {
        header: revision_header(result.revision),
        succeeded: result.succeeded,
        responses: result.responses.into_iter().map(operation_result).collect(),
    }
}

fn operation_result(result: OpResult) -> pb::ResponseOp {
    use pb::response_op::Response;
    let response = match result {
        OpResult::Range(range) => Response::ResponseRange(pb::RangeResponse {
            header: revision_header(range.revision),
            kvs: range
                .key_values
                .iter()
                .map(|reference| key_value(&projected(reference, range.projection).encode()))
                .collect(),
            more: range.more,
            count: range.count,
        }),
        OpResult::Deferred(_) => unreachable!("a deferred read is made before it is answered"),
        OpResult::Put { revision, previous } => Response::ResponsePut(pb::PutResponse {
            header: revision_header(revision),
            prev_kv: previous.as_ref().map(resident),
        }),
        OpResult::DeleteRange {
            revision,
            deleted,
            previous,
        } => Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header: revision_header(revision),
            deleted,
            prev_kvs: previous.iter().map(resident).collect(),
        }),
        OpResult::Txn(nested) => Response::ResponseTxn(txn_result(nested)),
    };
    pb::ResponseOp {
        response: Some(response),
    }
}

/// A header with a revision alone.
pub(super) fn revision_header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}

/// What of a key-value goes out, as it lies in memory or as the fields of a part.
pub enum Projected<'a> {
    Whole(&'a EncodedKeyValue),
    Part(Fields<'a>),
}

impl Projected<'_> {
    /// Of a whole one another reference.
    #[must_use]
    pub fn encode(self) -> EncodedKeyValue {
        match self {
            Projected::Whole(encoded) => encoded.clone(),
            Projected::Part(fields) => fields.encode(),
        }
    }
}

/// What of a key-value goes out. A whole one must be in memory.
#[must_use]
pub fn projected(reference: &KeyValueRef, projection: Projection) -> Projected<'_> {
    match (part(reference, projection), reference) {
        (Some(fields), _) => Projected::Part(fields),
        (None, KeyValueRef::Resident(encoded)) => Projected::Whole(encoded),
        (None, KeyValueRef::Stored(meta)) => unreachable!(
            "revision {:?} was brought into memory before",
            meta.revision
        ),
    }
}

/// The length of that, wherever the value lies.
#[must_use]
pub fn projected_len(reference: &KeyValueRef, projection: Projection) -> usize {
    let part = part(reference, projection);
    part.map_or_else(|| reference.encoded_len(), |fields| fields.encoded_len())
}

/// The fields that go out; None when all of them do.
fn part(reference: &KeyValueRef, projection: Projection) -> Option<Fields<'_>> {
    match projection {
        Projection::Whole => None,
        Projection::WithoutValueAndLease => Some(reference.keys_only()),
        Projection::WithoutValue => Some(Fields {
            value: &[],
            ..reference.fields()
        }),
    }
}

/// An active alarm as a message.
#[must_use]
pub fn alarm_member((member, alarm): (MemberId, Alarm)) -> pb::AlarmMember {
    let alarm = match alarm {
        Alarm::NoSpace => pb::AlarmType::Nospace,
        Alarm::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember {
        member_id: member.0,
        alarm: alarm.into(),
    }
}
