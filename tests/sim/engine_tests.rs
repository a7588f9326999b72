//! Single cases of the engine, by hand, on a disk without faults.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::apply::command::{Alarm, Command, DeleteRange, KeyRange, Put};
use storage::checkpoint::{CheckpointStore, ModelDisk, ModelStore};
use storage::error::{Fatal, Refusal};
use storage::raft_log::RaftLog;
use storage::types::{
    Event, KeyValueRef, LogIndex, MemberId, Place, RecordMeta, Revision, SegmentNumber, Term,
};
use storage::vfs::sim::{SimDisk, SplitMix64};

use crate::boot;
use crate::engine::{Applied, Rejected, ValueReader};
use crate::host::{Checkpoint, Flush, Request, Slot, SpareWork};
use crate::member::Member;
use crate::settings::Settings;
use crate::store::StoreFault;

const SLICE: usize = 8;

/// A member that serves.
fn serving() -> Member {
    serving_with(None)
}

fn serving_with(quota_bytes: Option<u64>) -> Member {
    serving_on(&SimDisk::new(1), &ModelDisk::default(), quota_bytes)
}

fn serving_on(disk: &SimDisk, store: &ModelDisk, quota_bytes: Option<u64>) -> Member {
    let mut settings = Settings::draw(&mut SplitMix64(1));
    settings.sizes.purge_slice_records = SLICE;
    settings.quota_bytes = quota_bytes;
    let disks = (store, &StoreFault::default());
    let mut member = boot::open(disk, disks, &settings, Instant::now()).unwrap();
    settle(&mut member);
    assert!(member.serves());
    member
}

/// Flushes until nothing is left to be flushed.
fn settle(member: &mut Member) {
    member.turn().unwrap();
    while !matches!(
        (&member.host.flush, &member.host.spare),
        (Flush::Idle, SpareWork::Idle)
    ) {
        member.perform_flush().unwrap();
        member.report_flush().unwrap();
        member.perform_spare();
        member.report_spare().unwrap();
    }
}

fn carry_out(member: &mut Member, command: &Command) -> Applied {
    let answer = member.propose(command).unwrap();
    settle(member);
    answer.take().expect("it is answered").expect("it succeeds")
}

fn put_command() -> Command {
    Command::Put(Put {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"value"),
        ..Put::default()
    })
}

fn put(member: &mut Member) -> i64 {
    carry_out(member, &put_command()).revision
}

fn everything() -> DeleteRange {
    DeleteRange {
        range: KeyRange {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
        },
        prev_kv: false,
    }
}

/// True once the alarm NOSPACE stands in AlarmList.
fn alarm_is_raised(member: &Member) -> bool {
    member.machine().alarms().is_raised(Alarm::NoSpace)
}

/// Compacts and asks to be told when the purge is done.
fn compact(member: &mut Member, revision: i64) -> Slot<()> {
    carry_out(member, &Command::Compact { revision });
    member
        .ask(|reply| Request::Purged { revision, reply })
        .unwrap()
}

#[test]
fn a_physical_compaction_ends_though_writes_go_on() {
    let mut member = serving();
    let newest = (0..200).map(|_| put(&mut member)).last().unwrap();
    let purged = compact(&mut member, newest);
    member.hash_compaction().unwrap().expect("it is hashed");
    let slices = 200 / SLICE + 2;
    let done = (0..slices).any(|_| {
        put(&mut member);
        member.maintain();
        purged.take().is_some()
    });
    assert!(done, "{slices} slices are enough for 200 revisions");
}

#[test]
fn who_waits_for_a_purge_waits_for_no_later_one() {
    let mut member = serving();
    let older = (0..100).map(|_| put(&mut member)).last().unwrap();
    let newer = (0..400).map(|_| put(&mut member)).last().unwrap();
    let first = compact(&mut member, older);
    while member.hash_compaction().unwrap().is_some() {}
    member.maintain();
    assert!(first.take().is_none(), "a slice of the purge is not all");
    let second = compact(&mut member, newer);
    while member.hash_compaction().unwrap().is_some() {}
    let slices_until = |member: &mut Member, purge: &Slot<()>| {
        let slices = (1..1_000).find(|_| {
            member.maintain();
            purge.take().is_some()
        });
        slices.expect("the purge ends")
    };
    assert!(slices_until(&mut member, &first) <= 100 / SLICE + 2);
    assert!(slices_until(&mut member, &second) > 10);
}

#[test]
fn the_hash_of_a_compaction_is_made_before_its_purge() {
    let mut member = serving();
    let newest = (0..50).map(|_| put(&mut member)).last().unwrap();
    let purged = compact(&mut member, newest);
    for _ in 0..100 {
        member.maintain();
    }
    assert!(purged.take().is_none(), "the walk holds the purge");
    let hash = member.hash_compaction().unwrap().expect("it is hashed");
    assert_eq!(hash.hash_revision, newest);
    member.host.now += Duration::from_secs(1);
    while member.engine.has_work(&member.host) {
        member.maintain();
    }
    assert!(purged.take().is_some());
}

/// etcd answers "database space exceeded" after its alarm was applied, so whoever was
/// refused finds the alarm in AlarmList.
#[test]
fn a_write_over_the_quota_is_refused_once_the_alarm_is_raised() {
    let mut member = serving_with(Some(4_000));
    let no_space = Err(Rejected::Refusal(Refusal::NoSpace));
    let mut refused = Vec::new();
    for _ in 0..100 {
        let answer = member.propose(&put_command()).unwrap();
        if !member.host.unasked.is_empty() {
            refused.push(answer);
            break;
        }
        settle(&mut member);
        assert!(matches!(answer.take(), Some(Ok(_))));
    }
    for _ in 0..3 {
        refused.push(member.propose(&put_command()).unwrap());
    }
    assert_eq!(member.host.unasked.len(), 1, "one alarm is on its way");
    assert!(!alarm_is_raised(&member));
    let early = refused.iter().any(|answer| answer.take().is_some());
    assert!(!early, "answered before the alarm is raised");
    settle(&mut member);
    assert!(alarm_is_raised(&member));
    for answer in refused {
        assert_eq!(
            answer.take().map(|answer| answer.map(|_| ())),
            Some(no_space.clone())
        );
    }
    let at_once = member.propose(&put_command()).unwrap().take();
    assert_eq!(at_once.map(|answer| answer.map(|_| ())), Some(no_space));
}

/// Both writes were taken while there was room for one: the second one is applied and
/// refused (contract 1.13, trap 15), and that too is told after the alarm.
#[test]
fn a_write_that_is_applied_over_the_quota_is_refused_once_the_alarm_is_raised() {
    let mut member = serving_with(Some(4_000));
    let open: Vec<_> = (0..80)
        .map(|_| member.propose(&put_command()).unwrap())
        .collect();
    for _ in 0..10 {
        if alarm_is_raised(&member) {
            break;
        }
        let over: Vec<_> = open.iter().filter_map(Slot::take).collect();
        let early = over.iter().any(|answer| answer.is_err());
        assert!(!early, "answered before the alarm is raised");
        member.turn().unwrap();
        member.perform_flush().unwrap();
        member.report_flush().unwrap();
    }
    assert!(alarm_is_raised(&member));
    let answers: Vec<_> = open.iter().filter_map(Slot::take).collect();
    assert!(
        answers
            .iter()
            .any(|answer| { matches!(answer, Err(Rejected::Refusal(Refusal::NoSpace))) })
    );
}

/// The purge ends with the process; what the checkpoint says is compacted is purged by
/// the load, without another compaction.
#[test]
fn a_compaction_that_a_checkpoint_covers_is_purged_at_the_start() {
    let (disk, store) = (SimDisk::new(1), ModelDisk::default());
    let mut member = serving_on(&disk, &store, None);
    let newest = (0..50).map(|_| put(&mut member)).last().unwrap();
    carry_out(&mut member, &Command::Compact { revision: newest });
    member.host.now += Duration::from_secs(3_600);
    member.tick().unwrap();
    for _ in 0..1_000 {
        member.maintain();
        member.perform_checkpoint().unwrap();
        member.report_checkpoint().unwrap();
    }
    assert_eq!(member.checkpoints, 1);
    let unpurged = |member: &Member| {
        let size = member.mvcc().size();
        size.total_bytes - size.in_use_bytes
    };
    // The hash of the compaction was not walked, which holds the purge.
    assert!(unpurged(&member) > 0);
    drop(member);
    assert_eq!(unpurged(&serving_on(&disk.kill(), &store, None)), 0);
}

/// What a compaction leaves on the disk goes without a further write, and the purge of a
/// long history waits for checkpoints that take what it dropped.
#[test]
fn the_disk_is_freed_after_a_compaction_though_nobody_writes() {
    let mut settings = Settings::draw(&mut SplitMix64(1));
    settings.segment_bytes = 32 << 10;
    settings.first_segment_bytes = 16 << 10;
    settings.sizes.checkpoint_log_bytes = 64 << 10;
    settings.sizes.checkpoint_interval = Duration::from_secs(3_600);
    settings.sizes.cleaning_pause = Duration::ZERO;
    settings.sizes.removed_records_per_checkpoint = 100;
    let disk = SimDisk::new(1);
    let disks = (&ModelDisk::default(), &StoreFault::default());
    let mut member = boot::open(&disk, disks, &settings, Instant::now()).unwrap();
    settle(&mut member);
    let work = |member: &mut Member| {
        member.host.now += Duration::from_millis(100);
        member.tick().unwrap();
        settle(member);
        member.hash_compaction().unwrap();
        while member.engine.has_work(&member.host) {
            member.maintain();
        }
        while matches!(member.host.checkpoint, Checkpoint::Submitted(_)) {
            member.perform_checkpoint().unwrap();
        }
        member.report_checkpoint().unwrap();
    };
    let large = Command::Put(Put {
        key: Bytes::from_static(b"key"),
        value: vec![b'v'; 7_500].into(),
        ..Put::default()
    });
    let mut newest = 0;
    for _ in 0..500 {
        newest = carry_out(&mut member, &large).revision;
        work(&mut member);
    }
    let before = (disk.used_bytes(), member.checkpoints);
    let purged = compact(&mut member, newest);
    for _ in 0..100 {
        work(&mut member);
    }
    assert!(purged.take().is_some());
    let checkpoints = member.checkpoints - before.1;
    assert!((4..=7).contains(&checkpoints), "{checkpoints} checkpoints");
    let left = disk.used_bytes();
    assert!(
        before.0 > 1 << 20 && left < 256 << 10,
        "{left} bytes are left"
    );
}

/// The disk has no room for the next segment: what takes space is refused while there is
/// room for all else, and goes on once there is space and the alarm is disarmed.
#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    let disk = SimDisk::new(1);
    let mut member = serving_on(&disk, &ModelDisk::default(), None);
    put(&mut member);
    // The next segment is prepared; the one after it finds no space.
    disk.set_capacity(Some(disk.used_bytes()));
    let mut refused = None;
    for _ in 0..10_000 {
        let answer = member.propose(&put_command()).unwrap();
        member.host.now += Duration::from_millis(100);
        member.tick().unwrap();
        settle(&mut member);
        if let Some(Err(rejected)) = answer.take() {
            refused = Some(rejected);
            break;
        }
    }
    assert_eq!(refused, Some(Rejected::Refusal(Refusal::NoSpace)));
    assert!(alarm_is_raised(&member));
    carry_out(&mut member, &Command::DeleteRange(everything()));
    let disarm = Command::Alarm {
        activate: false,
        member: MemberId(7),
        alarm: Alarm::NoSpace,
    };
    carry_out(&mut member, &disarm);
    let still_full = member.propose(&put_command()).unwrap();
    settle(&mut member);
    assert!(matches!(still_full.take(), Some(Err(_))) && alarm_is_raised(&member));
    disk.set_capacity(None);
    member.tick().unwrap();
    settle(&mut member);
    carry_out(&mut member, &disarm);
    put(&mut member);
}

/// Deletions fill the active segment while the disk is full: they wait, and are carried
/// out once there is space. Nothing ends, and reads go on.
#[test]
fn what_fits_nowhere_waits_for_space() {
    let disk = SimDisk::new(1);
    let mut member = serving_on(&disk, &ModelDisk::default(), None);
    put(&mut member);
    disk.set_capacity(Some(disk.used_bytes()));
    let mut open = Vec::new();
    for _ in 0..1_000 {
        open.push(member.propose(&Command::DeleteRange(everything())).unwrap());
        settle(&mut member);
    }
    assert!(open.iter().any(|answer| answer.take().is_some()));
    let waiting = member.propose(&Command::DeleteRange(everything())).unwrap();
    settle(&mut member);
    assert!(waiting.take().is_none() && member.serves());
    disk.set_capacity(None);
    member.tick().unwrap();
    settle(&mut member);
    assert!(matches!(waiting.take(), Some(Ok(_))));
}

/// The store's own checksum holds, the record's does not: another value lies there.
#[test]
fn a_cold_value_that_is_not_the_records_is_not_served() {
    let options = Settings::draw(&mut SplitMix64(1)).log_options(1);
    let (vfs, path) = (Arc::new(SimDisk::new(1)), Path::new("/data/log"));
    let applied = (LogIndex(0), Term(0));
    let (log, _) = RaftLog::open(vfs, path, options, applied).unwrap();
    let disk = ModelDisk::default();
    let mut store = ModelStore::open(&disk);
    let (right, wrong) = (Revision::new(5, 0), Revision::new(6, 0));
    let stored = [right, wrong].map(|revision| (revision, Bytes::from_static(b"value")));
    store.ingest_values(&stored, &mut || ()).unwrap();
    let values = ValueReader::new(log.reader(), store.reader());
    let place = |of: &[u8]| Place {
        segment: SegmentNumber(99),
        offset: 4096,
        length: u32::try_from(of.len()).unwrap(),
        crc: crc32fast::hash(of),
    };
    let found = values.find(right, place(b"value")).unwrap();
    assert_eq!(found, Some(Bytes::from_static(b"value")));
    for other in [&b"eulav"[..], b"longer"] {
        let refused = values.find(wrong, place(other)).unwrap_err();
        assert!(matches!(refused, Fatal::Corruption { .. }), "{refused}");
    }
    assert_eq!(
        values.find(Revision::new(7, 0), place(b"value")).unwrap(),
        None
    );
}

/// Found by seed 336 of 2026-11-25: events in the ring hold no pin, so what one replaced may
/// lie nowhere any more once compaction has passed the event. Before that it is lost.
#[test]
fn an_event_that_is_read_late_goes_out_without_what_compaction_took() {
    let mut member = serving();
    put(&mut member);
    let newest = put(&mut member);
    let record = |main: i64| RecordMeta {
        key: Arc::from(&b"key"[..]),
        revision: Revision::new(main, 0),
        create_revision: 2,
        version: main - 1,
        lease: storage::types::LeaseId::NONE,
        tombstone: false,
        place: Place {
            segment: SegmentNumber(99),
            offset: 4096,
            length: 5,
            crc: crc32fast::hash(b"value"),
        },
    };
    let event = Event {
        meta: Arc::new(record(newest)),
        key_value: KeyValueRef::Resident(record(newest).encode(b"value")),
        previous: Some(KeyValueRef::Stored(Arc::new(record(newest - 1)))),
    };
    assert!(member.change(&event, true).is_err(), "a value is lost");
    compact(&mut member, newest);
    let change = member.change(&event, true).unwrap();
    assert!(change.previous.is_none());
}
