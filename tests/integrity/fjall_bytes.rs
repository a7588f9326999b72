//! Flips, zeroed and swapped sectors and cuts in the files of a real fjall: what loads is
//! exactly what was checkpointed, or the start or the read is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::checkpoint::{FjallStore, layout};
use storage::error::Fatal;
use storage::vfs::Vfs;
use storage::vfs::real::RealVfs;
use storage::vfs::sim::SplitMix64;

use crate::amount;
use crate::member::{Member, OURS, Planned, plan};

const SECTOR: usize = 512;
/// fjall waits a tenth of a second when it closes, so several directories share the time.
const WORKERS: u64 = 8;
/// fjall preallocates its journal, 64 MiB of zeros; it stays empty, so its head is enough.
const HEAD: u64 = 4096;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read_tree(directory: &Path, into: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_tree(&path, into);
        } else {
            let mut bytes = Vec::new();
            let file = fs::File::open(&path).unwrap();
            let limit = if is_journal(&path) { HEAD } else { u64::MAX };
            file.take(limit).read_to_end(&mut bytes).unwrap();
            into.insert(path, bytes);
        }
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    if is_journal(path) && bytes.len() as u64 == HEAD {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(64 << 20).unwrap();
    }
}

/// Puts back every file that differs, removes what is new.
fn restore(directory: &Path, files: &Files) {
    let mut found = Files::new();
    read_tree(directory, &mut found);
    for path in found.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files
        .iter()
        .filter(|(path, bytes)| found.get(*path) != Some(bytes))
    {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(path, bytes);
    }
}

fn open(directory: &Path) -> Result<Member, Fatal> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    if layout::recognise(&*vfs, directory)?.accept()?.is_none() {
        layout::create(&*vfs, directory, OURS)?;
    }
    let store = FjallStore::open_or_create(&*vfs, directory)?;
    Member::open(&vfs, directory, Box::new(store))
}

fn make(directory: &Path) -> Vec<Planned> {
    let plan = plan(5, 80);
    let mut member = open(directory).unwrap();
    for _ in 0..7 {
        member.write(&plan, 10).unwrap();
        while member.purge(3) {}
        member.checkpoint(true).unwrap();
    }
    assert!(member.checkpointer.published().cold.count > 2);
    plan
}

fn damage(bytes: &mut Vec<u8>, random: &mut SplitMix64) -> String {
    let length = bytes.len() as u64;
    let sectors = length.div_ceil(SECTOR as u64);
    match random.below(10) {
        0 => {
            let at = (random.below(sectors) as usize) * SECTOR;
            let end = (at + SECTOR).min(bytes.len());
            bytes[at..end].fill(0);
            format!("sector at {at} zeroed")
        }
        1 if sectors > 2 => {
            let (one, other) = (random.below(sectors - 1), random.below(sectors - 1));
            let (one, other) = (one as usize * SECTOR, other as usize * SECTOR);
            let kept = bytes[one..one + SECTOR].to_vec();
            bytes.copy_within(other..other + SECTOR, one);
            bytes[other..other + SECTOR].copy_from_slice(&kept);
            format!("sectors at {one} and {other} swapped")
        }
        2 => {
            let at = random.below(length);
            bytes.truncate(at as usize);
            format!("cut at {at}")
        }
        _ => {
            let (at, bit) = (random.below(length) as usize, random.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
    }
}

/// Opens and reads everything; true when all of it is right, false when refused.
fn survives(directory: &Path, plan: &[Planned], applied: u64, what: &str) -> bool {
    let member = match open(directory) {
        Ok(member) => member,
        Err(
            Fatal::Corruption { path, .. } | Fatal::Io { path, .. } | Fatal::Refused { path, .. },
        ) => {
            assert!(
                path.starts_with(directory),
                "{what}: names {}",
                path.display()
            );
            return false;
        }
    };
    let mut right = true;
    for record in member.records() {
        match member.value(&record) {
            Ok(_) => {}
            Err(Fatal::Corruption { path, .. } | Fatal::Io { path, .. }) => {
                assert!(path.starts_with(directory), "{what}");
                right = false;
            }
            Err(other) => panic!("{what}: {other}"),
        }
    }
    assert_eq!(member.applied(), applied, "{what}");
    assert_eq!(
        member.machine.state_hash(),
        plan[applied as usize].hash,
        "{what}"
    );
    if right {
        member.verify(plan, what);
    }
    right
}

/// One directory of its own and its share of the cases.
fn campaign(worker: u64, cases: u64) -> (u64, BTreeMap<PathBuf, u64>) {
    // In memory where there is such a place: what a disk syncs is not the matter here.
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let directory = scratch.path().join("data");
    fs::create_dir_all(&directory).unwrap();
    let plan = make(&directory);
    let mut files = Files::new();
    read_tree(&directory, &mut files);
    let checkpoint = directory.join(layout::CHECKPOINT);
    let victims: Vec<&PathBuf> = files
        .iter()
        .filter(|(path, bytes)| path.starts_with(&checkpoint) && !bytes.is_empty())
        .map(|(path, _)| path)
        .collect();
    assert!(victims.len() > 6, "{victims:?}");
    let seed = amount("INTEGRITY_SEED", 1);
    let mut random = SplitMix64(seed * WORKERS + worker);
    let (mut refused, mut harmless) = (0, BTreeMap::new());
    for number in 0..cases {
        restore(&directory, &files);
        let path = victims[random.below(victims.len() as u64) as usize];
        let mut bytes = files[path].clone();
        let done = damage(&mut bytes, &mut random);
        if bytes == files[path] {
            continue;
        }
        write(path, &bytes);
        let path = path.strip_prefix(&checkpoint).unwrap();
        let what = format!("seed {seed}, worker {worker}, case {number}, {path:?}: {done}");
        if survives(&directory, &plan, 70, &what) {
            *harmless.entry(path.to_owned()).or_insert(0) += 1;
        } else {
            refused += 1;
        }
    }
    (refused, harmless)
}

#[test]
fn damage_in_fjalls_files_is_refused_or_harmless() {
    let cases = amount("INTEGRITY_FJALL", 400).div_ceil(WORKERS);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| std::thread::spawn(move || campaign(worker, cases)))
        .collect();
    let (mut refused, mut harmless) = (0, BTreeMap::new());
    for worker in workers {
        let (no, yes) = worker.join().expect("no case panics");
        refused += no;
        for (path, count) in yes {
            *harmless.entry(path).or_insert(0) += count;
        }
    }
    let unseen: u64 = harmless.values().sum();
    eprintln!("fjall: {refused} refused, {unseen} harmless: {harmless:?}");
    assert!(refused > 50);
}
