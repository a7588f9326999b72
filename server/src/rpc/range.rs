//! Range and RangeStream: answers of any size in bounded memory (design, section
//! 4, "range"; contract 1.5).
//!
//! A small answer is one frame. A large one is read twice: the first pass sums
//! the encoded lengths, since gRPC says a message's length before its bytes; the
//! second streams chunks of [`BODY_CHUNK_BYTES`]. Between slices a reader holds a
//! pin and a key, not key-values. Only answers that must be sorted or filtered
//! collect their references.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use kvproto::etcdserverpb as pb;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use storage::apply::command::{KeyRange, Range, SortOrder, SortTarget};
use storage::apply::{Plan, Projection};
use storage::mvcc::Bounds;
use storage::types::{EncodedKeyValue, Key, KeyValueRef};
use tonic::Status;

use super::convert::{self, projected};
use super::grpc::{
    BODY_CHUNK_BYTES, BodySender, Closed, FRAME_HEADER_BYTES, frame_header, frame_message,
    streaming, unary,
};
use super::{Context, validate};
use crate::runtime::{OpenedRead, SLICE_KEY_VALUES_MAX};

/// Wire tag of `RangeResponse.kvs` (field 2, length-delimited).
const KVS_TAG: u8 = 2 << 3 | 2;

/// Keys of the first message of a stream (contract 1.5).
const STREAM_FIRST_KEYS: usize = 10;

/// Why an answer ends early.
pub(super) enum Stop {
    Gone,
    Failed(Status),
}

impl From<Closed> for Stop {
    fn from(Closed: Closed) -> Stop {
        Stop::Gone
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Stop {
        Stop::Failed(status)
    }
}

impl From<crate::runtime::Rejected> for Stop {
    fn from(rejected: crate::runtime::Rejected) -> Stop {
        Stop::Failed(rejected.into())
    }
}

/// What stands around the key-values of an answer.
struct Summary {
    header: pb::ResponseHeader,
    more: bool,
    count: i64,
}

impl Summary {
    fn message(&self) -> pb::RangeResponse {
        pb::RangeResponse {
            header: Some(self.header),
            kvs: Vec::new(),
            more: self.more,
            count: self.count,
        }
    }
}

/// The unary call.
pub(super) async fn unary_range(context: &Context, request: pb::RangeRequest) -> Response<Body> {
    match open(context, request).await {
        Ok((range, plan, read)) => answer(context, range, plan, read).await,
        Err(status) => unary(Err(status)),
    }
}

/// The streaming call.
pub(super) async fn range_stream(context: &Context, request: pb::RangeRequest) -> Response<Body> {
    if let Err(status) = check_streamable(&request) {
        return unary(Err(status));
    }
    match open(context, request).await {
        Ok((range, plan, read)) => {
            let (sender, response) = streaming();
            let context = context.clone();
            tokio::spawn(async move {
                let mut reader = Reader::new(context, range, plan, read);
                finish(sender.clone(), reader.stream_messages(&sender).await).await;
            });
            response
        }
        Err(status) => unary(Err(status)),
    }
}

fn check_streamable(request: &pb::RangeRequest) -> Result<(), Status> {
    validate::range(request)?;
    let ascending_keys = request.sort_order == SortOrder::None as i32
        || (request.sort_order == SortOrder::Ascend as i32
            && request.sort_target == SortTarget::Key as i32);
    if !ascending_keys {
        return Err(Status::unimplemented(
            "RangeStream does not support custom sort orders",
        ));
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|filter| *filter != 0) {
        return Err(Status::unimplemented(
            "RangeStream does not support revision filters",
        ));
    }
    Ok(())
}

async fn open(
    context: &Context,
    request: pb::RangeRequest,
) -> Result<(Range, Plan, OpenedRead), Status> {
    validate::range(&request)?;
    let linearizable = !request.serializable;
    let range = convert::range(request)?;
    let plan = Plan::new(&range);
    let read = context
        .handle
        .open_read(range.clone(), linearizable, SLICE_KEY_VALUES_MAX)
        .await?;
    Ok((range, plan, read))
}

async fn finish(sender: BodySender, end: Result<(), Stop>) {
    match end {
        Ok(()) => sender.end(Status::new(tonic::Code::Ok, "")).await,
        Err(Stop::Gone) => {}
        Err(Stop::Failed(status)) => sender.end(status).await,
    }
}

async fn answer(context: &Context, range: Range, plan: Plan, read: OpenedRead) -> Response<Body> {
    let mut reader = Reader::new(context.clone(), range, plan, read);
    match reader.prepare().await {
        Ok(Prepared::Whole(summary, key_values)) => unary(reader.whole(&summary, key_values).await),
        Ok(Prepared::InSlices {
            summary,
            body_len,
            limit,
        }) => {
            let (sender, response) = streaming();
            tokio::spawn(async move {
                let end = reader.stream_one(&sender, summary, body_len, limit).await;
                finish(sender, end).await;
            });
            response
        }
        Err(Stop::Failed(status)) => unary(Err(status)),
        Err(Stop::Gone) => unary(Err(Status::cancelled("the client has gone"))),
    }
}

/// How a unary answer will be given.
enum Prepared {
    /// All references are at hand.
    Whole(Summary, Vec<KeyValueRef>),
    /// Summed up; to be read a second time.
    InSlices {
        summary: Summary,
        body_len: u64,
        limit: usize,
    },
}

/// One read under way.
struct Reader {
    context: Context,
    range: Range,
    plan: Plan,
    bounds: Bounds,
    read: OpenedRead,
}

impl Reader {
    fn new(context: Context, range: Range, plan: Plan, read: OpenedRead) -> Reader {
        let bounds = Bounds::of_request(&range.range.key, &range.range.range_end);
        Reader {
            context,
            range,
            plan,
            bounds,
            read,
        }
    }

    async fn prepare(&mut self) -> Result<Prepared, Stop> {
        if self.plan.count_only() {
            let count = self.count_from(None, 0).await?;
            return Ok(Prepared::Whole(self.summary(false, count), Vec::new()));
        }
        if !self.plan.in_key_order() || self.plan.is_filtered() {
            return self.collect_and_arrange().await;
        }
        let limit = self.plan.limit().unwrap_or(usize::MAX);
        let first = &self.read.first;
        if first.next.is_none() || first.key_values.len() > limit {
            let mut key_values = std::mem::take(&mut self.read.first.key_values);
            let more = key_values.len() > limit;
            let found = key_values.len();
            key_values.truncate(limit);
            let count = self.count_after(&key_values, found, more).await?;
            return Ok(Prepared::Whole(self.summary(more, count), key_values));
        }
        self.measure(limit).await
    }

    /// The first pass: lengths, and whether there is more than the limit.
    async fn measure(&mut self, limit: usize) -> Result<Prepared, Stop> {
        let mut body_len = 0;
        let mut found = 0;
        let mut last_key: Option<Key> = None;
        let mut slice_from: Option<Key> = None;
        let mut more = false;
        'walk: loop {
            let (key_values, next) = self.slice(slice_from.as_ref()).await?;
            for reference in &key_values {
                if found == limit {
                    more = true;
                    break 'walk;
                }
                found += 1;
                body_len += self.field_len(reference);
                last_key = Some(reference.key().into());
            }
            match next {
                Some(next) => slice_from = Some(next),
                None => break,
            }
        }
        let count = match (more, self.read.count) {
            (false, _) => i64::try_from(found).expect("keys are counted in 63 bits"),
            (true, Some(count)) => count,
            (true, None) => {
                let found = i64::try_from(found).expect("keys are counted in 63 bits");
                self.count_from(last_key.as_ref(), found).await?
            }
        };
        self.remember_page(last_key.as_deref(), found, more, count)
            .await;
        let summary = self.summary(more, count);
        Ok(Prepared::InSlices {
            summary,
            body_len,
            limit,
        })
    }

    /// Key-values from here on (from the start: the slice that came with the open).
    async fn slice(&mut self, from: Option<&Key>) -> Result<(Vec<KeyValueRef>, Option<Key>), Stop> {
        let bounds = match from {
            None if !self.read.first.key_values.is_empty() => {
                let first = std::mem::take(&mut self.read.first);
                return Ok((first.key_values, first.next));
            }
            None => self.bounds.clone(),
            Some(key) => self.bounds.resume_at(key),
        };
        let pin = &self.read.pin;
        let slice = self
            .context
            .handle
            .read_slice(bounds, pin, SLICE_KEY_VALUES_MAX)
            .await?;
        Ok((slice.key_values, slice.next))
    }

    async fn collect_and_arrange(&mut self) -> Result<Prepared, Stop> {
        let fetch_limit = self.plan.fetch_limit().unwrap_or(usize::MAX);
        let mut fetched = Vec::new();
        let mut from = None;
        let mut total = 0;
        loop {
            let (key_values, next) = self.slice(from.as_ref()).await?;
            total += key_values.len();
            fetched.extend(key_values.into_iter().filter(|kv| self.plan.keeps(kv)));
            fetched.truncate(fetch_limit);
            match next {
                Some(next) if fetched.len() < fetch_limit => from = Some(next),
                Some(_) => {
                    from = None;
                    total = usize::MAX;
                    break;
                }
                None => break,
            }
        }
        drop(from);
        let count = match self.read.count {
            Some(count) => count,
            None if total == usize::MAX => self.count_from(None, 0).await?,
            None => i64::try_from(total).expect("keys are counted in 63 bits"),
        };
        if self.plan.sorts_by_value() {
            self.context
                .handle
                .values()
                .make_resident(&mut fetched)
                .await;
        }
        let (key_values, more) = self.plan.arrange(fetched);
        Ok(Prepared::Whole(self.summary(more, count), key_values))
    }

    /// The count for a page whose references are at hand.
    async fn count_after(
        &mut self,
        page: &[KeyValueRef],
        found: usize,
        more: bool,
    ) -> Result<i64, Stop> {
        let found = i64::try_from(found).expect("keys are counted in 63 bits");
        let last: Option<Key> = page.last().map(|reference| reference.key().into());
        let count = match self.read.count {
            Some(count) => count,
            None if !more => found,
            None => {
                let shown = i64::try_from(page.len()).expect("keys are counted in 63 bits");
                self.count_from(last.as_ref(), shown).await?
            }
        };
        self.remember_page(last.as_deref(), page.len(), more, count)
            .await;
        Ok(count)
    }

    /// What lies behind `after`, added to what was counted before.
    async fn count_from(&self, after: Option<&Key>, before: i64) -> Result<i64, Stop> {
        if after.is_none()
            && let Some(count) = self.read.count
        {
            return Ok(count);
        }
        let mut total = before;
        let mut bounds = match after.map(|key| successor(key)) {
            Some(next) if !self.bounds.contains(&next) => return Ok(total),
            Some(next) => self.bounds.resume_at(&next),
            None => self.bounds.clone(),
        };
        loop {
            let slice = self
                .context
                .handle
                .count_slice(bounds, &self.read.pin)
                .await?;
            total += slice.count;
            match slice.next {
                Some(next) => bounds = self.bounds.resume_at(&next),
                None => return Ok(total),
            }
        }
    }

    /// The next page at this revision need not count again.
    async fn remember_page(&self, last: Option<&[u8]>, shown: usize, more: bool, count: i64) {
        let Some(last) = last.filter(|_| more) else {
            return;
        };
        let next = successor(last).to_vec();
        let remaining = count - i64::try_from(shown).expect("keys are counted in 63 bits");
        let KeyRange { range_end, .. } = &self.range.range;
        let revision = self.read.pin.revision();
        self.context
            .handle
            .remember_count(range_end.clone(), revision, next, remaining)
            .await;
    }

    fn summary(&self, more: bool, count: i64) -> Summary {
        let header = self.context.handle.view().header(self.read.header_revision);
        Summary {
            header,
            more,
            count,
        }
    }

    /// A small answer as one frame.
    async fn whole(
        &self,
        summary: &Summary,
        mut key_values: Vec<KeyValueRef>,
    ) -> Result<Bytes, Status> {
        let body_len: u64 = key_values
            .iter()
            .map(|reference| self.field_len(reference))
            .sum();
        let (head, tail) = around(summary);
        let length = head.len() as u64 + body_len + tail.len() as u64;
        let capacity = FRAME_HEADER_BYTES + usize::try_from(length).expect("it fits in memory");
        let frame = frame_header(length)?;
        if self.plan.projection() == Projection::Whole {
            self.context
                .handle
                .values()
                .make_resident(&mut key_values)
                .await;
        }
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.put_slice(&frame);
        buffer.put_slice(&head);
        for reference in &key_values {
            put_key_value(&self.encoded(reference), &mut buffer);
        }
        buffer.put_slice(&tail);
        assert_eq!(buffer.len(), capacity, "lengths were summed wrongly");
        Ok(buffer.freeze())
    }

    /// The second pass of a large unary answer: one message in many chunks.
    async fn stream_one(
        &mut self,
        sender: &BodySender,
        summary: Summary,
        body_len: u64,
        limit: usize,
    ) -> Result<(), Stop> {
        let (head, tail) = around(&summary);
        let length = head.len() as u64 + body_len + tail.len() as u64;
        let mut buffer = BytesMut::with_capacity(2 * BODY_CHUNK_BYTES);
        buffer.put_slice(&frame_header(length)?);
        buffer.put_slice(&head);
        let mut written = 0;
        let mut left = limit;
        let mut from = None;
        while left > 0 {
            let (mut key_values, next) = self.slice(from.as_ref()).await?;
            key_values.truncate(left);
            left -= key_values.len();
            written += self.write_chunks(sender, &mut buffer, key_values).await?;
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        assert_eq!(
            written, body_len,
            "a pinned revision changed between two passes"
        );
        buffer.put_slice(&tail);
        sender.send(buffer.freeze()).await?;
        Ok(())
    }

    async fn write_chunks(
        &self,
        sender: &BodySender,
        buffer: &mut BytesMut,
        mut key_values: Vec<KeyValueRef>,
    ) -> Result<u64, Stop> {
        if self.plan.projection() == Projection::Whole {
            self.context
                .handle
                .values()
                .make_resident(&mut key_values)
                .await;
        }
        let mut written = 0;
        for reference in &key_values {
            written += self.field_len(reference);
            put_key_value(&self.encoded(reference), buffer);
            if buffer.len() >= BODY_CHUNK_BYTES {
                sender.send(buffer.split().freeze()).await?;
                buffer.reserve(2 * BODY_CHUNK_BYTES);
            }
        }
        Ok(written)
    }

    /// The messages of RangeStream: key-values alone, then a last message that
    /// carries header, more and count (contract 1.5).
    async fn stream_messages(&mut self, sender: &BodySender) -> Result<(), Stop> {
        if self.plan.count_only() {
            let count = self.count_from(None, 0).await?;
            sender
                .send(last_message(&self.summary(false, count), Vec::new())?)
                .await?;
            return Ok(());
        }
        let message_bytes = self.context.options.request_bytes_max as u64;
        let limit = self.plan.limit().unwrap_or(usize::MAX);
        let mut keys_max = STREAM_FIRST_KEYS;
        let mut waiting: Vec<KeyValueRef> = Vec::new();
        let mut waiting_bytes = 0;
        let (mut shown, mut more) = (0, false);
        let mut last: Option<Key> = None;
        let mut from = None;
        'walk: loop {
            let (key_values, next) = self.slice(from.as_ref()).await?;
            for reference in key_values {
                if shown == limit {
                    more = true;
                    break 'walk;
                }
                // Only what is followed by another one may go out: the last
                // message is never empty unless all are.
                if waiting.len() >= keys_max || waiting_bytes >= message_bytes {
                    let full = std::mem::take(&mut waiting);
                    keys_max = next_keys_max(keys_max, waiting_bytes, message_bytes);
                    waiting_bytes = 0;
                    let full = self.arranged(full).await;
                    let message = self.stream_message(full).await;
                    sender.send(frame_message(&message)?).await?;
                }
                shown += 1;
                waiting_bytes += self.field_len(&reference);
                last = Some(reference.key().into());
                waiting.push(reference);
            }
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        let count = match (more, self.read.count) {
            (_, Some(count)) => count,
            (false, None) => i64::try_from(shown).expect("keys are counted in 63 bits"),
            (true, None) => {
                let shown = i64::try_from(shown).expect("keys are counted in 63 bits");
                self.count_from(last.as_ref(), shown).await?
            }
        };
        self.remember_page(last.as_deref(), shown, more, count)
            .await;
        let rest = self.arranged(waiting).await;
        let rest = self.messages(rest).await;
        sender
            .send(last_message(&self.summary(more, count), rest)?)
            .await?;
        Ok(())
    }

    /// A sort target without an order is no custom order: etcd then sorts within
    /// each message.
    async fn arranged(&self, mut references: Vec<KeyValueRef>) -> Vec<KeyValueRef> {
        if self.plan.sorts_by_value() {
            let values = self.context.handle.values();
            values.make_resident(&mut references).await;
        }
        self.plan.arrange(references).0
    }

    async fn stream_message(&self, references: Vec<KeyValueRef>) -> pb::RangeStreamResponse {
        let kvs = self.messages(references).await;
        pb::RangeStreamResponse {
            range_response: Some(pb::RangeResponse {
                kvs,
                ..Default::default()
            }),
        }
    }

    async fn messages(&self, mut references: Vec<KeyValueRef>) -> Vec<kvproto::mvccpb::KeyValue> {
        if self.plan.projection() == Projection::Whole {
            self.context
                .handle
                .values()
                .make_resident(&mut references)
                .await;
        }
        references
            .iter()
            .map(|reference| convert::key_value(&self.encoded(reference)))
            .collect()
    }

    fn encoded(&self, reference: &KeyValueRef) -> EncodedKeyValue {
        projected(reference, self.plan.projection())
    }

    /// Bytes of one key-value in the answer.
    fn field_len(&self, reference: &KeyValueRef) -> u64 {
        let length = match self.plan.projection() {
            Projection::Whole => reference.encoded_len(),
            _ => self.encoded(reference).0.len(),
        };
        (1 + encoded_len_varint(length as u64) + length) as u64
    }
}

/// Doubles while messages are small, halves when they are large (contract 1.5).
fn next_keys_max(keys_max: usize, bytes: u64, wanted: u64) -> usize {
    if bytes < wanted / 2 {
        keys_max.saturating_mul(2)
    } else if bytes > wanted.saturating_mul(2) {
        (keys_max / 2).max(1)
    } else {
        keys_max
    }
}

fn last_message(summary: &Summary, kvs: Vec<kvproto::mvccpb::KeyValue>) -> Result<Bytes, Status> {
    let response = pb::RangeResponse {
        kvs,
        ..summary.message()
    };
    frame_message(&pb::RangeStreamResponse {
        range_response: Some(response),
    })
}

/// What is encoded before and after the key-values (fields 1, and 3 and 4).
fn around(summary: &Summary) -> (Vec<u8>, Vec<u8>) {
    let head = pb::RangeResponse {
        header: Some(summary.header),
        ..Default::default()
    };
    let tail = pb::RangeResponse {
        header: None,
        ..summary.message()
    };
    (head.encode_to_vec(), tail.encode_to_vec())
}

fn put_key_value(encoded: &EncodedKeyValue, buffer: &mut BytesMut) {
    buffer.put_u8(KVS_TAG);
    encode_varint(encoded.0.len() as u64, buffer);
    buffer.put_slice(&encoded.0);
}

/// The first key behind `key`.
fn successor(key: &[u8]) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
