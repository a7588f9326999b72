//! For tests: a file system in memory and a checkpoint store that share one
//! count of steps, so that a run can be cut before any of them, the power with
//! it. A file's data and a directory's entries become durable by their syncs
//! only; of the rest the caller's dice decide.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::model::ModelDisk;
use super::stepped::{StepGate, SteppedStore, StoreStep};
use crate::error::Fatal;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Counts steps; those from `cut_before` on fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(Arc<Mutex<(usize, Option<usize>)>>);

impl Steps {
    /// Starts counting anew; the step of this number (from 0) and all later
    /// ones fail.
    pub(crate) fn cut_before(&self, step: Option<usize>) {
        *self.0.lock().unwrap() = (0, step);
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.lock().unwrap().0
    }

    fn step(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.1.is_some_and(|cut| state.0 >= cut) {
            return Err(io::Error::other("the run is cut here"));
        }
        state.0 += 1;
        Ok(())
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    seen: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
}

/// The file system. Directories are always there.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepDisk {
    steps: Steps,
    state: Arc<Mutex<State>>,
}

impl StepDisk {
    pub(crate) fn steps(&self) -> &Steps {
        &self.steps
    }

    pub(crate) fn power_cut(&self, keep: &mut dyn FnMut() -> bool) {
        let mut state = self.lock();
        let State {
            contents,
            seen,
            durable,
        } = &mut *state;
        let changed: Vec<PathBuf> = seen.keys().chain(durable.keys()).cloned().collect();
        for path in changed {
            if seen.get(&path) != durable.get(&path) && keep() {
                match seen.get(&path) {
                    Some(content) => durable.insert(path, *content),
                    None => durable.remove(&path),
                };
            }
        }
        for content in contents {
            if content.seen != content.durable && keep() {
                content.durable = content.seen.clone();
            }
            content.seen = content.durable.clone();
        }
        *seen = durable.clone();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[derive(Debug)]
struct StepFile {
    disk: StepDisk,
    content: usize,
}

impl StepFile {
    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.disk.lock().contents[self.content])
    }
}

impl VfsFile for StepFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.change(|content| match content.seen.get(start..start + buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.steps.step()?;
        let start = usize::try_from(offset).unwrap();
        self.change(|content| {
            let end = content.seen.len().max(start + data.len());
            content.seen.resize(end, 0);
            content.seen[start..start + data.len()].copy_from_slice(data);
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.steps.step()?;
        self.change(|content| content.durable = content.seen.clone());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.change(|content| content.seen.len() as u64))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.steps.step()?;
        let length = usize::try_from(length).unwrap();
        self.change(|content| content.seen.resize(length, 0));
        Ok(())
    }

    fn raw_fd(&self) -> Option<i32> {
        None
    }
}

impl Vfs for StepDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let found = self.lock().seen.get(path).copied();
        let content = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(content), _) => content,
            (None, OpenMode::CreateNew) => {
                self.steps.step()?;
                let mut state = self.lock();
                state.contents.push(Content::default());
                let content = state.contents.len() - 1;
                state.seen.insert(path.to_owned(), content);
                content
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let disk = self.clone();
        Ok(Arc::new(StepFile { disk, content }))
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.open(path, OpenMode::Read)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.steps.step()?;
        let mut state = self.lock();
        let content = state.seen.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.seen.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if !self.lock().seen.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.steps.step()?;
        self.lock().seen.remove(path);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        let inside = state.seen.keys().filter_map(|path| {
            let name = path.strip_prefix(directory).ok()?.components().next()?;
            Some(PathBuf::from(name.as_os_str()))
        });
        let names: std::collections::BTreeSet<PathBuf> = inside.collect();
        Ok(names.into_iter().collect())
    }

    fn create_dir_all(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.steps.step()?;
        let mut state = self.lock();
        let State { seen, durable, .. } = &mut *state;
        durable.retain(|path, _| path.parent() != Some(directory));
        let inside = seen
            .iter()
            .filter(|(path, _)| path.parent() == Some(directory));
        durable.extend(inside.map(|(path, content)| (path.clone(), *content)));
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.lock().seen.keys().any(|known| known.starts_with(path)))
    }
}

impl StepGate for Steps {
    fn step(&self, _step: StoreStep) -> Result<(), Fatal> {
        self.step()
            .map_err(|error| Fatal::io("step", "the store", error))
    }
}

/// A model store each of whose records is a step.
pub(crate) fn step_store(steps: &Steps, disk: &ModelDisk) -> SteppedStore<Steps> {
    SteppedStore::open(disk, 1, steps.clone())
}
