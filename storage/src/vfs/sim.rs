//! A disk in memory whose faults are drawn from a seed.
//!
//! Fault model. A write lands in the page cache; until its file is synced a
//! power cut keeps any subset of its sectors (512 or 4096 bytes at a time, drawn
//! per cut). A create, rename or removal lasts only once its directory is
//! synced; a cut keeps a prefix or any subset of the unsynced ones (a rename is
//! atomic). A failed sync writes some sectors and marks all pages clean, so that
//! a second sync lies, as Linux does. A read past the page cache sees what is
//! durable and, by chance, sectors that were written back. Operations can fail
//! by number, the disk can be full. Any bytes can be replaced, on disk and in the
//! cache: flips, zeroed and misdirected sectors, stale copies.
//!
//! One lock, no threads, no time: the same seed and calls give the same disk.
//! Limit: [`OPERATIONS_MAX`] recorded operations.

mod damage;
mod file;
mod image;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{OpenMode, Vfs, VfsFile};
use file::SimFile;
use image::{Inode, NameChange, Names, settle};
pub use random::SplitMix64;

/// A run that records more operations than this is not a unit test any more.
const OPERATIONS_MAX: usize = 1 << 20;

/// The operations that are recorded and can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the calls of the trait")]
pub enum OperationKind {
    Create,
    Write,
    SetLen,
    Sync,
    Rename,
    Remove,
    CreateDir,
    SyncDir,
    Read,
}

/// One recorded operation. Reads are counted, not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was done.
    pub kind: OperationKind,
    /// To which file or directory.
    pub path: PathBuf,
}

/// Where in an operation the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutPoint {
    /// Nothing of it happened.
    Before,
    /// A part of it happened.
    Within,
    /// All of it happened, its caller never heard.
    After,
}

#[derive(Clone, Debug, Default)]
struct State {
    random: u64,
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    pending_names: Vec<NameChange>,
    operations: Vec<Operation>,
    counts: BTreeMap<OperationKind, u64>,
    faults: BTreeSet<(OperationKind, u64)>,
    reached: BTreeMap<OperationKind, u64>,
    cut: Option<(usize, CutPoint)>,
    dead: bool,
    capacity: Option<u64>,
    no_space: u64,
    generation: u64,
}

/// A simulated disk as one process sees it; clones share the disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = State {
            random: seed,
            ..State::default()
        };
        state.names.directories.insert(PathBuf::from("/"));
        state.durable_names = state.names.clone();
        SimDisk {
            state: Arc::new(Mutex::new(state)),
            generation: 0,
        }
    }

    /// The disk after a power cut now and a reboot; this one is left as it is.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> SimDisk {
        let state = self.lock();
        let mut random = SplitMix64(seed);
        let mut after = State {
            random: random.next_u64(),
            ..State::default()
        };
        after.inodes = state.inodes.clone();
        for inode in &mut after.inodes {
            settle(&mut inode.durable, &inode.pending, &mut random);
            inode.pending.clear();
            inode.cached.clone_from(&inode.durable);
        }
        after.durable_names = state.durable_names.clone();
        let prefix = random.chance(1, 2);
        let keep = random.below(state.pending_names.len() as u64 + 1);
        for (at, change) in state.pending_names.iter().enumerate() {
            let kept = if prefix {
                (at as u64) < keep
            } else {
                random.chance(1, 2)
            };
            if kept {
                after.durable_names.apply(change);
            }
        }
        after.durable_names.drop_orphans();
        after.names = after.durable_names.clone();
        SimDisk {
            state: Arc::new(Mutex::new(after)),
            generation: 0,
        }
    }

    /// The process dies; the page cache stays. The result is the next process's
    /// view, every older handle fails from now on.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        let mut state = self.lock();
        state.generation += 1;
        SimDisk {
            state: Arc::clone(&self.state),
            generation: state.generation,
        }
    }

    /// Makes the `nth` operation of a kind fail (from 1) with an I/O error.
    pub fn fail(&self, kind: OperationKind, nth: u64) {
        self.lock().faults.insert((kind, nth));
    }

    /// Forgets every planned fault that was not reached; the disk has room again.
    pub fn forget_faults(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.capacity = None;
        state.cut = None;
    }

    /// How many failures of a kind were reached.
    #[must_use]
    pub fn reached(&self, kind: OperationKind) -> u64 {
        self.lock().reached.get(&kind).copied().unwrap_or(0)
    }

    /// How many operations of a kind were tried.
    #[must_use]
    pub fn count(&self, kind: OperationKind) -> u64 {
        self.lock().counts.get(&kind).copied().unwrap_or(0)
    }

    /// Bounds the sum of all files' lengths, bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How often the disk was full.
    #[must_use]
    pub fn no_space(&self) -> u64 {
        self.lock().no_space
    }

    /// The power goes at the recorded operation `at` (from 0): it and all later
    /// ones fail. Then take the image with [`SimDisk::power_cut`].
    pub fn cut_at(&self, at: usize, point: CutPoint) {
        self.lock().cut = Some((at, point));
    }

    /// True once the power went.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// How many operations are recorded: the number of the next one.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.lock().operations.len()
    }

    /// The sum of all files' lengths, bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// All recorded operations.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.files.keys().cloned().collect()
    }

    /// A file's bytes; empty when absent.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.lock();
        let inode = state
            .names
            .files
            .get(path)
            .and_then(|n| state.inodes.get(*n));
        inode.map(|inode| inode.cached.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one recorded operation: `act` gets the state and whether to do only
    /// a part of it.
    fn perform<T>(
        &self,
        kind: OperationKind,
        path: &Path,
        act: impl FnOnce(&mut State, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        state.alive(self.generation)?;
        let at = state.operations.len();
        assert!(at < OPERATIONS_MAX, "too many operations");
        let path = path.to_path_buf();
        state.operations.push(Operation { kind, path });
        let point = state
            .cut
            .and_then(|(cut, point)| (cut == at).then_some(point));
        if let Some(point) = point {
            state.dead = true;
            if point != CutPoint::Before {
                act(&mut state, point == CutPoint::Within)?;
            }
            return Err(io::Error::other("the power is off"));
        }
        if state.fails(kind) {
            // A sync or write that fails may have done a part of its work.
            if matches!(kind, OperationKind::Sync | OperationKind::Write) {
                act(&mut state, true)?;
            }
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        act(&mut state, false)
    }
}

impl State {
    fn alive(&self, generation: u64) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        if generation != self.generation {
            return Err(io::Error::other("this process was killed"));
        }
        Ok(())
    }

    fn fails(&mut self, kind: OperationKind) -> bool {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let fails = self.faults.contains(&(kind, *count));
        if fails {
            *self.reached.entry(kind).or_default() += 1;
        }
        fails
    }

    fn draw(&mut self) -> SplitMix64 {
        let mut random = SplitMix64(self.random);
        self.random = random.next_u64();
        random
    }

    fn change(&mut self, change: NameChange) {
        self.names.apply(&change);
        self.pending_names.push(change);
    }

    fn inode(&mut self, number: usize) -> &mut Inode {
        self.inodes.get_mut(number).expect("inodes are never freed")
    }

    fn used_bytes(&self) -> u64 {
        let files = self.names.files.values();
        files
            .filter_map(|n| self.inodes.get(*n))
            .map(|inode| inode.cached.len() as u64)
            .sum()
    }

    /// Bytes that may still be written at `end`.
    fn check_space(&mut self, number: usize, end: u64) -> io::Result<()> {
        let length = self.inode(number).cached.len() as u64;
        let Some(capacity) = self.capacity.filter(|_| end > length) else {
            return Ok(());
        };
        if self.used_bytes() - length + end > capacity {
            self.no_space += 1;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits memory")
}

impl SimDisk {
    fn find(&self, path: &Path) -> io::Result<usize> {
        let state = self.lock();
        state.alive(self.generation)?;
        let inode = state.names.files.get(path).copied();
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&self, path: &Path, inode: usize, uncached: Option<Vec<u8>>) -> Arc<dyn VfsFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            inode,
            uncached,
        })
    }
}

impl Vfs for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        if mode != OpenMode::CreateNew {
            return Ok(self.file(path, self.find(path)?, None));
        }
        let inode = self.perform(OperationKind::Create, path, |state, _| {
            if state.names.files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.names.check_parent(path)?;
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.change(NameChange::Link(path.to_path_buf(), inode));
            Ok(inode)
        })?;
        Ok(self.file(path, inode, None))
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let number = self.find(path)?;
        let mut state = self.lock();
        let mut random = state.draw();
        let inode = state.inode(number);
        let mut view = inode.durable.clone();
        settle(&mut view, &inode.pending, &mut random);
        drop(state);
        Ok(self.file(path, number, Some(view)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(OperationKind::Rename, from, |state, _| {
            let inode = state.names.files.get(from).copied();
            let inode = inode.ok_or(io::ErrorKind::NotFound)?;
            assert_eq!(from.parent(), to.parent(), "renames stay in a directory");
            state.change(NameChange::Rename(
                from.to_path_buf(),
                to.to_path_buf(),
                inode,
            ));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(OperationKind::Remove, path, |state, _| {
            if !state.names.files.contains_key(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.change(NameChange::Unlink(path.to_path_buf()));
            Ok(())
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        state.alive(self.generation)?;
        state.names.list(directory)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for path in directory.ancestors() {
            if self.exists(path)? {
                break;
            }
            missing.push(path);
        }
        for path in missing.into_iter().rev() {
            self.perform(OperationKind::CreateDir, path, |state, _| {
                state.change(NameChange::Directory(path.to_path_buf()));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.perform(OperationKind::SyncDir, directory, |state, part| {
            let mut allowed = usize::MAX;
            if part {
                allowed = at(state.draw().below(state.pending_names.len() as u64 + 1));
            }
            let durable = &mut state.durable_names;
            state.pending_names.retain(|change| {
                let synced = change.parent() == Some(directory) && allowed > 0;
                if synced {
                    durable.apply(change);
                    allowed -= 1;
                }
                !synced
            });
            Ok(())
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        state.alive(self.generation)?;
        Ok(state.names.files.contains_key(path) || state.names.directories.contains(path))
    }
}
