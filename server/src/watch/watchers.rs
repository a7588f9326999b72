//! The watchers of one stream: their cursors, filters and ids, and who gets what of the
//! ring, of history and of progress. Decides and sends nothing; the stream's task and the
//! simulation's do.
//!
//! Owned by the stream's task. Invariants: a synced watcher has been given (or
//! filtered) every event from its start up to the stream's position; a watcher
//! that catches up has been given everything before `next_revision`.

use std::collections::BTreeMap;

use kvproto::etcdserverpb::WatchCreateRequest;
use kvproto::etcdserverpb::watch_create_request::FilterType;
use storage::planted::{Bug, planted};
use storage::types::{Event, RevisionEvents};

use super::range_index::{KeyInterval, RangeIndex};

/// One watcher: a cursor and what it wants to see.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) interval: KeyInterval,
    /// The first revision not yet delivered. Of a synced watcher this is only a
    /// lower bound: its start, which may lie in the future.
    pub(super) next_revision: i64,
    pub(super) synced: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
    /// Something was sent since the last progress interval.
    pub(super) spoke: bool,
    no_put: bool,
    no_delete: bool,
}

impl Watcher {
    pub(super) fn new(request: &WatchCreateRequest, interval: KeyInterval, next: i64) -> Watcher {
        let filters = |wanted| request.filters.contains(&(wanted as i32));
        Watcher {
            interval,
            next_revision: next,
            synced: false,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            spoke: false,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
        }
    }

    /// True when the watcher's filters let the event pass.
    pub(super) fn passes(&self, event: &Event) -> bool {
        if event.meta.tombstone {
            !self.no_delete
        } else {
            !self.no_put || planted(Bug::NoPutIgnored)
        }
    }

    /// True for an event of history that is the watcher's.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.interval.contains(&event.meta.key) && self.passes(event)
    }

    /// True when every event up to the stream's position was sent to it.
    fn has_reached(&self, position: i64) -> bool {
        self.synced && self.next_revision <= position + 1
    }
}

/// How many events go into the next fragment, given the size of a response without events
/// and those of the events. One always goes, however large.
pub(super) fn fragment_events(
    head_bytes: usize,
    event_bytes: impl Iterator<Item = usize>,
    fragment_bytes: usize,
) -> usize {
    let mut size = head_bytes;
    let fitting = event_bytes.take_while(|bytes| {
        size += bytes;
        size < fragment_bytes
    });
    fitting.count().max(1)
}

/// The watchers of one stream by id.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_id: BTreeMap<i64, Watcher>,
    /// Synced watchers by what they are interested in.
    synced: RangeIndex<i64>,
    /// How many are not synced.
    behind: usize,
    next_id: i64,
}

impl Watchers {
    /// The id for a new watcher: the wanted one, or the next automatic one for 0
    /// (the first automatic one is 0; contract 1.9). None when it is in use.
    pub(super) fn choose_id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.by_id.contains_key(&wanted)).then_some(wanted);
        }
        while self.by_id.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        Some(id)
    }

    pub(super) fn insert(&mut self, id: i64, watcher: Watcher) {
        assert!(!watcher.synced, "a watcher is filed before it is synced");
        let before = self.by_id.insert(id, watcher);
        assert!(before.is_none(), "watch id {id} was in use");
        self.behind += 1;
    }

    pub(super) fn remove(&mut self, id: i64) -> Option<Watcher> {
        let watcher = self.by_id.remove(&id)?;
        if watcher.synced {
            self.synced.remove(&watcher.interval, &id);
        } else {
            self.behind -= 1;
        }
        Some(watcher)
    }

    /// From now on the watcher is served from the stream's position.
    pub(super) fn mark_synced(&mut self, id: i64) {
        let watcher = self
            .by_id
            .get_mut(&id)
            .expect("only a present watcher is synced");
        assert!(!watcher.synced);
        watcher.synced = true;
        self.behind -= 1;
        self.synced.insert(&watcher.interval, id);
    }

    /// All synced watchers fall back to catching up from `next` on.
    pub(super) fn fall_behind(&mut self, next: i64) {
        self.synced = RangeIndex::default();
        for watcher in self.by_id.values_mut().filter(|watcher| watcher.synced) {
            watcher.synced = false;
            if !planted(Bug::WatcherRepeats) {
                watcher.next_revision = watcher.next_revision.max(next);
            }
            self.behind += 1;
        }
    }

    pub(super) fn get_mut(&mut self, id: i64) -> Option<&mut Watcher> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Watcher)> {
        self.by_id.iter().map(|(id, watcher)| (*id, watcher))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many still catch up.
    pub(super) fn behind(&self) -> usize {
        self.behind
    }

    /// True when some watcher still catches up.
    pub(super) fn any_behind(&self) -> bool {
        self.behind > 0
    }

    /// Which synced watcher gets which event of a revision, as (id, place of the event),
    /// ascending: each gets its events in their order.
    pub(super) fn takers(&self, revision: &RevisionEvents, into: &mut Vec<(i64, usize)>) {
        into.clear();
        for (place, event) in revision.events.iter().enumerate() {
            self.synced.matching(&event.meta.key, |id| {
                let watcher = self.by_id.get(id);
                let watcher = watcher.expect("only a present watcher is synced");
                if revision.revision >= watcher.next_revision && watcher.passes(event) {
                    into.push((*id, place));
                }
            });
        }
        into.sort_unstable();
    }

    /// The first revision that some watcher behind has still to get; None when there is none.
    pub(super) fn next_behind(&self) -> Option<i64> {
        let behind = self.by_id.values().filter(|watcher| !watcher.synced);
        behind.map(|watcher| watcher.next_revision).min()
    }

    /// Watchers behind for which this holds.
    fn behind_where(&self, holds: impl Fn(&Watcher) -> bool) -> Vec<i64> {
        let behind = self.iter().filter(|(_, watcher)| !watcher.synced);
        let chosen = behind.filter(|(_, watcher)| holds(watcher));
        chosen.map(|(id, _)| id).collect()
    }

    /// Those for whom compaction was faster.
    pub(super) fn lost(&self, compacted_revision: i64) -> Vec<i64> {
        self.behind_where(|watcher| watcher.next_revision < compacted_revision)
    }

    /// Those that history up to this revision brings on.
    pub(super) fn behind_up_to(&self, through: i64) -> Vec<i64> {
        self.behind_where(|watcher| watcher.next_revision <= through)
    }

    /// Watchers that need no history any more join the synced ones.
    pub(super) fn sync_arrived(&mut self, position: i64) {
        for id in self.behind_where(|watcher| watcher.next_revision > position) {
            self.mark_synced(id);
        }
    }

    /// Contract 1.9: a progress request is answered only when every watcher is synced and
    /// has reached its start; everything up to the position was sent before.
    pub(super) fn all_reached(&self, position: i64) -> bool {
        let mut all = self.by_id.values();
        !self.is_empty() && all.all(|watcher| watcher.has_reached(position))
    }

    /// Those that are told progress by the timer: nothing was sent to them since the last
    /// time it was asked.
    pub(super) fn quiet(&mut self, position: i64) -> Vec<i64> {
        let mut quiet = Vec::new();
        for (id, watcher) in &mut self.by_id {
            let told = watcher.progress_notify && watcher.has_reached(position);
            if told && !watcher.spoke {
                quiet.push(*id);
            }
            watcher.spoke = false;
        }
        quiet
    }
}
