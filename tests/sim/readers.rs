//! Readers that go on over many steps: pinned reads in slices, and watchers that
//! follow the ring or catch up from the store.

use std::sync::Arc;

use storage::mvcc::Bounds;
use storage::types::{KeyValueRef, RevisionEvents};

use crate::answer::{Answer, KeyValue};
use crate::bugs::{self, Bug};
use crate::engine::{OpenedRead, Pin, Rejected};
use crate::history::durable::everything;
use crate::history::reads;
use crate::history::watch::Watched;
use crate::host::Request;
use crate::member::Member;
use crate::run::{Run, Stop};

/// Events that the ring keeps.
const RING_REVISIONS: usize = 12;
/// Revisions that a watcher takes at once.
const REVISIONS_AT_ONCE: usize = 5;
const SLOW_READS_MAX: usize = 4;
const WATCHERS_MAX: usize = 5;

/// A read of all keys at one revision, a few at a time. What a slice gives is
/// encoded one step later.
pub struct SlowRead {
    pin: Pin,
    rest: Option<Bounds>,
    held: Vec<KeyValueRef>,
    found: Vec<KeyValue>,
    expected: Vec<KeyValue>,
}

impl Run {
    pub fn publish(&mut self, events: Arc<RevisionEvents>) {
        if let Some(last) = self.ring.back() {
            assert_eq!(
                last.revision + 1,
                events.revision,
                "a revision was skipped on its way to the ring"
            );
        }
        self.ring.push_back(events);
        if self.ring.len() > RING_REVISIONS {
            self.ring.pop_front();
        }
    }

    /// Opens a slow read or takes one a step further.
    pub fn slow_read(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        if self.slow_reads.len() < SLOW_READS_MAX && self.random.chance(1, 3) {
            let wanted = self.clients().revision();
            return self.open_slow_read(member, wanted);
        }
        let count = self.slow_reads.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let at = usize::try_from(self.random.below(count)).unwrap();
        let mut read = self.slow_reads.swap_remove(at);
        if read.pin.is_revoked() {
            return Ok(());
        }
        let held = std::mem::take(&mut read.held);
        read.found.extend(member.key_values(&held)?);
        let Some(rest) = read.rest.take() else {
            self.stats.reads += 1;
            reads::check_slices(read.pin.revision(), &read.expected, &read.found)?;
            return Ok(());
        };
        let (bounds, pin) = (rest.clone(), read.pin.clone());
        let slice = member.ask_now(|reply| Request::ReadSlice {
            bounds,
            pin,
            limit: 2,
            reply,
        })?;
        let slice = slice.expect("the pin holds");
        read.held = slice.key_values;
        read.rest = slice.next.map(|key| rest.resume_at(&key));
        self.slow_reads.push(read);
        Ok(())
    }

    fn open_slow_read(&mut self, member: &mut Member, wanted: i64) -> Result<(), Stop> {
        let range = everything(wanted);
        let first_slice = usize::try_from(self.random.below(3)).unwrap();
        let expected = self.durable.model.stand_alone_range(&range);
        let opened = member.ask_now(|reply| Request::OpenRead {
            range,
            linearizable: true,
            first_slice,
            reply,
        })?;
        let (opened, expected) = match (opened, expected) {
            (Ok(opened), Answer::Range { key_values, .. }) => (opened, key_values),
            (Err(Rejected::Refusal(_)), Answer::Refused(_)) => return Ok(()),
            (opened, expected) => {
                return Err(Stop::Violation(format!(
                    "a read at {wanted} is answered {opened:?}, expected {expected:?}"
                )));
            }
        };
        let OpenedRead {
            pin, first, count, ..
        } = opened;
        if let Some(count) = count
            && count != i64::try_from(expected.len()).unwrap()
        {
            let text = format!("a read counts {count}, expected {}", expected.len());
            return Err(Stop::Violation(text));
        }
        self.note(format_args!("slow read at {}", pin.revision()));
        self.slow_reads.push(SlowRead {
            pin,
            rest: first.next.map(|key| Bounds::everything().resume_at(&key)),
            held: first.key_values,
            found: Vec::new(),
            expected,
        });
        Ok(())
    }

    /// Starts a watcher or lets one receive.
    pub fn watch(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        if self.watchers.len() < WATCHERS_MAX && self.random.chance(1, 4) {
            let next = self.clients().revision().max(2);
            self.watchers.push(Watched { next });
            return Ok(());
        }
        let count = self.watchers.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let at = usize::try_from(self.random.below(count)).unwrap();
        self.receive(member, at)?;
        Ok(())
    }

    /// One watcher takes what there is; true when it received something.
    fn receive(&mut self, member: &mut Member, at: usize) -> Result<bool, Stop> {
        let mut watcher = self.watchers[at].clone();
        let compacted = member.mvcc().compacted_revision();
        let in_ring = self
            .ring
            .front()
            .is_some_and(|first| first.revision <= watcher.next);
        if !in_ring && watcher.next < compacted {
            // Cancelled; its client lists and watches anew.
            self.note(format_args!("watcher at {} is compacted", watcher.next));
            self.watchers[at] = Watched {
                next: member.mvcc().current_revision() + 1,
            };
            return Ok(true);
        }
        let revisions: Vec<_> = if in_ring {
            let ring = self.ring.iter();
            let from_next = ring.filter(|events| events.revision >= watcher.next);
            from_next.take(REVISIONS_AT_ONCE).cloned().collect()
        } else {
            let history = member.history(watcher.next, REVISIONS_AT_ONCE)?;
            let skipped = usize::from(bugs::planted(Bug::WatcherSkipsRevision));
            let revisions = history.revisions.into_iter().skip(skipped);
            revisions.map(Arc::new).collect()
        };
        let any = !revisions.is_empty();
        for events in revisions {
            let changes = member.changes(&events)?;
            self.stats.events += changes.1.len() as u64;
            watcher.received(&self.durable.events, changes, compacted)?;
        }
        self.watchers[at] = watcher;
        Ok(any)
    }

    /// Every watcher receives everything that happened.
    pub fn drain_watchers(&mut self, member: &mut Member) -> Result<(), Stop> {
        for at in 0..self.watchers.len() {
            while self.receive(member, at)? {}
            let current = member.mvcc().current_revision();
            let next = self.watchers[at].next;
            if next <= current {
                return Err(Stop::Violation(format!(
                    "a watcher waits for revision {next}, the current one is {current}"
                )));
            }
        }
        Ok(())
    }
}
