//! The scrub of what is published, on real files: identity, manifest, fjall's tables.

use std::fs;

use bytes::Bytes;

use super::*;
use crate::checkpoint::{CheckpointStore, FjallStore};
use crate::types::{MemberId, Revision};
use crate::vfs::real::RealVfs;

const OURS: Identity = Identity {
    cluster_id: 11,
    member_id: MemberId(12),
};

/// So many looks in a row at an unchanged store mean that fjall rests.
const QUIET_LOOKS: u32 = 20;
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

struct Published {
    _scratch: tempfile::TempDir,
    directory: PathBuf,
    store: FjallStore,
    written: WrittenManifest,
}

impl Published {
    fn new() -> Published {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("data");
        layout::create(&RealVfs, &directory, OURS).unwrap();
        let store = FjallStore::create(&directory.join(layout::CHECKPOINT)).unwrap();
        let mut published = Published {
            _scratch: scratch,
            directory,
            store,
            written: WrittenManifest {
                identity: OURS,
                sequence: 0,
            },
        };
        published.publish();
        published.grow(2..50);
        published.settle();
        published
    }

    /// Waits until fjall has merged what it wants to: else it puts a new file where one was
    /// struck or lost.
    fn settle(&self) {
        let path = self.directory.join("checkpoint/keyspaces/2/current");
        let mut last = fs::read(&path).unwrap();
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            std::thread::sleep(LOOK);
            let now = fs::read(&path).unwrap();
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
    }

    fn publish(&mut self) {
        let manifest = Manifest {
            sequence: self.written.sequence + 1,
            ..Manifest::empty(OURS)
        };
        manifest.publish(&RealVfs, &self.directory).unwrap();
        self.written = (&manifest).into();
    }

    fn grow(&mut self, mains: std::ops::Range<i64>) {
        let values: Vec<(Revision, Bytes)> = mains
            .map(|main| (Revision::new(main, 0), Bytes::from(vec![7; 3000])))
            .collect();
        self.store.ingest_values(&values, &mut || ()).unwrap();
        self.store.sync().unwrap();
    }

    fn scrub(&self) -> Result<u64, Fatal> {
        let vfs = Arc::new(RealVfs);
        let scrub = StoreScrub::new(vfs, self.directory.clone(), self.store.reader());
        let mut bytes = 0;
        scrub.files(self.written, &mut |read| bytes += read)?;
        scrub.store(&mut |read| bytes += read)?;
        Ok(bytes)
    }

    /// Flips one byte of each of these files in place and gives the finding; then undoes it.
    fn found(&self, paths: &[PathBuf], part: usize) -> Fatal {
        let sound: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        for (path, sound) in paths.iter().zip(&sound) {
            let mut bytes = sound.clone();
            let at = (bytes.len() - 1) * part / 2;
            bytes[at] ^= 0x40;
            fs::write(path, bytes).unwrap();
        }
        let finding = self.scrub().unwrap_err();
        for (path, sound) in paths.iter().zip(sound) {
            fs::write(path, sound).unwrap();
        }
        finding
    }

    fn tables(&self) -> Vec<PathBuf> {
        let tables = self.directory.join("checkpoint/keyspaces/2/tables");
        let entries = fs::read_dir(tables).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn what_is_whole_has_no_finding_and_is_read_whole() {
    let published = Published::new();
    let tables: u64 = published
        .tables()
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(tables > 100_000);
    assert!(published.scrub().unwrap() >= tables);
}

#[test]
fn a_flip_in_any_kind_of_file_is_found_and_named() {
    let published = Published::new();
    let named = ["STERNPOST", "MANIFEST", "checkpoint/keyspaces/2/current"];
    let mut kinds: Vec<Vec<PathBuf>> = named
        .iter()
        .map(|name| vec![published.directory.join(name)])
        .collect();
    // Which of them count is fjall's matter: it may be merging some.
    kinds.push(published.tables());
    for paths in kinds {
        for part in 0..=2 {
            match published.found(&paths, part) {
                Fatal::Corruption { path: found, .. } => {
                    let here = found.parent() == paths[0].parent();
                    assert!(here, "{} for {paths:?}", found.display());
                }
                other => panic!("{paths:?}: {other:?}"),
            }
        }
    }
    published.scrub().unwrap();
}

#[test]
fn a_lost_or_an_older_file_is_found() {
    let mut published = Published::new();
    let manifest = published.directory.join("MANIFEST");
    let older = fs::read(&manifest).unwrap();
    published.publish();
    let newer = fs::read(&manifest).unwrap();
    fs::write(&manifest, older).unwrap();
    let finding = published.scrub().unwrap_err().to_string();
    assert!(finding.contains("this is manifest 1, but 2"), "{finding}");
    fs::write(&manifest, newer).unwrap();
    let current = published.directory.join("checkpoint/keyspaces/2/current");
    for path in [published.directory.join("STERNPOST"), manifest, current] {
        let sound = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        match published.scrub() {
            Err(Fatal::Corruption { path: found, .. }) => assert_eq!(found, path),
            other => panic!("{}: {other:?}", path.display()),
        }
        fs::write(&path, sound).unwrap();
    }
}

/// Runs of checkpoints and fjall's own merges remove tables and version files while they
/// are being read.
#[test]
fn a_store_that_changes_meanwhile_is_no_finding() {
    let mut published = Published::new();
    let reader = published.store.reader();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scrubbing = scope.spawn(|| {
            let mut passes = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) || passes == 0 {
                reader.scrub(&mut |_| ()).unwrap();
                passes += 1;
            }
        });
        for round in 1..60 {
            let first = round * 50;
            published.grow(first..first + 50);
            let old: Vec<Revision> = (first - 50..first - 10)
                .map(|main| Revision::new(main, 0))
                .collect();
            published.store.remove_values(&old, &mut || ()).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        scrubbing.join().unwrap();
    });
    published.scrub().unwrap();
}
