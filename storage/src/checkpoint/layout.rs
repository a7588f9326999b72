//! What lies where in a data directory, how the directory is told from others'
//! and how one process at a time owns it (docs/format.md, "Data directory" and
//! "Identity file").

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Fatal;
use crate::planted::{Bug, planted};
use crate::types::MemberId;
use crate::vfs::{OpenMode, Vfs};

use super::codec::{Malformed, Reader, Writer};
use super::manifest::Identity;

/// The identity file; its presence makes a directory ours.
pub const IDENTITY: &str = "STERNPOST";
/// The file that a running process holds locked.
pub const LOCK: &str = "LOCK";
/// The manifest.
pub const MANIFEST: &str = "MANIFEST";
/// Directory of the Raft log's segments.
pub const LOG: &str = "log";
/// Directory of the checkpoint store.
pub const CHECKPOINT: &str = "checkpoint";

/// Appended to a file's name while its successor is written.
const TEMPORARY_SUFFIX: &str = ".new";

/// Created by the file system itself at the root of a volume.
const LOST_AND_FOUND: &str = "lost+found";

/// What is said of a directory whose identity file is gone.
pub(crate) const IDENTITY_LOST: &str = "the identity file is missing, though a manifest lies \
    beside it; restore it, or the whole directory, from a copy";

const IDENTITY_MAGIC: &[u8; 8] = b"STPNDATA";
const IDENTITY_VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 32;

/// What a path given as data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDirectory {
    /// Nothing: it does not exist.
    Absent,
    /// It exists and holds nothing of anybody's (what a start that was
    /// interrupted before the identity file leaves counts as nothing).
    Empty,
    /// It is ours.
    Ours(Identity),
    /// It is etcd's; the path that shows it.
    Etcd(PathBuf),
    /// It holds something unknown; the path of it.
    Foreign(PathBuf),
}

impl DataDirectory {
    /// The identity of a directory of ours, None where a new member may be
    /// made.
    ///
    /// # Errors
    /// `Refused`, with the next step, for what is not ours.
    pub fn accept(self) -> Result<Option<Identity>, Fatal> {
        match self {
            DataDirectory::Absent | DataDirectory::Empty => Ok(None),
            DataDirectory::Ours(identity) => Ok(Some(identity)),
            DataDirectory::Etcd(found) => Err(Fatal::refused(
                found,
                "this is the data directory of etcd, which Sternpost does not touch; \
                 start Sternpost on another --data-dir",
            )),
            DataDirectory::Foreign(found) => Err(Fatal::refused(
                found,
                "this is no file of Sternpost; give an empty directory as --data-dir, \
                 or move the file away if the directory is meant to be used",
            )),
        }
    }
}

/// Tells what `directory` holds. Reads only.
///
/// # Errors
/// I/O errors; `Corruption` for a damaged identity file; `Refused` for a newer
/// format.
pub fn recognise(vfs: &dyn Vfs, directory: &Path) -> Result<DataDirectory, Fatal> {
    if !exists(vfs, directory)? {
        return Ok(DataDirectory::Absent);
    }
    let entries = vfs
        .list(directory)
        .map_err(|error| Fatal::io("list", directory, error))?;
    let member = directory.join("member");
    for etcd in [member.join("snap"), member.join("wal")] {
        if exists(vfs, &etcd)? {
            return Ok(DataDirectory::Etcd(etcd));
        }
    }
    if let Some(identity) = read_identity(vfs, directory)? {
        return Ok(DataDirectory::Ours(identity));
    }
    if identity_is_lost(vfs, directory)? {
        return Err(Fatal::refused(directory.join(IDENTITY), IDENTITY_LOST));
    }
    match foreign_entry(&entries) {
        Some(name) => Ok(DataDirectory::Foreign(directory.join(name))),
        None => Ok(DataDirectory::Empty),
    }
}

/// True when there is a manifest and no identity file.
pub(crate) fn identity_is_lost(vfs: &dyn Vfs, directory: &Path) -> Result<bool, Fatal> {
    Ok(!exists(vfs, &directory.join(IDENTITY))? && exists(vfs, &directory.join(MANIFEST))?)
}

/// The first of these entries of a directory that no founding of ours makes, not even one
/// that was cut short behind the identity file.
pub(super) fn foreign_entry(entries: &[PathBuf]) -> Option<&OsStr> {
    let temporary = format!("{IDENTITY}{TEMPORARY_SUFFIX}");
    let harmless = [IDENTITY, LOCK, LOST_AND_FOUND, temporary.as_str()];
    let mut names = entries.iter().filter_map(|entry| entry.file_name());
    names.find(|name| !harmless.iter().any(|harmless| name == harmless))
}

/// Reads the identity file, None when there is none.
///
/// # Errors
/// I/O errors; `Corruption` for a damaged file; `Refused` for a newer format.
pub fn read_identity(vfs: &dyn Vfs, directory: &Path) -> Result<Option<Identity>, Fatal> {
    let path = directory.join(IDENTITY);
    let limit = IDENTITY_BYTES as u64;
    let Some(bytes) = read_whole(vfs, &path, limit)? else {
        return Ok(None);
    };
    let (version, identity) =
        decode_identity(&bytes).map_err(|bad| Fatal::corruption(&path, bad.offset, bad.detail))?;
    if version > IDENTITY_VERSION {
        return Err(newer_format(&path, version, IDENTITY_VERSION));
    }
    if version < IDENTITY_VERSION {
        let detail = format!("format version {version} never existed");
        return Err(Fatal::corruption(&path, 8, detail));
    }
    Ok(Some(identity))
}

/// Makes an empty or absent directory ours: creates it, first the identity file
/// in it (so that a start that is cut short leaves a directory that is
/// recognised), then `log` and `checkpoint`. When it returns, all of it is
/// durable. Repeating it with the same identity is harmless.
///
/// # Errors
/// I/O errors.
pub fn create(vfs: &dyn Vfs, directory: &Path, identity: Identity) -> Result<(), Fatal> {
    write_identity(vfs, directory, identity)?;
    for name in [LOG, CHECKPOINT] {
        let inner = directory.join(name);
        create_dir(vfs, &inner)?;
        sync_dir(vfs, &inner)?;
    }
    sync_dir(vfs, directory)
}

/// Creates a directory with an identity file in it, durable.
pub(super) fn write_identity(
    vfs: &dyn Vfs,
    directory: &Path,
    identity: Identity,
) -> Result<(), Fatal> {
    create_dir(vfs, directory)?;
    match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(vfs, Path::new("."))?,
        Some(parent) => sync_dir(vfs, parent)?,
        None => {}
    }
    let mut bytes = Writer::default();
    bytes.bytes(IDENTITY_MAGIC);
    bytes.u32(IDENTITY_VERSION);
    bytes.u64(identity.cluster_id);
    bytes.u64(identity.member_id.0);
    let checksum = crc32fast::hash(&bytes.0);
    bytes.u32(checksum);
    replace_file(vfs, directory, IDENTITY, &bytes.0)
}

fn decode_identity(bytes: &[u8]) -> Result<(u32, Identity), Malformed> {
    let mut reader = Reader::new(bytes, 0);
    if reader.bytes(IDENTITY_MAGIC.len())? != IDENTITY_MAGIC {
        return Err(Malformed::new(0, "this is not Sternpost's identity file"));
    }
    let version = reader.u32()?;
    let identity = Identity {
        cluster_id: reader.u64()?,
        member_id: MemberId(reader.u64()?),
    };
    let covered = reader.offset();
    let stored = reader.u32()?;
    reader.end()?;
    let computed = crc32fast::hash(bytes.get(..28).unwrap_or_default());
    assert_eq!(covered, 28, "the CRC covers all fields before it");
    if stored != computed {
        return Err(Malformed::new(
            covered,
            format!("CRC {stored:#010x} stored, {computed:#010x} computed"),
        ));
    }
    Ok((version, identity))
}

/// Proof that this process alone uses a data directory, for as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Invariant: exclusively locked. The system releases it with the
    /// descriptor, however the process ends.
    _file: File,
}

/// Locks an existing data directory of the operating system (advisory, so that
/// a directory that was copied or left by a dead process is free).
///
/// # Errors
/// `Refused` when another process holds it; I/O errors, a read-only directory
/// among them.
pub fn lock(directory: &Path) -> Result<DirectoryLock, Fatal> {
    let path = directory.join(LOCK);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| unwritable(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(Fatal::refused(
            path,
            "another process uses this data directory; stop it first, or give this one \
             its own --data-dir",
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(Fatal::io("lock", path, error)),
    }
}

/// What stands in the way of the first file that a start writes to.
fn unwritable(path: &Path, error: io::Error) -> Fatal {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) {
        let next = "the data directory must be writable; mount it read-write, give it to the \
                    user of this process (mode 0700), or choose another --data-dir";
        return Fatal::refused(path, format!("{error}: {next}"));
    }
    Fatal::io("open", path, error)
}

/// The refusal of a file whose format is newer than this binary.
pub(crate) fn newer_format(path: &Path, found: u32, known: u32) -> Fatal {
    Fatal::refused(
        path,
        format!(
            "format version {found} is newer than this binary, which knows version {known}; \
             start the newer release again"
        ),
    )
}

/// Reads a whole file of at most `limit` bytes, None when there is none.
pub(crate) fn read_whole(vfs: &dyn Vfs, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Fatal> {
    let file = match vfs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fatal::io("open", path, error)),
    };
    let length = file
        .len()
        .map_err(|error| Fatal::io("measure", path, error))?;
    if length > limit {
        let detail = format!("{length} bytes, at most {limit} expected");
        return Err(Fatal::corruption(path, limit, detail));
    }
    let length = usize::try_from(length)
        .map_err(|_| Fatal::corruption(path, 0, "the file does not fit into memory"))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| Fatal::io("read", path, error))?;
    Ok(Some(bytes))
}

/// Replaces a file of `directory` as a whole: after a crash at any point the
/// old or the new content is there; when this returns, the new one is durable.
pub(crate) fn replace_file(
    vfs: &dyn Vfs,
    directory: &Path,
    name: &str,
    content: &[u8],
) -> Result<(), Fatal> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
    match vfs.remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Fatal::io("remove", temporary, error)),
    }
    let file = vfs
        .open(&temporary, OpenMode::CreateNew)
        .map_err(|error| Fatal::io("create", &temporary, error))?;
    file.write_all_at(content, 0)
        .map_err(|error| Fatal::io("write", &temporary, error))?;
    file.sync_data()
        .map_err(|error| Fatal::io("sync", &temporary, error))?;
    vfs.rename(&temporary, &path)
        .map_err(|error| Fatal::io("rename", &temporary, error))?;
    if planted(Bug::SkipDirectorySync) {
        return Ok(());
    }
    sync_dir(vfs, directory)
}

fn create_dir(vfs: &dyn Vfs, directory: &Path) -> Result<(), Fatal> {
    vfs.create_dir_all(directory)
        .map_err(|error| Fatal::io("create", directory, error))
}

pub(crate) fn sync_dir(vfs: &dyn Vfs, directory: &Path) -> Result<(), Fatal> {
    vfs.sync_dir(directory)
        .map_err(|error| Fatal::io("sync", directory, error))
}

pub(super) fn exists(vfs: &dyn Vfs, path: &Path) -> Result<bool, Fatal> {
    vfs.exists(path)
        .map_err(|error| Fatal::io("look for", path, error))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
