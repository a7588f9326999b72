//! Round trips, garbage, and files that etcd 3.7.3 itself wrote. That stock
//! tools accept what we write is shown by tests/compat.

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::types::{LeaseId, LogIndex, MemberId, Revision, Term};

type Record = (RecordKey, Bytes);
type Pair = (Bytes, Bytes);

/// A snapshot saved by etcdctl 3.7.3 from an etcd 3.7.3: five puts, one
/// delete, a lease, a put, compaction at 5, a user, two roles.
const ETCD_SNAPSHOT: &[u8] = include_bytes!("testdata/etcd-3.7.3.snapshot");

fn layout(records: &[Record], buckets: Vec<Bucket>) -> Plan {
    let mut layout = Layout::new();
    for (key, value) in records {
        layout.push(*key, u32::try_from(value.len()).unwrap());
    }
    layout.finish(buckets)
}

fn write(records: &[Record], buckets: Vec<Bucket>) -> Vec<u8> {
    let plan = layout(records, buckets);
    let total = plan.total_bytes();
    let mut emitter = plan.into_emitter();
    let mut next = records.iter();
    let mut file = Vec::new();
    let digest = loop {
        match emitter.step() {
            Step::Chunk(chunk) => {
                file.extend_from_slice(&chunk);
                assert_eq!(emitter.remaining_bytes(), total - file.len() as u64);
                let full = chunk.len() == SNAPSHOT_CHUNK_BYTES;
                assert!(
                    full || emitter.remaining_bytes() == 0,
                    "only the last chunk is short"
                );
            }
            Step::Feed { remaining, .. } => {
                assert_eq!(remaining, next.len() as u64);
                let (key, value) = next.next().unwrap();
                emitter.feed(*key, value).unwrap();
            }
            Step::Finished { digest } => break digest,
        }
    };
    assert_eq!(
        file.len() as u64,
        total,
        "the emitted length is the one laid out"
    );
    assert_eq!(file.len() % 4096, 0);
    let computed: [u8; 32] = Sha256::digest(&file).into();
    assert_eq!(computed, digest);
    assert!(next.next().is_none());
    file
}

fn read(file: Vec<u8>) -> Result<Vec<(Bytes, Vec<Pair>)>, ReadError> {
    let file = BoltFile::open(Bytes::from(file))?;
    let mut all = Vec::new();
    for name in file.buckets()? {
        let pairs = file
            .pairs(&name)?
            .expect("a bucket that is listed is found");
        let pairs = pairs.collect::<Result<_, _>>()?;
        all.push((name, pairs));
    }
    Ok(all)
}

fn expected(records: &[Record], buckets: &[Bucket]) -> Vec<(Bytes, Vec<Pair>)> {
    let keys = records.iter().map(|(key, value)| {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        (bytes.into(), value.clone())
    });
    let mut all = vec![(Bytes::from("key"), keys.collect())];
    for bucket in buckets {
        all.push((Bytes::from(bucket.name), bucket.pairs.clone()));
    }
    all.sort();
    all
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let length = prop_oneof![8 => 0..200usize, 3 => 200..5000usize, 1 => 5000..70_000usize];
    let record = (0..3i64, any::<bool>(), length, any::<u8>());
    proptest::collection::vec(record, 0..300).prop_map(|steps| {
        let (mut main, mut sub) = (1, 0);
        let mut records = Vec::new();
        for (step, tombstone, length, fill) in steps {
            (main, sub) = if step == 0 {
                (main, sub + 1)
            } else {
                (main + step, 0)
            };
            let key = RecordKey::new(Revision::new(main, sub), tombstone);
            records.push((key, Bytes::from(vec![fill; length])));
        }
        records
    })
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let key = prop_oneof![9 => bytes(40), 1 => bytes(3000)];
    let value = prop_oneof![9 => bytes(60), 1 => bytes(9000)];
    proptest::collection::btree_map(key, value, 0..120).prop_map(|map| {
        map.into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    })
}

fn buckets() -> impl Strategy<Value = Vec<Bucket>> {
    (pairs(), pairs(), pairs()).prop_map(|(lease, auth, meta)| {
        let bucket = |name, pairs| Bucket { name, pairs };
        let empty = bucket("alarm", Vec::new());
        vec![
            bucket("lease", lease),
            bucket("meta", meta),
            bucket("auth", auth),
            empty,
        ]
    })
}

/// Everything a reader of an untrusted file may do; only panics count.
fn survive(file: Vec<u8>) {
    let bytes = Bytes::from(file);
    if let Err(error) = check_trailer(&bytes) {
        assert!(error.to_string().contains("SHA-256"));
    }
    let Ok(file) = BoltFile::open(bytes) else {
        return;
    };
    for name in file.buckets().unwrap_or_default() {
        if let Ok(Some(pairs)) = file.pairs(&name) {
            let errors = pairs.filter(Result::is_err).count();
            assert!(errors <= 1, "a walk ends with its first error");
        }
    }
}

/// Which page, which byte of its first 64, what it becomes.
fn header_damage() -> impl Strategy<Value = (prop::sample::Index, usize, u8)> {
    (any::<prop::sample::Index>(), 0..64usize, any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_written_is_read(records in records(), buckets in buckets()) {
        let file = write(&records, buckets.clone());
        prop_assert_eq!(read(file).unwrap(), expected(&records, &buckets));
    }

    #[test]
    fn damage_never_panics(
        records in records(),
        buckets in buckets(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        headers in proptest::collection::vec(header_damage(), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = write(&records, buckets);
        // The metas stay whole, or nothing behind them would be looked at.
        let mut file = whole.clone();
        let body = file.len() - 8192;
        for (place, byte) in &damage {
            file[8192 + place.index(body)] = *byte;
        }
        for (page, offset, byte) in &headers {
            file[8192 + page.index(body / 4096) * 4096 + offset] = *byte;
        }
        survive(file.clone());
        file.truncate(cut.index(file.len()));
        survive(file);
        let mut file = whole;
        for (place, byte) in damage {
            file[place.index(8192)] ^= byte;
        }
        survive(file);
    }

    #[test]
    fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..9000)) {
        survive(garbage);
    }

    #[test]
    fn record_keys_round_trip(main in 0..i64::MAX, sub: u32, tombstone: bool) {
        let key = RecordKey::new(Revision::new(main, sub), tombstone);
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), key.encoded_bytes());
        prop_assert_eq!(RecordKey::decode(&bytes), Some(key));
    }
}

#[test]
fn three_levels_of_branches() {
    // One record per leaf, and more leaves than two levels of branches hold.
    let value = Bytes::from(vec![7; 2100]);
    let records: Vec<Record> = (2..14_700)
        .map(|main| {
            (
                RecordKey::new(Revision::new(main, 0), main % 7 == 0),
                value.clone(),
            )
        })
        .collect();
    let all = read(write(&records, Vec::new())).unwrap();
    assert_eq!(all, expected(&records, &[]));
}

fn record(main: i64, length: usize) -> Record {
    let key = RecordKey::new(Revision::new(main, 0), false);
    (key, Bytes::from(vec![1; length]))
}

/// Feeds other records than were laid out; the revision at which it is noticed.
fn mismatch(planned: &[Record], fed: &[Record]) -> Option<i64> {
    let mut emitter = layout(planned, Vec::new()).into_emitter();
    let mut next = fed.iter();
    loop {
        match emitter.step() {
            Step::Chunk(_) => {}
            Step::Feed { .. } => {
                let (key, value) = next.next()?;
                if let Err(mismatch) = emitter.feed(*key, value) {
                    return Some(mismatch.revision.main);
                }
            }
            Step::Finished { .. } => return None,
        }
    }
}

#[test]
fn a_record_that_changed_between_the_passes_is_noticed() {
    let planned: Vec<Record> = (2..6).map(|main| record(main, 100)).collect();
    assert_eq!(mismatch(&planned, &planned), None);
    let mut longer = planned.clone();
    longer[1] = record(3, 101);
    assert_eq!(
        mismatch(&planned, &longer),
        Some(5),
        "lengths are compared at the end"
    );
    let mut overflowing = planned.clone();
    overflowing[1] = record(3, 9000);
    assert_eq!(mismatch(&planned, &overflowing), Some(4), "a leaf too many");
    let mut other = planned.clone();
    other[3] = record(9, 100);
    assert_eq!(mismatch(&planned, &other), Some(9));
    let mut backwards = planned.clone();
    backwards[2] = record(3, 100);
    assert_eq!(mismatch(&planned, &backwards), Some(3));
}

#[test]
#[should_panic(expected = "revisions rise")]
fn a_layout_refuses_a_revision_twice() {
    let mut layout = Layout::new();
    layout.push(record(2, 0).0, 1);
    layout.push(record(2, 0).0, 1);
}

#[test]
fn a_cycle_ends_with_an_error() {
    let value = Bytes::from(vec![7; 2100]);
    let records: Vec<Record> = (2..40)
        .map(|main| (record(main, 0).0, value.clone()))
        .collect();
    let mut file = write(&records, Vec::new());
    // The branch follows the 38 leaves from page 3 on; its second child becomes itself.
    let branch = (3 + 38) * 4096;
    let child = branch + 16 + 16 + 8;
    assert_eq!(file[child..child + 8], 4u64.to_le_bytes());
    file[child..child + 8].copy_from_slice(&41u64.to_le_bytes());
    let error = read(file).unwrap_err().to_string();
    assert!(
        error.contains("keys do not rise") || error.contains("cycle"),
        "{error}"
    );
}

#[test]
fn the_second_meta_page_stands_in_for_the_first() {
    let records = [record(2, 10)];
    let mut file = write(&records, Vec::new());
    file[16] ^= 1;
    assert_eq!(read(file.clone()).unwrap(), expected(&records, &[]));
    file[4096 + 60] ^= 1;
    let error = read(file).unwrap_err().to_string();
    assert!(error.contains("no valid meta page"), "{error}");
}

#[test]
fn the_trailer_is_checked() {
    let mut file = write(&[record(2, 10)], Vec::new());
    assert_eq!(
        check_trailer(&Bytes::from(file.clone())).unwrap(),
        Trailer::Absent
    );
    let digest = Sha256::digest(&file);
    file.extend_from_slice(&digest);
    assert_eq!(file.len() % 512, 32);
    assert_eq!(
        check_trailer(&Bytes::from(file.clone())).unwrap(),
        Trailer::Valid
    );
    file[9000] ^= 1;
    assert!(check_trailer(&Bytes::from(file)).is_err());
}

#[test]
fn a_snapshot_of_etcd_is_read_and_its_small_buckets_are_written_alike() {
    let source = Bytes::from_static(ETCD_SNAPSHOT);
    assert_eq!(check_trailer(&source).unwrap(), Trailer::Valid);
    let etcd = read(ETCD_SNAPSHOT.to_vec()).unwrap();
    let (name, keys) = &etcd[5];
    assert_eq!(name, "key");
    let keys: Vec<RecordKey> = keys
        .iter()
        .map(|(key, _)| RecordKey::decode(key).unwrap())
        .collect();
    assert_eq!(
        keys.len(),
        7,
        "compaction at 5 has dropped nothing that is live"
    );
    assert_eq!(keys[5], RecordKey::new(Revision::new(7, 0), true));
    assert_eq!(keys[6], RecordKey::new(Revision::new(8, 0), false));

    let member = MemberId(443_629_905_751_424_238);
    let bytes = |number: usize| etcd[number].1.clone();
    let index = u64::from_be_bytes(bytes(9)[1].1[..].try_into().unwrap());
    let contents = Contents {
        consistent_index: LogIndex(index),
        term: Term(2),
        conf_state: ConfState {
            voters: vec![member],
            ..ConfState::default()
        },
        scheduled_compaction: Some(5),
        finished_compaction: Some(5),
        leases: vec![LeaseEntry {
            id: LeaseId(0x3cee_a1fb_b4b9_9509),
            ttl: 300,
            remaining_ttl: 0,
        }],
        cluster_version: "3.7.0".to_owned(),
        members: vec![MemberEntry {
            id: member,
            peer_urls: vec!["http://127.0.0.1:32380".to_owned()],
            name: "m1".to_owned(),
            client_urls: vec!["http://127.0.0.1:32379".to_owned()],
            ..MemberEntry::default()
        }],
        auth_revision: u64::from_be_bytes(bytes(1)[0].1[..].try_into().unwrap()),
        auth_roles: bytes(2),
        auth_users: bytes(3),
        ..Contents::default()
    };
    let records: Vec<Record> = keys
        .into_iter()
        .zip(bytes(5).into_iter().map(|(_, value)| value))
        .collect();
    assert_eq!(read(write(&records, contents.buckets())).unwrap(), etcd);
}

#[test]
fn json_and_protobuf_of_the_small_buckets() {
    let contents = Contents {
        conf_state: ConfState {
            voters: vec![MemberId(1), MemberId(2)],
            learners: vec![MemberId(3)],
            ..ConfState::default()
        },
        alarms: vec![AlarmEntry {
            member: MemberId(300),
            alarm: 1,
        }],
        leases: vec![LeaseEntry {
            id: LeaseId(-1),
            ttl: 1,
            remaining_ttl: 2,
        }],
        downgrade: Some(Downgrade {
            target_version: "3.6.0".to_owned(),
            enabled: true,
        }),
        members: vec![MemberEntry {
            id: MemberId(0xab),
            peer_urls: vec!["http://a?x&y".to_owned(), "\"\u{1}".to_owned()],
            is_learner: true,
            ..MemberEntry::default()
        }],
        members_removed: vec![MemberId(16)],
        auth_enabled: Some(true),
        ..Contents::default()
    };
    let find = |bucket: &str, key: &[u8]| {
        let all = contents.buckets();
        let bucket = all.into_iter().find(|b| b.name == bucket).unwrap();
        bucket
            .pairs
            .into_iter()
            .find(|(k, _)| k == key)
            .expect("the key is there")
            .1
    };
    assert_eq!(
        find("meta", b"confState"),
        &br#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#[..]
    );
    assert_eq!(find("alarm", &[8, 0xac, 2, 16, 1]), &b""[..]);
    let negative = [
        8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 16, 1, 24, 2,
    ];
    assert_eq!(find("lease", &[255; 8]), &negative[..]);
    assert_eq!(
        find("cluster", b"downgrade"),
        &br#"{"target-version":"3.6.0","enabled":true}"#[..]
    );
    assert_eq!(
        find("members", b"ab"),
        &br#"{"id":171,"peerURLs":["http://a?x\u0026y","\"\u0001"],"isLearner":true}"#[..]
    );
    assert_eq!(find("members_removed", b"10"), &b"removed"[..]);
    assert_eq!(find("auth", b"authEnabled"), &[1][..]);
}
