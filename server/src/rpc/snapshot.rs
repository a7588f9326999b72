//! Snapshot: a bolt file that stock etcdutl restores, streamed while it is made
//! (contract 1.12, 1.14; design, section 4, "snapshot"). No temporary file; the
//! writer of the store never waits.
//!
//! Two passes over the records of a pinned revision: the first learns lengths,
//! the second streams values. Both leave out what was compacted when the pin was
//! taken, so they see the same however far the purge comes meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;
use kvproto::etcdserverpb as pb;
use storage::apply::command::Alarm;
use storage::mvcc::RecordView;
use storage::snapshot::{
    AlarmEntry, Bucket, ConfState, Contents, Layout, LeaseEntry, MemberEntry, RecordKey, Step,
};
use storage::types::{KeyValueRef, LeaseId, MemberId, Revision};
use tonic::{Code, Status};

use super::Context;
use super::grpc::{BodySender, frame_message};
use super::range::Stop;
use crate::runtime::SnapshotStart;
use crate::version;

/// Records taken from the core loop at a time.
const SLICE_RECORDS: usize = 512;

/// Keys of the meta bucket that Hash leaves out, since members may differ there.
const META_NOT_HASHED: [&[u8]; 3] = [b"consistent_index", b"term", b"storageVersion"];

/// Streams a snapshot.
pub(super) async fn stream(context: Context, sender: BodySender) {
    let started = std::time::Instant::now();
    tracing::info!("sending database snapshot to client");
    match send_all(&context, &sender).await {
        Ok(total_bytes) => {
            let took = started.elapsed();
            let duration = &context.handle.metrics().member.backend_snapshot_duration;
            duration.observe_seconds(took);
            tracing::info!(
                total_bytes,
                ?took,
                "successfully sent database snapshot to client"
            );
            sender.end(Status::new(Code::Ok, "")).await;
        }
        Err(Stop::Gone) => tracing::warn!("the client left before the snapshot was complete"),
        Err(Stop::Failed(status)) => {
            tracing::warn!(error = %status, "failed to send database snapshot to client");
            sender.end(status).await;
        }
    }
}

/// CRC-32C over every bucket that a snapshot would hold (contract 1.12, Hash).
pub(super) async fn hash(context: &Context) -> Result<u32, Status> {
    let start = context.handle.snapshot_start().await?;
    let mut buckets = contents(context, &start).buckets();
    buckets.push(Bucket {
        name: "key",
        pairs: Vec::new(),
    });
    buckets.sort_by_key(|bucket| bucket.name);
    let mut crc = 0;
    for bucket in &buckets {
        crc = crc32c::crc32c_append(crc, bucket.name.as_bytes());
        for (key, value) in &bucket.pairs {
            if bucket.name == "meta" && META_NOT_HASHED.contains(&&key[..]) {
                continue;
            }
            crc = crc32c::crc32c_append(crc, key);
            crc = crc32c::crc32c_append(crc, value);
        }
        if bucket.name == "key" {
            crc = hash_records(context, &start, crc).await?;
        }
    }
    Ok(crc)
}

async fn hash_records(
    context: &Context,
    start: &SnapshotStart,
    mut crc: u32,
) -> Result<u32, Status> {
    let mut records = Records::new(context, start);
    let mut key = Vec::new();
    while let Some(slice) = records.next().await? {
        for (record_key, key_value) in slice {
            key.clear();
            record_key.encode(&mut key);
            crc = crc32c::crc32c_append(crc, &key);
            let values = context.handle.values();
            let encoded = values.encoded_held(&key_value, &start.pin).await?;
            crc = crc32c::crc32c_append(crc, &encoded.0);
        }
    }
    Ok(crc)
}

async fn send_all(context: &Context, sender: &BodySender) -> Result<u64, Stop> {
    let start = context.handle.snapshot_start().await?;
    let mut layout = Layout::new();
    let mut records = Records::new(context, &start);
    while let Some(slice) = records.next().await? {
        for (record_key, key_value) in slice {
            let bytes = u32::try_from(key_value.encoded_len())
                .map_err(|_| Status::internal("a record is too large for a snapshot"))?;
            layout.push(record_key, bytes);
        }
    }
    let plan = layout.finish(contents(context, &start).buckets());
    let total_bytes = plan.total_bytes();
    let mut emitter = plan.into_emitter();
    let mut records = Records::new(context, &start);
    let mut waiting = VecDeque::new();
    loop {
        match emitter.step() {
            Step::Chunk(blob) => send_blob(sender, emitter.remaining_bytes(), blob).await?,
            Step::Feed { .. } => {
                while waiting.is_empty() {
                    let Some(slice) = records.next().await? else {
                        let text = "records are missing in the second pass of the snapshot";
                        return Err(Status::internal(text).into());
                    };
                    waiting.extend(slice);
                }
                let (record_key, key_value) = waiting.pop_front().expect("it was just filled");
                let values = context.handle.values();
                let encoded = values.encoded_held(&key_value, &start.pin).await?;
                emitter
                    .feed(record_key, &encoded.0)
                    .map_err(|mismatch| Status::internal(mismatch.to_string()))?;
            }
            Step::Finished { digest } => {
                send_blob(sender, 0, Bytes::copy_from_slice(&digest)).await?;
                return Ok(total_bytes);
            }
        }
    }
}

async fn send_blob(sender: &BodySender, remaining_bytes: u64, blob: Bytes) -> Result<(), Stop> {
    let response = pb::SnapshotResponse {
        header: None,
        remaining_bytes,
        blob,
        version: version::STORAGE_VERSION.to_owned(),
    };
    Ok(sender.send(frame_message(&response)?).await?)
}

/// The records of a snapshot, in revision order, in slices.
struct Records<'a> {
    context: &'a Context,
    start: &'a SnapshotStart,
    after: Revision,
    ended: bool,
}

impl<'a> Records<'a> {
    fn new(context: &'a Context, start: &'a SnapshotStart) -> Records<'a> {
        Records {
            context,
            start,
            after: Revision::default(),
            ended: false,
        }
    }

    /// The next slice, which may be empty; None after the last one.
    async fn next(&mut self) -> Result<Option<Vec<(RecordKey, KeyValueRef)>>, Status> {
        if self.ended {
            return Ok(None);
        }
        let (start, after) = (self.start, self.after);
        let views = self
            .context
            .handle
            .records(after, start.compacted_revision, &start.pin, SLICE_RECORDS)
            .await?;
        match views.last() {
            Some(last) => self.after = last.meta.revision,
            None => self.ended = true,
        }
        let part = |view: RecordView| {
            let revision = view.meta.revision;
            let wanted = revision.main <= start.revision && !view.compacted;
            wanted.then(|| {
                (
                    RecordKey::new(revision, view.meta.tombstone),
                    view.key_value,
                )
            })
        };
        Ok(Some(views.into_iter().filter_map(part).collect()))
    }
}

/// Everything in the file besides the records.
fn contents(context: &Context, start: &SnapshotStart) -> Contents {
    let identity = context.handle.view().identity();
    let compacted = Some(start.compacted_revision).filter(|revision| *revision > -1);
    let lease = |(id, ttl): &(LeaseId, i64)| LeaseEntry {
        id: *id,
        ttl: *ttl,
        remaining_ttl: 0,
    };
    let alarm = |(member, alarm): &(MemberId, Alarm)| AlarmEntry {
        member: *member,
        alarm: u32::from(alarm.number()),
    };
    Contents {
        consistent_index: start.applied,
        term: start.term,
        conf_state: ConfState {
            voters: vec![identity.member_id],
            ..ConfState::default()
        },
        scheduled_compaction: compacted,
        finished_compaction: compacted,
        leases: start.leases.iter().map(lease).collect(),
        alarms: start.alarms.iter().map(alarm).collect(),
        cluster_version: version::CLUSTER_VERSION.to_owned(),
        auth_revision: 1,
        downgrade: None,
        members: vec![MemberEntry {
            id: identity.member_id,
            name: identity.name.clone(),
            peer_urls: identity.peer_urls.clone(),
            client_urls: identity.client_urls.clone(),
            is_learner: false,
        }],
        ..Contents::default()
    }
}
