//! Range and RangeStream: answers of any size in bounded memory (design, section
//! 4, "range"; contract 1.5).
//!
//! A small answer is one frame. A large one is read twice: the first pass sums
//! the encoded lengths, since gRPC says a message's length before its bytes; the
//! second streams chunks of [`BODY_CHUNK_BYTES`]. Between slices a reader holds a
//! pin and a key, not key-values. Only answers that must be sorted or filtered
//! collect their references.

mod body;
mod deferred;
mod stream;

pub(super) use deferred::{Made, Measured, make as make_deferred};

use std::sync::Arc;
use std::time::Instant;

use http::Response;
use kvproto::etcdserverpb as pb;
use storage::apply::Plan;
use storage::apply::command::{KeyRange, Range, SortOrder, SortTarget};
use storage::mvcc::Bounds;
use storage::types::{Key, KeyValueRef};
use tonic::Status;

use super::convert;
use super::grpc::{AnswerBody, BodySender, Closed, streaming, unary};
use super::{Context, validate};
use crate::runtime::{OpenedRead, SLICE_KEY_VALUES_MAX};

/// Bytes of key-values up to which an answer is put together before it leaves.
pub(super) const WHOLE_BYTES_MAX: u64 = 256 << 10;

/// Key-values of a large answer taken at a time: the copies of these stand before the next
/// step of a write.
const PART_KEY_VALUES: usize = 128;

/// Values that one answer brings into memory at a time.
pub(super) const FETCH_KEY_VALUES_MAX: usize = 32;

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
pub(super) async fn unary_range(
    context: &Context,
    request: pb::RangeRequest,
) -> Response<AnswerBody> {
    match open(context, request).await {
        Ok((range, plan, read)) => answer(context, range, plan, read).await,
        Err(status) => unary(Err(status)),
    }
}

/// The streaming call.
pub(super) async fn range_stream(
    context: &Context,
    request: pb::RangeRequest,
) -> Response<AnswerBody> {
    if let Err(status) = check_streamable(&request) {
        return unary(Err(status));
    }
    let began = Instant::now();
    match open(context, request).await {
        Ok((range, plan, read)) => {
            let (sender, response) = streaming();
            let context = context.clone();
            tokio::spawn(async move {
                let metrics = Arc::clone(context.handle.metrics());
                let mut reader = Reader::new(context, range, plan, read);
                finish(sender.clone(), reader.stream_messages(&sender).await).await;
                let duration = &metrics.member.range_duration;
                duration.observe_seconds(began.elapsed());
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

/// Ends an answer as its writer ended.
pub(super) async fn finish(sender: BodySender, end: Result<(), Stop>) {
    match end {
        Ok(()) => sender.end(Status::new(tonic::Code::Ok, "")).await,
        Err(Stop::Gone) => {}
        Err(Stop::Failed(status)) => sender.end(status).await,
    }
}

async fn answer(
    context: &Context,
    range: Range,
    plan: Plan,
    read: OpenedRead,
) -> Response<AnswerBody> {
    let mut reader = Reader::new(context.clone(), range, plan, read);
    match reader.prepare().await {
        Ok(Prepared::Whole(summary, key_values)) => {
            let body_len = reader.fields_len(&key_values);
            if body_len <= WHOLE_BYTES_MAX {
                return unary(reader.whole(&summary, body_len, key_values).await);
            }
            let (sender, response) = streaming();
            tokio::spawn(async move {
                let end = reader.stream_collected(&sender, summary, body_len, key_values);
                finish(sender.clone(), end.await).await;
            });
            response
        }
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
            return Box::pin(self.collect_and_arrange()).await;
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
        Box::pin(self.measure(limit)).await
    }

    /// The first pass: lengths, and whether there is more than the limit.
    async fn measure(&mut self, limit: usize) -> Result<Prepared, Stop> {
        let mut body_len = 0;
        let mut found = 0;
        let mut last_key: Option<Key> = None;
        let mut more = false;
        let mut rest = Some(self.bounds.clone());
        while let Some(bounds) = rest.take() {
            let (pin, projection) = (&self.read.pin, self.plan.projection());
            let handle = &self.context.handle;
            let slice = handle.measure_slice(bounds, pin, limit - found, projection);
            let slice = slice.await?;
            found += slice.key_values;
            body_len += slice.bytes;
            last_key = slice.last.or(last_key);
            more = slice.more;
            let next = slice.next.filter(|_| !more);
            rest = next.map(|key| self.bounds.resume_at(&key));
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
            .read_slice(bounds, pin, PART_KEY_VALUES)
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
            let values = self.context.handle.values();
            values.make_resident(&mut fetched, &self.read.pin).await?;
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
        if !more {
            return Ok(self.read.count.unwrap_or(found));
        }
        let last: Option<Key> = page.last().map(|reference| reference.key().into());
        let count = match self.read.count {
            Some(count) => count,
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
        // In the midst of a transaction there are no pages.
        let at = self.read.pin.at();
        if !at.is_whole() {
            return;
        }
        let next = successor(last).to_vec();
        let remaining = count - i64::try_from(shown).expect("keys are counted in 63 bits");
        let KeyRange { range_end, .. } = &self.range.range;
        self.context
            .handle
            .remember_count(range_end.clone(), at.revision(), next, remaining)
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

    /// Bytes of these key-values in the answer.
    fn fields_len(&self, references: &[KeyValueRef]) -> u64 {
        references
            .iter()
            .map(|reference| self.field_len(reference))
            .sum()
    }
}

/// The first key behind `key`.
fn successor(key: &[u8]) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
