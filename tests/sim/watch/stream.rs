//! One watch stream, a step at a time: between any two steps the member may write,
//! compact, purge and clean, as it does while a real stream waits for its client.
//!
//! Who gets what of the ring, of history and of progress, and what is read next, is decided
//! by the production `watchers.rs` and `cursor.rs`; what is mirrored of
//! `server/src/watch/{stream,catch_up,deliver}.rs` is the order of awaits: what is sent
//! before the next is read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kvproto::etcdserverpb::WatchCreateRequest;
use kvproto::etcdserverpb::watch_create_request::FilterType;
use storage::error::Fatal;
use storage::types::{Event, RevisionEvents};

use super::cursor::{Behind, Cursor};
use super::hub::{Hub, Signal};
use super::range_index::KeyInterval;
use super::watchers::{Watcher, Watchers};
use crate::answer::Change;
use crate::bugs::{self, Bug};
use crate::engine::History;
use crate::history::watch::Interest;
use crate::member::Member;

/// Revisions taken from the ring under one lock.
const RING_BATCH_REVISIONS: usize = 5;
/// Events of history read for one catch-up step.
const HISTORY_EVENTS: usize = 5;

/// What a client receives.
#[derive(Debug)]
pub enum Message {
    /// Events of this watcher, each with its revision.
    Events(i64, Vec<(i64, Change)>),
    /// Everything up to here was sent to this watcher.
    Progress(i64, i64),
    /// The watcher is cancelled: what it waits for is compacted.
    Compacted(i64, i64),
}

#[derive(Debug, Default)]
pub struct Stream {
    watchers: Watchers,
    signal: Arc<Signal>,
    cursor: Cursor,
    /// Taken from the ring, not sent yet.
    batch: VecDeque<Arc<RevisionEvents>>,
    /// Read for those behind, not sent yet.
    history: Option<History>,
    pub sent: Vec<Message>,
}

impl Stream {
    pub fn new(position: i64) -> Stream {
        Stream {
            cursor: Cursor::new(position),
            ..Stream::default()
        }
    }

    /// True when the stream takes requests: nothing that it read is left to be sent.
    pub fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.history.is_none() && !self.cursor.is_reading()
    }

    /// A new watcher; its id and the revision it begins at.
    pub fn create(&mut self, hub: &Hub, interest: &Interest, start: i64) -> (i64, i64) {
        let mut filters = Vec::new();
        if interest.no_put {
            filters.push(FilterType::Noput as i32);
        }
        if interest.no_delete {
            filters.push(FilterType::Nodelete as i32);
        }
        let request = WatchCreateRequest {
            key: interest.key.clone().into(),
            range_end: interest.range_end.clone().into(),
            start_revision: start,
            progress_notify: true,
            prev_kv: interest.prev_kv,
            filters,
            ..WatchCreateRequest::default()
        };
        let interval = KeyInterval {
            key: Bytes::from(interest.key.clone()),
            range_end: Bytes::from(interest.range_end.clone()),
        };
        let id = self.watchers.choose_id(0).expect("it chooses by itself");
        let published = hub.register(&interval, &self.signal);
        let next = if start == 0 { published + 1 } else { start };
        self.watchers
            .insert(id, Watcher::new(&request, interval, next));
        if self.deliver_news(hub) && next > self.cursor.position() {
            self.watchers.mark_synced(id);
        }
        (id, next)
    }

    /// Takes one step: sends a part of what was read, or reads on.
    pub fn step(&mut self, member: &mut Member) -> Result<(), Fatal> {
        if let Some(revision) = self.batch.pop_front() {
            return self.send_live(&revision, member);
        }
        if let Some(history) = self.history.take() {
            return self.send_history(&history, member);
        }
        if !self.deliver_news(&member.host.hub) {
            return Ok(());
        }
        self.catch_up(member)
    }

    /// True when nothing published is left to be read from the ring.
    fn deliver_news(&mut self, hub: &Hub) -> bool {
        let (signal, watchers) = (&self.signal, &mut self.watchers);
        match self
            .cursor
            .take(hub, signal, watchers, RING_BATCH_REVISIONS)
        {
            Some(batch) => {
                self.batch = batch.into();
                false
            }
            None => true,
        }
    }

    fn send_live(&mut self, revision: &RevisionEvents, member: &Member) -> Result<(), Fatal> {
        let mut matches = Vec::new();
        self.watchers.takers(revision, &mut matches);
        for of_one in matches.chunk_by(|one, next| one.0 == next.0) {
            let id = of_one[0].0;
            let watcher = self.watchers.get_mut(id).expect("it was just matched");
            let events = of_one.iter().map(|(_, place)| &revision.events[*place]);
            let changes = changes(member, events, watcher.prev_kv)?;
            self.send(id, changes);
        }
        self.cursor.gave(revision.revision);
        Ok(())
    }

    fn send(&mut self, id: i64, changes: Vec<(i64, Change)>) {
        if !changes.is_empty() {
            let watcher = self.watchers.get_mut(id).expect("it is served");
            watcher.spoke = true;
            self.sent.push(Message::Events(id, changes));
        }
    }

    fn catch_up(&mut self, member: &mut Member) -> Result<(), Fatal> {
        match self.cursor.behind(&self.watchers) {
            Behind::Nobody => {}
            Behind::Arrived => self.watchers.sync_arrived(self.cursor.position()),
            Behind::Needs(from) => self.history = Some(member.history(from, HISTORY_EVENTS)?),
        }
        Ok(())
    }

    fn send_history(&mut self, history: &History, member: &Member) -> Result<(), Fatal> {
        for id in self.watchers.lost(history.compacted_revision) {
            self.watchers.remove(id).expect("it was just listed");
            let compacted = history.compacted_revision;
            self.sent.push(Message::Compacted(id, compacted));
        }
        let through = self.cursor.used_through(history.through);
        let skipped = usize::from(bugs::planted(Bug::WatcherSkipsRevision));
        for id in self.watchers.behind_up_to(through) {
            let watcher = self.watchers.get_mut(id).expect("it was just listed");
            let next = watcher.next_revision;
            let revisions = history.revisions.iter().skip(skipped);
            let events = revisions
                .filter(|events| events.revision <= through && events.revision >= next)
                .flat_map(|events| &events.events);
            let wanted = events.filter(|event| watcher.wants(event));
            let changes = changes(member, wanted, watcher.prev_kv)?;
            watcher.next_revision = through + 1;
            self.send(id, changes);
        }
        self.watchers.sync_arrived(self.cursor.position());
        Ok(())
    }

    /// The timer of progress notifications, when nothing is on its way.
    pub fn notify_progress(&mut self) {
        let early = bugs::planted(Bug::ProgressBeforeEvents);
        if !self.is_idle() && !early {
            return;
        }
        let position = if early {
            let last = self.batch.back().map(|events| events.revision);
            last.unwrap_or(self.cursor.position())
        } else {
            self.cursor.position()
        };
        for id in self.watchers.quiet(position) {
            self.sent.push(Message::Progress(id, position));
        }
    }

    /// A client asks how far the stream is; answered with the id -1, or not at all.
    pub fn answer_progress_request(&mut self) {
        if self.is_idle() && self.watchers.all_reached(self.cursor.position()) {
            self.sent
                .push(Message::Progress(-1, self.cursor.position()));
        }
    }

    /// True when everything up to this revision was sent to everyone.
    pub fn has_reached(&self, revision: i64) -> bool {
        self.is_idle() && self.cursor.position() >= revision && !self.watchers.any_behind()
    }
}

fn changes<'a>(
    member: &Member,
    events: impl Iterator<Item = &'a Event>,
    prev_kv: bool,
) -> Result<Vec<(i64, Change)>, Fatal> {
    events
        .map(|event| Ok((event.meta.revision.main, member.change(event, prev_kv)?)))
        .collect()
}
