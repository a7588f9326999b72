//! Clients that watch: streams with watchers of one key, of a part or of all, with
//! filters and predecessors or without. A stream that is cut off by the end of the
//! member is opened anew where it was.

use std::collections::BTreeMap;

use crate::history::watch::{Interest, Watched};
use crate::member::Member;
use crate::run::{Run, Stop};
use crate::watch::{Message, Stream};

const STREAMS_MAX: usize = 3;
const WATCHERS_PER_STREAM_MAX: usize = 3;
/// Steps of a stream before the member goes on.
const STEPS_AT_ONCE: usize = 6;

/// A client with one stream. What its watchers received outlives the stream.
#[derive(Debug, Default)]
pub struct Client {
    stream: Option<Stream>,
    /// By the id on the stream.
    watched: BTreeMap<i64, Watched>,
}

/// What is saved of a client: its stream ends with its member.
impl Clone for Client {
    fn clone(&self) -> Client {
        Client {
            stream: None,
            watched: self.watched.clone(),
        }
    }
}

impl Run {
    /// One client opens, resumes or adds a watcher, reads, or hears of progress.
    pub fn watch(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        if self.watch_clients.len() < STREAMS_MAX {
            self.watch_clients.push(Client::default());
        }
        let at = self.random.below(self.watch_clients.len() as u64);
        let mut client = self.watch_clients.swap_remove(usize::try_from(at).unwrap());
        let ended = self.watch_step(&mut client, member);
        self.watch_clients.push(client);
        ended
    }

    fn watch_step(&mut self, client: &mut Client, member: &mut Member) -> Result<(), Stop> {
        if client.stream.is_none() {
            self.resume(client, member);
        }
        let grows = client.watched.len() < WATCHERS_PER_STREAM_MAX && self.random.chance(1, 6);
        let stream = client.stream.as_mut().expect("it was just opened");
        if grows && stream.is_idle() {
            let interest = self.interest();
            let start = match self.random.below(4) {
                0 => self.clients().revision().max(1),
                1 => member.mvcc().compacted_revision().max(1),
                _ => 0,
            };
            let (id, next) = stream.create(&member.host.hub, &interest, start);
            self.note(format_args!("watcher {id} from {next}: {interest:?}"));
            client.watched.insert(id, Watched { interest, next });
        } else if self.random.chance(1, 8) {
            stream.notify_progress();
        } else if self.random.chance(1, 12) && stream.is_idle() {
            stream.answer_progress_request();
        } else {
            for _ in 0..STEPS_AT_ONCE {
                member.watch_step(stream)?;
            }
        }
        self.received(client, member)
    }

    /// Opens the stream anew: every watcher goes on where its client was.
    fn resume(&self, client: &mut Client, member: &Member) {
        let mut stream = Stream::new(member.mvcc().current_revision());
        let watched = std::mem::take(&mut client.watched);
        for (_, watched) in watched {
            let (id, _) = stream.create(&member.host.hub, &watched.interest, watched.next);
            client.watched.insert(id, watched);
        }
        client.stream = Some(stream);
    }

    fn received(&mut self, client: &mut Client, member: &Member) -> Result<(), Stop> {
        let compacted = member.mvcc().compacted_revision();
        let stream = client.stream.as_mut().expect("messages come from a stream");
        let log = &self.durable.events;
        for message in std::mem::take(&mut stream.sent) {
            match message {
                Message::Events(id, events) => {
                    let watched = client
                        .watched
                        .get_mut(&id)
                        .expect("a watcher of the stream");
                    watched.received(log, &events, compacted)?;
                    self.stats.events += events.len() as u64;
                }
                Message::Progress(id, revision) => {
                    // The answer to a request speaks of all watchers of the stream.
                    let told = |watcher: &i64| id == -1 || *watcher == id;
                    let all = client.watched.iter_mut();
                    for (_, watched) in all.filter(|(watcher, _)| told(watcher)) {
                        watched.progress(log, revision)?;
                    }
                    self.stats.progress += 1;
                }
                Message::Compacted(id, told) => {
                    let watched = client.watched.remove(&id).expect("a watcher of the stream");
                    if told > compacted || watched.next > told {
                        return Err(Stop::Violation(format!(
                            "a watcher at {} is cancelled for the compaction at {told}",
                            watched.next
                        )));
                    }
                    self.stats.cancelled += 1;
                }
            }
        }
        Ok(())
    }

    fn interest(&mut self) -> Interest {
        let (key, range_end): (&[u8], &[u8]) = match self.random.below(5) {
            0 => (b"\0", b"\0"),
            1 => (b"/registry/", b"/registry0"),
            2 => (b"/pair/", b"/pair0"),
            3 => (b"/registry/01", b""),
            _ => (b"/pair/1/b", b"/registry/02"),
        };
        Interest {
            key: key.to_vec(),
            range_end: range_end.to_vec(),
            no_put: self.random.chance(1, 6),
            no_delete: self.random.chance(1, 6),
            prev_kv: self.random.chance(1, 2),
        }
    }

    /// Every watcher receives everything that happened.
    pub fn drain_watchers(&mut self, member: &mut Member) -> Result<(), Stop> {
        let current = member.mvcc().current_revision();
        for mut client in std::mem::take(&mut self.watch_clients) {
            if client.stream.is_none() {
                self.resume(&mut client, member);
            }
            let mut steps = 0;
            loop {
                let stream = client.stream.as_mut().expect("it was just opened");
                if stream.has_reached(current) {
                    stream.notify_progress();
                    stream.notify_progress();
                    break;
                }
                member.watch_step(stream)?;
                self.received(&mut client, member)?;
                steps += 1;
                if steps > 10_000 {
                    let text = format!("a stream never reaches revision {current}");
                    return Err(Stop::Violation(text));
                }
            }
            self.received(&mut client, member)?;
            for watched in client.watched.values() {
                if watched.next <= current {
                    return Err(Stop::Violation(format!(
                        "a watcher waits for revision {}, the current one is {current}",
                        watched.next
                    )));
                }
            }
        }
        Ok(())
    }
}
