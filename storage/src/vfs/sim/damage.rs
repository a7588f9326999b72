//! What becomes of a disk behind the back of whoever uses it: copies, damaged
//! bytes, files that come back and go. All of it lies on disk and in the cache.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::SimDisk;
use super::image::Inode;

impl SimDisk {
    /// Another disk that is as this one is now, unsynced changes included.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(self.lock().clone())),
            generation: self.generation,
        }
    }

    /// Replaces a file's bytes: flips, cuts, zeroed and misdirected sectors.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock();
        let number = state.names.files.get(path).copied();
        let inode = number.and_then(|number| state.inodes.get_mut(number));
        let inode = inode.expect("only a file that is there is damaged");
        inode.pending.clear();
        inode.durable.clone_from(&bytes);
        inode.cached = bytes;
    }

    /// A file is there with these bytes, whether or not it was there before.
    pub fn put_back(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock();
        let number = state.inodes.len();
        state.inodes.push(Inode {
            cached: bytes.clone(),
            durable: bytes,
            ..Inode::default()
        });
        state.names.files.insert(path.to_path_buf(), number);
        state.durable_names.files.insert(path.to_path_buf(), number);
    }

    /// A file is gone.
    pub fn take_away(&self, path: &Path) {
        let mut state = self.lock();
        state.names.files.remove(path);
        state.durable_names.files.remove(path);
    }
}
