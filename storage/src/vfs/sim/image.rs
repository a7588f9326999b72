//! What the simulated disk stores: files with unsynced writes, and names with
//! unsynced changes. Pure data; [`super::SimDisk`] draws the faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::SplitMix64;

/// A change of a file that is not synced.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// A file without its names.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What the process sees.
    pub cached: Vec<u8>,
    /// What a power cut keeps for certain.
    pub durable: Vec<u8>,
    pub pending: Vec<Pending>,
}

impl Inode {
    pub(super) fn push(&mut self, change: Pending) {
        change.apply(&mut self.cached);
        self.pending.push(change);
    }

    pub(super) fn settle_all(&mut self) {
        for change in &self.pending {
            change.apply(&mut self.durable);
        }
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Pending::Write { offset, data } => write(bytes, *offset, data),
            Pending::Length(length) => bytes.resize(*length, 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    let target = bytes.get_mut(offset..end).expect("resized above");
    target.copy_from_slice(data);
}

/// Applies a part of unsynced changes: any subset of sectors, by chance.
pub(super) fn settle(durable: &mut Vec<u8>, pending: &[Pending], random: &mut SplitMix64) {
    let sector = if random.chance(1, 2) { 512 } else { 4096 };
    let kept_of_4 = random.below(5);
    for change in pending {
        let Pending::Write { offset, data } = change else {
            if random.chance(kept_of_4, 4) {
                change.apply(durable);
            }
            continue;
        };
        let mut at = 0;
        while at < data.len() {
            let end = (((offset + at) / sector + 1) * sector - offset).min(data.len());
            if random.chance(kept_of_4, 4) {
                write(durable, offset + at, data.get(at..end).unwrap_or_default());
            }
            at = end;
        }
    }
}

/// A change of a directory that is not synced. A rename is atomic.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unlink(PathBuf),
    Directory(PathBuf),
}

impl NameChange {
    /// The directory whose sync makes it last.
    pub(super) fn parent(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _)
            | NameChange::Rename(_, path, _)
            | NameChange::Unlink(path)
            | NameChange::Directory(path) => path.parent(),
        }
    }
}

/// All names of the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub files: BTreeMap<PathBuf, usize>,
    pub directories: BTreeSet<PathBuf>,
}

impl Names {
    pub(super) fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Link(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            NameChange::Rename(from, to, inode) => {
                // Its source may hold another file by now, where changes were lost.
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
            NameChange::Unlink(path) => {
                self.files.remove(path);
            }
            NameChange::Directory(path) => {
                self.directories.insert(path.clone());
            }
        }
    }

    /// What lies in a lost directory is lost.
    pub(super) fn drop_orphans(&mut self) {
        let kept = self.directories.clone();
        let lives = |path: &Path| path.ancestors().skip(1).all(|parent| kept.contains(parent));
        self.directories.retain(|path| lives(path));
        self.files.retain(|path, _| lives(path));
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.directories.contains(parent) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let paths = self.files.keys().chain(&self.directories);
        let inside = paths.filter(|path| path.parent() == Some(directory));
        let mut names: Vec<_> = inside
            .filter_map(|p| p.file_name().map(PathBuf::from))
            .collect();
        names.sort();
        Ok(names)
    }
}
