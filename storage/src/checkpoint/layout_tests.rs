//! Recognition of directories, the identity file and the replacing of files.

use super::*;
use crate::checkpoint::Manifest;
use crate::checkpoint::step_disk::StepDisk;

const OURS: Identity = Identity {
    cluster_id: 0x1234,
    member_id: MemberId(0x5678),
};

fn data() -> &'static Path {
    Path::new("/var/lib/data")
}

fn put(disk: &StepDisk, path: &str, content: &[u8]) {
    let path = data().join(path);
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_all_at(content, 0).unwrap();
}

fn bytes_of(disk: &StepDisk, name: &str) -> Vec<u8> {
    let path = data().join(name);
    read_whole(disk, &path, 1 << 20).unwrap().unwrap()
}

fn refusal(result: Result<Option<Identity>, Fatal>) -> String {
    match result {
        Err(refused @ Fatal::Refused { .. }) => refused.to_string(),
        other => panic!("a refusal expected, not {other:?}"),
    }
}

#[test]
fn a_directory_is_told_by_what_it_holds() {
    let disk = StepDisk::default();
    assert_eq!(recognise(&disk, data()).unwrap(), DataDirectory::Absent);
    put(&disk, "lost+found/x", b"");
    put(&disk, "LOCK", b"");
    put(&disk, "STERNPOST.new", b"torn");
    let empty = recognise(&disk, data()).unwrap();
    assert_eq!(empty, DataDirectory::Empty);
    assert_eq!(empty.accept().unwrap(), None);
    create(&disk, data(), OURS).unwrap();
    create(&disk, data(), OURS).unwrap();
    let ours = recognise(&disk, data()).unwrap();
    assert_eq!(ours.accept().unwrap(), Some(OURS));
}

#[test]
fn a_directory_of_etcd_is_refused_by_name_even_where_ours_lies_beside_it() {
    for inside in [
        "member/snap/db",
        "member/wal/0000000000000000-0000000000000000.wal",
    ] {
        let disk = StepDisk::default();
        put(&disk, inside, b"bolt");
        for ours_too in [false, true] {
            if ours_too {
                create(&disk, data(), OURS).unwrap();
            }
            let text = refusal(recognise(&disk, data()).unwrap().accept());
            assert!(text.contains("/var/lib/data/member/"), "{text}");
            assert!(text.contains("data directory of etcd"), "{text}");
            assert!(text.contains("another --data-dir"), "{text}");
        }
    }
}

#[test]
fn anything_else_is_foreign() {
    let disk = StepDisk::default();
    put(&disk, "photo.jpg", b"");
    let text = refusal(recognise(&disk, data()).unwrap().accept());
    assert!(text.contains("/var/lib/data/photo.jpg"), "{text}");
}

#[test]
fn a_manifest_without_its_identity_file_is_refused_with_the_next_step() {
    let disk = StepDisk::default();
    put(&disk, "MANIFEST", b"");
    let text = recognise(&disk, data()).unwrap_err().to_string();
    assert!(text.contains("/var/lib/data/STERNPOST"), "{text}");
    assert!(text.contains("restore it"), "{text}");
}

#[test]
fn every_flip_and_cut_of_the_identity_file_is_refused() {
    let disk = StepDisk::default();
    create(&disk, data(), OURS).unwrap();
    let intact = bytes_of(&disk, IDENTITY);
    assert_eq!(intact.len(), IDENTITY_BYTES);
    let refused = |content: &[u8]| {
        replace_file(&disk, data(), IDENTITY, content).unwrap();
        match read_identity(&disk, data()) {
            Err(Fatal::Corruption { path, offset, .. }) => {
                assert_eq!(path, data().join(IDENTITY));
                assert!(offset <= content.len() as u64);
            }
            other => panic!("{other:?}"),
        }
    };
    for at in 0..intact.len() {
        for mask in [1, 0xff] {
            let mut flipped = intact.clone();
            flipped[at] ^= mask;
            refused(&flipped);
        }
        refused(&intact[..at]);
    }
    let mut longer = intact.clone();
    longer.push(0);
    refused(&longer);
}

#[test]
fn a_newer_directory_is_refused_before_any_write() {
    let disk = StepDisk::default();
    create(&disk, data(), OURS).unwrap();
    let mut newer = bytes_of(&disk, IDENTITY);
    newer[8] = 2;
    let checksum = crc32fast::hash(&newer[..28]);
    newer[28..].copy_from_slice(&checksum.to_le_bytes());
    replace_file(&disk, data(), IDENTITY, &newer).unwrap();
    disk.steps().cut_before(Some(0));
    let refused = recognise(&disk, data()).unwrap_err().to_string();
    assert!(refused.contains("version 2 is newer"), "{refused}");
}

#[test]
fn creation_cut_anywhere_leaves_a_directory_that_can_be_created_again() {
    let whole = StepDisk::default();
    whole.steps().cut_before(None);
    create(&whole, data(), OURS).unwrap();
    for cut in 0..whole.steps().taken() {
        for keep in [true, false] {
            let disk = StepDisk::default();
            disk.steps().cut_before(Some(cut));
            create(&disk, data(), OURS).unwrap_err();
            disk.power_cut(&mut || keep);
            disk.steps().cut_before(None);
            let found = recognise(&disk, data()).unwrap().accept().unwrap();
            assert!(found.is_none_or(|found| found == OURS), "cut {cut}");
            create(&disk, data(), OURS).unwrap();
            disk.power_cut(&mut || false);
            let found = recognise(&disk, data()).unwrap();
            assert_eq!(found, DataDirectory::Ours(OURS));
        }
    }
}

/// A kill between rename and directory sync leaves a manifest that only the
/// page cache knows. Once it was read, a power cut must not take it back.
#[test]
fn a_manifest_that_was_read_survives_a_power_cut() {
    let disk = StepDisk::default();
    create(&disk, data(), OURS).unwrap();
    let mut manifest = Manifest::empty(OURS);
    manifest.publish(&disk, data()).unwrap();
    manifest.sequence = 1;
    disk.steps().cut_before(None);
    manifest.publish(&disk, data()).unwrap();
    let steps = disk.steps().taken();
    manifest.sequence = 2;
    disk.steps().cut_before(Some(steps - 1));
    manifest.publish(&disk, data()).unwrap_err();
    disk.steps().cut_before(None);
    let read = Manifest::read(&disk, data()).unwrap().unwrap();
    assert_eq!(read.sequence, 2);
    disk.power_cut(&mut || false);
    assert_eq!(Manifest::read(&disk, data()).unwrap(), Some(read));
}

#[test]
fn one_process_uses_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let held = lock(scratch.path()).unwrap();
    let text = lock(scratch.path()).unwrap_err().to_string();
    assert!(
        text.contains("another process uses this data directory"),
        "{text}"
    );
    drop(held);
    lock(scratch.path()).unwrap();
    let nowhere = lock(&scratch.path().join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, Fatal::Io { .. }), "{nowhere}");
}
