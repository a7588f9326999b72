//! The promises of both file systems, and the lies that the simulated one tells.

#![expect(
    clippy::cast_possible_truncation,
    reason = "the files of these tests are small"
)]

use std::path::{Path, PathBuf};

use super::real::RealVfs;
use super::sim::{OperationKind, SimDisk};
use super::{OpenMode, Vfs};

fn write_and_read(vfs: &dyn Vfs, directory: &Path) {
    let directory = directory.join("a/b");
    vfs.create_dir_all(&directory).unwrap();
    vfs.create_dir_all(&directory).unwrap();
    let path = directory.join("file");
    assert!(vfs.open(&path, OpenMode::Read).is_err());
    let file = vfs.open(&path, OpenMode::CreateNew).unwrap();
    assert!(vfs.open(&path, OpenMode::CreateNew).is_err());
    let bytes: Vec<u8> = (0..10_001_u32).map(|n| (n % 251) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file.set_len(10_000).unwrap();
    file.sync_data().unwrap();
    vfs.sync_dir(&directory).unwrap();
    for (offset, length) in [(0, 10_000), (1, 9_999), (4095, 2), (4096, 4096), (9_999, 1)] {
        for reading in [
            vfs.open(&path, OpenMode::Read).unwrap(),
            vfs.open_uncached(&path).unwrap(),
        ] {
            let mut read = vec![0; length];
            reading.read_exact_at(&mut read, offset).unwrap();
            let from = offset as usize;
            assert_eq!(
                read,
                bytes[from..from + length],
                "{length} bytes at {offset}"
            );
            assert_eq!(reading.len().unwrap(), 10_000);
            let past = reading.read_exact_at(&mut [0; 2], 9_999).unwrap_err();
            assert_eq!(past.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }
    vfs.rename(&path, &directory.join("other")).unwrap();
    assert_eq!(vfs.list(&directory).unwrap(), [PathBuf::from("other")]);
    assert!(!vfs.exists(&path).unwrap());
    vfs.remove_file(&directory.join("other")).unwrap();
    assert!(vfs.list(&directory).unwrap().is_empty());
}

#[test]
fn real_and_simulated_files_behave_alike() {
    // Beside the sources: a temporary file system may know no direct reads.
    let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    write_and_read(&RealVfs, root.path());
    write_and_read(&SimDisk::new(1), Path::new("/"));
}

/// A disk with one durable file of `old` bytes.
fn disk_with_file(path: &Path) -> SimDisk {
    let disk = SimDisk::new(9);
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(&[b'o'; 16_384], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

#[test]
fn a_power_cut_keeps_any_subset_of_unsynced_sectors() {
    let path = Path::new("/file");
    let disk = disk_with_file(path);
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[b'n'; 16_384], 0).unwrap();
    let (mut none, mut some, mut all, mut small) = (0, 0, 0, 0);
    for seed in 0..200 {
        let after = disk.power_cut(seed).contents(path);
        assert!(after.chunks(512).all(|s| s.iter().all(|b| *b == s[0])));
        match after.iter().filter(|b| **b == b'n').count() {
            0 => none += 1,
            16_384 => all += 1,
            new => {
                some += 1;
                small += usize::from(new % 4096 != 0);
            }
        }
    }
    assert!(
        none > 10 && some > 10 && all > 10 && small > 10,
        "{none} {some} {all} {small}"
    );
    file.sync_data().unwrap();
    assert!((0..50).all(|seed| disk.power_cut(seed).contents(path) == [b'n'; 16_384]));
}

#[test]
fn a_failed_sync_lies_the_second_time() {
    let path = Path::new("/file");
    let disk = disk_with_file(path);
    disk.fail(OperationKind::Sync, 2);
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[b'n'; 16_384], 0).unwrap();
    assert!(file.sync_data().is_err());
    assert_eq!(disk.reached(OperationKind::Sync), 1);
    file.sync_data().unwrap();
    assert_eq!(disk.contents(path), [b'n'; 16_384]);
    let uncached = disk.open_uncached(path).unwrap();
    let mut read = vec![0; 16_384];
    uncached.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, disk.power_cut(1).contents(path));
    assert_ne!(read, [b'n'; 16_384], "this seed loses something");
}

#[test]
fn names_last_only_with_their_directory() {
    let disk = disk_with_file(Path::new("/old"));
    disk.rename(Path::new("/old"), Path::new("/new")).unwrap();
    let names = |disk: &SimDisk| disk.list(Path::new("/")).unwrap();
    let images: Vec<_> = (0..40).map(|seed| names(&disk.power_cut(seed))).collect();
    for name in ["old", "new"] {
        assert!(
            images.contains(&vec![PathBuf::from(name)]),
            "{name} is possible"
        );
    }
    assert!(
        images.iter().all(|image| image.len() == 1),
        "a rename is atomic"
    );
    disk.sync_dir(Path::new("/")).unwrap();
    assert!((0..40).all(|seed| names(&disk.power_cut(seed)) == [PathBuf::from("new")]));
}

#[test]
fn a_killed_process_writes_no_more_and_its_page_cache_stays() {
    let path = Path::new("/file");
    let disk = disk_with_file(path);
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(b"kept", 0).unwrap();
    let next = disk.kill();
    assert!(file.write_all_at(b"late", 0).is_err());
    assert!(disk.exists(path).is_err());
    let mut read = [0; 4];
    let reading = next.open(path, OpenMode::Read).unwrap();
    reading.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"kept");
}
