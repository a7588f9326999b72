//! Disks that break their word: bits flip, sectors are zeroed or written to the
//! wrong place, records of the checkpoint are damaged or lost, older copies are
//! put back. Each strikes a copy of the disk, at rest or under a running member,
//! whose end is judged: refused with the file named, or no harm at all.
//!
//! One kind of harm cannot be told from a power cut: a flip in the last group of
//! the log, which nothing proves to have been synced. It is a kind of its own, judged by
//! what is promised then: the state is as if that group had never been written.

use std::path::{Path, PathBuf};

use storage::checkpoint::{Family, ModelDisk};
use storage::vfs::sim::{SimDisk, SplitMix64};

use crate::faults::FaultKind;

/// Where the last group went that was flushed, and one that may be under way.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    pub flushed: Option<(PathBuf, u64, u64)>,
    pub submitted: Option<(PathBuf, u64, u64)>,
}

impl Tail {
    fn touches(&self, path: &Path, from: u64, to: u64) -> bool {
        let groups = [&self.flushed, &self.submitted];
        groups
            .into_iter()
            .flatten()
            .any(|(group, begin, end)| group == path && from < *end && to > *begin)
    }
}

/// An older state of both disks.
#[derive(Debug)]
pub struct OldCopy {
    pub disk: SimDisk,
    pub store: ModelDisk,
}

/// Strikes; a few words about what, or None when there was nothing to strike.
pub fn strike(
    kind: FaultKind,
    (disk, store): (&SimDisk, &ModelDisk),
    old: Option<&OldCopy>,
    tail: &Tail,
    random: &mut SplitMix64,
) -> Option<String> {
    match kind {
        FaultKind::DamagedRecord | FaultKind::LostRecord => record(kind, store, random),
        FaultKind::TailFlip => tail_flip(disk, tail, random),
        FaultKind::StaleFile => stale_file(disk, old?, random),
        FaultKind::StalePart => stale_part(disk, store, old?, random),
        _ => bytes(kind, disk, tail, random),
    }
}

/// Draws until bytes change that were synced and proven.
fn bytes(kind: FaultKind, disk: &SimDisk, tail: &Tail, random: &mut SplitMix64) -> Option<String> {
    for _ in 0..20 {
        let path = pick(&disk.files(), random)?.clone();
        let old = disk.contents(&path);
        if old.is_empty() {
            continue;
        }
        let mut new = old.clone();
        let sector = if random.chance(1, 2) { 512 } else { 4096 };
        // Most of a segment is empty: half of the strikes are near its beginning.
        let reach = if random.chance(1, 2) {
            old.len()
        } else {
            old.len().min(16_384)
        };
        let at = below(reach, random);
        let (from, to) = match kind {
            FaultKind::BitFlip => {
                new[at] ^= 1 << random.below(8);
                (at, at + 1)
            }
            _ => {
                let from = at / sector * sector;
                let to = (from + sector).min(new.len());
                if kind == FaultKind::ZeroedSector {
                    new[from..to].fill(0);
                } else {
                    let source = disk.contents(pick(&disk.files(), random)?);
                    let start = below(source.len() / sector + 1, random) * sector;
                    let landed = source.get(start..).unwrap_or_default();
                    let count = landed.len().min(to - from);
                    new[from..from + count].copy_from_slice(&landed[..count]);
                }
                (from, to)
            }
        };
        if new != old && !tail.touches(&path, from as u64, to as u64) {
            disk.damage(&path, new);
            return Some(format!("{kind:?} of {} at {from}", path.display()));
        }
    }
    None
}

fn tail_flip(disk: &SimDisk, tail: &Tail, random: &mut SplitMix64) -> Option<String> {
    let (path, begin, end) = tail.flushed.as_ref()?;
    let mut bytes = disk.contents(path);
    let at = begin + random.below(end - begin);
    *bytes.get_mut(usize::try_from(at).unwrap())? ^= 1 << random.below(8);
    disk.damage(path, bytes);
    Some(format!("TailFlip of {} at {at}", path.display()))
}

fn record(kind: FaultKind, store: &ModelDisk, random: &mut SplitMix64) -> Option<String> {
    let family = if random.chance(1, 2) {
        Family::Index
    } else {
        Family::Cold
    };
    let revision = *pick(&store.revisions(family), random)?;
    let struck = if kind == FaultKind::LostRecord {
        store.lose(family, revision)
    } else {
        let at = below(40, random);
        store.damage(family, revision, at, 1 << random.below(8))
    };
    struck.then(|| format!("{kind:?} of {family:?} {revision:?}"))
}

/// One file is as it was once.
fn stale_file(disk: &SimDisk, old: &OldCopy, random: &mut SplitMix64) -> Option<String> {
    let differs = |path: &&PathBuf| {
        disk.files().contains(path) && disk.contents(path) != old.disk.contents(path)
    };
    // A segment that was prepared and not begun takes the groups with it that it got since.
    let begun = |path: &&PathBuf| {
        let bytes = old.disk.contents(path);
        path.extension().is_none_or(|end| end != "segment") || bytes.starts_with(b"SPOSTLOG")
    };
    let files = old.disk.files();
    let files: Vec<PathBuf> = files
        .iter()
        .filter(differs)
        .filter(begun)
        .cloned()
        .collect();
    let path = pick(&files, random)?;
    disk.damage(path, old.disk.contents(path));
    Some(format!("StaleFile {}", path.display()))
}

/// The whole log, all other files, the checkpoint store, or these two are as they
/// were once.
fn stale_part(
    disk: &SimDisk,
    store: &ModelDisk,
    old: &OldCopy,
    random: &mut SplitMix64,
) -> Option<String> {
    let part = random.below(4);
    if part >= 2 {
        store.become_as(&old.store);
    }
    if part == 2 {
        return Some("StalePart: the checkpoint store".to_owned());
    }
    let belongs = |path: &PathBuf| path.starts_with("/data/log") == (part == 0);
    let mut changed = false;
    for path in old.disk.files().into_iter().filter(belongs) {
        let bytes = old.disk.contents(&path);
        changed |= disk.contents(&path) != bytes;
        disk.put_back(&path, bytes);
    }
    for path in disk.files().into_iter().filter(belongs) {
        if !old.disk.files().contains(&path) {
            disk.take_away(&path);
            changed = true;
        }
    }
    let name = ["the log", "the manifest", "", "all but the log"][part as usize];
    changed.then(|| format!("StalePart: {name}"))
}

fn below(bound: usize, random: &mut SplitMix64) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

fn pick<'a, T>(all: &'a [T], random: &mut SplitMix64) -> Option<&'a T> {
    if all.is_empty() {
        return None;
    }
    all.get(below(all.len(), random))
}
