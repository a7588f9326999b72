//! A member's storage without its shell: log, state machine and checkpoints in the order of
//! `server::bootstrap` and `server::runtime`, in one thread, over any file system and store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use storage::apply::command::{Command, DeleteRange, Envelope, KeyRange, Put};
use storage::apply::{EntryData, MachineHash, StateMachine, codec};
use storage::check;
use storage::checkpoint::layout;
use storage::checkpoint::{
    self, CheckpointJob, CheckpointStore, Checkpointer, ColdReader, ColdValue, Identity,
};
use storage::error::Fatal;
use storage::mvcc::Mvcc;
use storage::raft_log::{EntryKind, LogEntry, LogOptions, LogReader, Prepared, RaftLog};
use storage::types::{
    LeaseId, LogIndex, MemberId, Place, RecordMeta, RequestId, Revision, SegmentNumber, Term,
};
use storage::vfs::Vfs;
use storage::vfs::sim::SplitMix64;

pub const OURS: Identity = Identity {
    cluster_id: 11,
    member_id: MemberId(12),
};
const TERM: Term = Term(1);

pub fn directory() -> PathBuf {
    PathBuf::from("/data")
}

/// One entry of the log and the state after it.
pub struct Planned {
    pub data: Bytes,
    pub hash: MachineHash,
    pub live: BTreeMap<Vec<u8>, Bytes>,
}

/// What the clients ask for, drawn from a seed, and what must come of it. The first one is
/// the empty state.
pub fn plan(seed: u64, length: u64) -> Vec<Planned> {
    let mut random = SplitMix64(seed);
    let mut machine = StateMachine::new(Mvcc::new(), None);
    let mut live = BTreeMap::new();
    let mut all = vec![Planned {
        data: Bytes::new(),
        hash: machine.state_hash(),
        live: live.clone(),
    }];
    for index in 1..=length {
        let command = draw(&mut random, &machine, index);
        match &command {
            Command::Put(put) => {
                live.insert(put.key.to_vec(), put.value.clone());
            }
            Command::DeleteRange(delete) => {
                live.remove(&delete.range.key[..]);
            }
            _ => {}
        }
        let envelope = Envelope {
            request_id: RequestId(index),
            command,
        };
        let data = codec::encode(&envelope).unwrap();
        let place = EntryData {
            bytes: data.clone(),
            segment: SegmentNumber(1),
            offset: 4096,
        };
        let envelope = codec::decode(&data).unwrap();
        machine
            .apply(LogIndex(index), TERM, &place, &envelope)
            .result
            .expect("every command of a plan succeeds");
        all.push(Planned {
            data,
            hash: machine.state_hash(),
            live: live.clone(),
        });
    }
    all
}

fn draw(random: &mut SplitMix64, machine: &StateMachine, index: u64) -> Command {
    let target = machine.mvcc().current_revision() - 1;
    let key = Bytes::from(format!("/registry/pods/default/{}", random.below(12)));
    match random.below(16) {
        0 if target > machine.mvcc().compacted_revision().max(6) => {
            Command::Compact { revision: target }
        }
        1 => Command::LeaseGrant {
            lease: LeaseId(1000 + index.cast_signed()),
            ttl_seconds: 60,
        },
        2 | 3 => Command::DeleteRange(DeleteRange {
            range: KeyRange {
                key,
                range_end: Bytes::new(),
            },
            prev_kv: false,
        }),
        _ => Command::Put(Put {
            key,
            value: Bytes::from(vec![index as u8; random.below(1500) as usize]),
            ..Put::default()
        }),
    }
}

pub fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 24 << 10,
        first_segment_bytes: 16 << 10,
        spares_max: 1,
        salt: OURS.member_id.0,
    }
}

pub struct Member {
    pub log: RaftLog,
    pub machine: StateMachine,
    pub checkpointer: Checkpointer,
    pub reader: LogReader,
    pub cold: ColdReader,
    removed: Vec<(Revision, Place)>,
}

impl Member {
    /// Opens or founds, and replays the log.
    pub fn open(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        store: Box<dyn CheckpointStore>,
    ) -> Result<Member, Fatal> {
        if layout::recognise(&**vfs, directory)?.accept()?.is_none() {
            layout::create(&**vfs, directory, OURS)?;
        }
        let cold = store.reader();
        let vfs = Arc::clone(vfs);
        let path = directory.join(layout::LOG);
        let verify = |covered| Prepared::verify(vfs.clone(), &path, log_options(), covered);
        // The first manifest proves that there is a log.
        let founded = match checkpoint::read_manifest(&*vfs, directory)? {
            Some(_) => None,
            None => Some(verify(None)?.open()?),
        };
        let started = checkpoint::start(vfs.clone(), directory, OURS, store, Mvcc::new(), None)?;
        let manifest = started.checkpointer.published().clone();
        let (log, recovered) = match founded {
            Some(log) => log,
            None => {
                let covered = Some((manifest.applied_index, manifest.applied_term));
                let log = verify(covered)?;
                check::require_values(&path, &manifest, &started.reach, log.segments())?;
                log.open()?
            }
        };
        let mut member = Member {
            reader: log.reader(),
            log,
            machine: started.machine,
            checkpointer: started.checkpointer,
            cold,
            removed: Vec::new(),
        };
        let segments: Vec<_> = member.log.segments().map(|info| info.number).collect();
        for number in segments {
            if manifest.left_out(number) {
                member.log.retire(number)?;
            }
        }
        for entry in recovered.entries {
            member.apply(&entry);
        }
        Ok(member)
    }

    pub fn applied(&self) -> u64 {
        self.machine.applied_index().0
    }

    /// Writes, flushes and applies these entries as one group: then they are answered.
    pub fn write(&mut self, plan: &[Planned], count: u64) -> Result<(), Fatal> {
        let next = self.applied() + 1;
        let entries: Vec<_> = (next..(next + count).min(plan.len() as u64))
            .map(|index| LogEntry {
                term: TERM,
                index: LogIndex(index),
                kind: EntryKind::Normal,
                data: plan[index as usize].data.clone(),
            })
            .collect();
        if entries.is_empty() {
            return Ok(());
        }
        let group = self.log.append(None, &entries)?;
        group.perform()?;
        self.log.flushed(group.number());
        for entry in &entries {
            self.apply(entry);
        }
        Ok(())
    }

    fn apply(&mut self, entry: &LogEntry) {
        let place = self.log.data_place(entry.index).unwrap();
        let data = EntryData {
            bytes: entry.data.clone(),
            segment: place.segment,
            offset: place.offset,
        };
        let envelope = codec::decode(&entry.data).unwrap();
        let outcome = self
            .machine
            .apply(entry.index, entry.term, &data, &envelope);
        assert!(outcome.result.is_ok());
    }

    /// One slice of purging; true when more is to be done.
    pub fn purge(&mut self, budget: usize) -> bool {
        let (machine, removed) = (&mut self.machine, &mut self.removed);
        machine.mvcc_mut().compact_slice(i64::MAX, budget, removed)
    }

    pub fn records(&self) -> Vec<Arc<RecordMeta>> {
        let all = self
            .machine
            .mvcc()
            .records_slice(Revision::default(), usize::MAX);
        all.iter().map(|view| view.meta.clone()).collect()
    }

    /// A checkpoint; with `clean`, the values of the oldest sealed segment go cold.
    pub fn checkpoint(&mut self, clean: bool) -> Result<(), Fatal> {
        let published = self.checkpointer.published();
        let oldest = self.log.segments().find(|info| info.sealed);
        let leaving = oldest
            .filter(|info| clean && info.last.is_none_or(|last| last <= published.applied_index))
            .map(|info| info.number);
        if let Some(segment) = leaving {
            self.move_values(segment)?;
        }
        let before = self.checkpointer.published();
        let mut manifest = before.clone();
        manifest.describe(&self.machine);
        let segments = self.log.segments().map(|info| info.number);
        manifest.segments = segments.filter(|number| Some(*number) != leaving).collect();
        let after = before.bound;
        let records = self.machine.mvcc().records_slice(after, usize::MAX);
        let job = CheckpointJob {
            records: records.iter().map(|view| view.meta.clone()).collect(),
            removed: std::mem::take(&mut self.removed),
            manifest,
        };
        self.checkpointer.perform(job, &mut || ())?;
        self.log.release(self.machine.applied_index());
        if let Some(segment) = leaving {
            self.log.retire(segment)?;
        }
        Ok(())
    }

    fn move_values(&mut self, segment: SegmentNumber) -> Result<(), Fatal> {
        let mut moved = Vec::new();
        for record in self.records() {
            if record.place.segment == segment && record.place.length > 0 {
                moved.push(ColdValue {
                    revision: record.revision,
                    place: record.place,
                    value: self.value(&record)?,
                });
            }
        }
        self.checkpointer.ingest_values(&moved, &mut || ())
    }

    /// Reads a value back as `server::runtime::values` does.
    pub fn value(&self, record: &RecordMeta) -> Result<Bytes, Fatal> {
        match self.reader.read_value(record.place)? {
            Some(value) => Ok(Bytes::from(value)),
            None => self.cold.read_retained(record.revision, record.place),
        }
    }

    /// Every value reads back, and what lives is what the plan says.
    pub fn verify(&self, plan: &[Planned], what: &str) {
        let planned = &plan[self.applied() as usize];
        assert_eq!(self.machine.state_hash(), planned.hash, "{what}");
        let mut live = BTreeMap::new();
        for record in self.records() {
            let value = self.value(&record);
            let value = value.unwrap_or_else(|error| panic!("{what}: {record:?}: {error}"));
            if record.tombstone {
                live.remove(&record.key[..]);
            } else {
                live.insert(record.key.to_vec(), value);
            }
        }
        assert!(live == planned.live, "{what}: other values");
    }
}
