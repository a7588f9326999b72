//! Histories as an honest member gives them: clients that overlap, some of whose calls are
//! never answered (carried out or not), leases that end, watches, compactions; from one seed.
//! The member is the naive model, carried out at one instant between invocation and answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use storage::apply::command::{
    Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp, Txn,
};
use storage::types::LeaseId;
use storage::vfs::sim::SplitMix64;

use crate::answer::{Answer, Change};
use crate::history::durable::everything;
use crate::history::record::{Answered, Call, History, Received, Request, Watch};
use crate::model::Model;

const CLIENTS: usize = 6;
const STEPS: usize = 450;

struct World {
    random: SplitMix64,
    now: Duration,
    model: Model,
    history: History,
    /// Per client the call under way and what it will be answered.
    under_way: Vec<Option<(usize, Option<Answered>)>>,
    /// Calls that were given up and may still be carried out.
    ghosts: Vec<usize>,
    /// Lease, its end, its time to live.
    leases: BTreeMap<i64, (Duration, i64)>,
    known: BTreeMap<Vec<u8>, i64>,
    /// Per watch the events that it has still to receive.
    pending: Vec<Vec<(i64, Vec<Change>)>>,
    numbers: u64,
}

pub fn history(seed: u64) -> History {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    for client in 0..CLIENTS {
        world.finish(client);
    }
    for watch in 0..world.pending.len() {
        while !world.pending[watch].is_empty() {
            world.deliver(watch);
        }
        world.history.watches[watch].must_reach = world.model.state().0;
    }
    world.invoke(0, Request::Read(everything(0)));
    world.carry_out(0);
    world.finish(0);
    world.history
}

impl World {
    fn new(seed: u64) -> World {
        let range = |key: &'static [u8], end: &'static [u8]| KeyRange {
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(end),
        };
        let mut random = SplitMix64(seed);
        let all = Watch {
            range: range(b"\0", b"\0"),
            start: 2,
            prev_kv: true,
            ..Watch::default()
        };
        let no_put = random.below(2) == 0;
        let filtered = Watch {
            range: range(b"/g/", b"/g0"),
            start: 2 + i64::try_from(random.below(20)).unwrap(),
            no_put,
            no_delete: !no_put,
            ..Watch::default()
        };
        World {
            random,
            now: Duration::ZERO,
            model: Model::new(),
            history: History {
                calls: Vec::new(),
                watches: vec![all, filtered],
            },
            under_way: vec![None; CLIENTS],
            ghosts: Vec::new(),
            leases: BTreeMap::new(),
            known: BTreeMap::new(),
            pending: vec![Vec::new(), Vec::new()],
            numbers: 0,
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1 + self.random.below(15));
        self.end_leases();
        let client = self.random.below(CLIENTS as u64) as usize;
        match self.under_way[client].clone() {
            None => {
                let request = self.request(client);
                self.invoke(client, request);
            }
            Some((call, answer)) if self.random.below(60) == 0 => {
                self.under_way[client] = None;
                if answer.is_none() {
                    self.ghosts.push(call);
                }
            }
            Some((_, None)) => self.carry_out(client),
            Some((_, Some(_))) => self.finish(client),
        }
        if self.random.below(30) == 0
            && let Some(ghost) = self.ghosts.pop()
        {
            self.perform(&self.history.calls[ghost].request.clone());
        }
        let watch = self.random.below(2) as usize;
        match self.random.below(6) {
            0..3 if !self.pending[watch].is_empty() => self.deliver(watch),
            3 if self.pending[watch].is_empty() => {
                let progress = self.received(Vec::new());
                self.history.watches[watch].received.push(progress);
            }
            _ => {}
        }
    }

    fn invoke(&mut self, client: usize, request: Request) {
        self.now += Duration::from_millis(1);
        self.under_way[client] = Some((self.history.calls.len(), None));
        self.history.calls.push(Call {
            client: client as u64,
            invoked: self.now,
            request,
            answered: None,
        });
    }

    fn carry_out(&mut self, client: usize) {
        let (call, _) = self.under_way[client].clone().unwrap();
        let request = self.history.calls[call].request.clone();
        let answered = self.perform(&request);
        self.under_way[client] = Some((call, Some(answered)));
    }

    fn finish(&mut self, client: usize) {
        if let Some((call, Some(mut answered))) = self.under_way[client].take() {
            self.now += Duration::from_millis(1);
            answered.at = self.now;
            self.learn(&answered.answer);
            self.history.calls[call].answered = Some(answered);
        }
    }

    fn learn(&mut self, answer: &Answer) {
        match answer {
            Answer::Range { key_values, .. } => {
                for kv in key_values {
                    self.known.insert(kv.key.clone(), kv.modified);
                }
            }
            Answer::Txn { answers, .. } => answers.iter().for_each(|answer| self.learn(answer)),
            _ => {}
        }
    }

    fn perform(&mut self, request: &Request) -> Answered {
        let answer = match request {
            Request::Write(command) => {
                let effect = self.model.command(command);
                if !effect.changes.is_empty() {
                    self.pend(effect.revision, effect.changes);
                }
                self.note_lease(command, &effect.answer);
                effect.answer
            }
            Request::Read(range) => self.model.stand_alone_range(range),
            Request::KeepAlive(lease) => {
                let ttl = self.leases.get_mut(lease).map(|(end, ttl)| {
                    *end = self.now + Duration::from_secs(ttl.unsigned_abs());
                    *ttl
                });
                Answer::Grant {
                    lease: *lease,
                    ttl: ttl.unwrap_or(0),
                }
            }
        };
        let refused = matches!(answer, Answer::Refused(_));
        Answered {
            at: self.now,
            answer,
            revision: if refused { 0 } else { self.model.state().0 },
        }
    }

    fn note_lease(&mut self, command: &Command, answer: &Answer) {
        match (command, answer) {
            (Command::LeaseGrant { lease, ttl_seconds }, Answer::Grant { .. }) => {
                let end = self.now + Duration::from_secs(ttl_seconds.unsigned_abs());
                self.leases.insert(lease.0, (end, *ttl_seconds));
            }
            (Command::LeaseRevoke { lease }, Answer::Revoke) => {
                self.leases.remove(&lease.0);
            }
            _ => {}
        }
    }

    fn end_leases(&mut self) {
        let over = self.leases.iter().find(|(_, (end, _))| *end <= self.now);
        if let Some(lease) = over.map(|(lease, _)| LeaseId(*lease)) {
            self.perform(&Request::Write(Command::LeaseRevoke { lease }));
        }
    }

    fn pend(&mut self, revision: i64, changes: Vec<Change>) {
        for (watch, pending) in self.history.watches.iter().zip(&mut self.pending) {
            let mut wanted = changes.clone();
            wanted.retain(|change| {
                let dropped = if change.deletion {
                    watch.no_delete
                } else {
                    watch.no_put
                };
                let end = &watch.range.range_end[..];
                let key = &change.key_value.key[..];
                !dropped && key >= &watch.range.key[..] && (end == b"\0" || key < end)
            });
            if !watch.prev_kv {
                wanted.iter_mut().for_each(|change| change.previous = None);
            }
            if revision >= watch.start && !wanted.is_empty() {
                pending.push((revision, wanted));
            }
        }
    }

    fn received(&self, events: Vec<(i64, Change)>) -> Received {
        Received {
            at: self.now,
            revision: self.model.state().0,
            fragment: false,
            events,
        }
    }

    fn deliver(&mut self, watch: usize) {
        let count = 1 + self.random.below(self.pending[watch].len() as u64) as usize;
        let revisions: Vec<_> = self.pending[watch].drain(..count).collect();
        let each = revisions.into_iter();
        let events = each.flat_map(|(revision, changes)| {
            changes.into_iter().map(move |change| (revision, change))
        });
        let received = self.received(events.collect());
        self.history.watches[watch].received.push(received);
    }

    fn value(&mut self) -> Bytes {
        self.numbers += 1;
        self.numbers.to_le_bytes().to_vec().into()
    }

    fn put(&mut self, key: &str, lease: i64) -> Put {
        Put {
            key: key.to_owned().into(),
            value: self.value(),
            lease: LeaseId(lease),
            ..Put::default()
        }
    }

    fn request(&mut self, client: usize) -> Request {
        let key = format!("/g/{}/{}", self.random.below(2), self.random.below(4));
        let single = KeyRange {
            key: key.clone().into(),
            range_end: Bytes::new(),
        };
        match self.random.below(16) {
            0..4 => Request::Write(Command::Put(self.put(&key, 0))),
            4 => Request::Write(Command::DeleteRange(DeleteRange {
                range: single,
                prev_kv: false,
            })),
            5..8 => {
                let guard = self.known.get(key.as_bytes()).copied().unwrap_or(0);
                let range = Range {
                    range: single.clone(),
                    ..Range::default()
                };
                Request::Write(Command::Txn(Txn {
                    compare: vec![Compare {
                        result: 0,
                        target: CompareTarget::Mod(guard),
                        range: single,
                    }],
                    success: vec![RequestOp::Put(self.put(&key, 0))],
                    failure: vec![RequestOp::Range(range)],
                }))
            }
            8 | 9 => {
                let pair = self.random.below(2);
                let value = self.value();
                let put = |side: &str| {
                    RequestOp::Put(Put {
                        key: format!("/pair/{pair}/{side}").into(),
                        value: value.clone(),
                        ..Put::default()
                    })
                };
                Request::Write(Command::Txn(Txn {
                    compare: Vec::new(),
                    success: vec![put("a"), put("b")],
                    failure: Vec::new(),
                }))
            }
            10 => Request::Read(everything(0)),
            11 => self.old_read(),
            12 if self.random.below(4) == 0 => Request::Write(Command::Compact {
                revision: (self.model.state().0 - 5).max(1),
            }),
            12 | 13 if client == 1 => self.lease_request(),
            _ => Request::Read(Range {
                range: single,
                ..Range::default()
            }),
        }
    }

    fn old_read(&mut self) -> Request {
        let current = self.model.state().0;
        let back = i64::try_from(self.random.below(12)).unwrap();
        Request::Read(Range {
            limit: i64::try_from(self.random.below(4)).unwrap(),
            ..everything((current - back).max(1))
        })
    }

    /// One client alone has leases; it uses those of which it knows.
    fn lease_request(&mut self) -> Request {
        let calls = self.history.calls.iter();
        let granted = calls.filter_map(|call| match (&call.request, &call.answered) {
            (Request::Write(Command::LeaseGrant { lease, .. }), Some(_)) => Some(lease.0),
            _ => None,
        });
        let granted: Vec<i64> = granted.collect();
        let lease = match granted.len() {
            0 => 0,
            count => granted[self.random.below(count as u64) as usize],
        };
        match self.random.below(5) {
            _ if lease == 0 => self.grant(),
            0 => self.grant(),
            1 => Request::Write(Command::LeaseRevoke {
                lease: LeaseId(lease),
            }),
            2 | 3 => Request::KeepAlive(lease),
            _ => Request::Write(Command::Put(self.put(&format!("/lease/{lease}/k"), lease))),
        }
    }

    fn grant(&mut self) -> Request {
        self.numbers += 1;
        Request::Write(Command::LeaseGrant {
            lease: LeaseId(i64::try_from(self.numbers).unwrap()),
            ttl_seconds: 1 + i64::try_from(self.random.below(2)).unwrap(),
        })
    }
}
