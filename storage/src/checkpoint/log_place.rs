//! Where the Raft log lies: in the data directory, or in a directory of its own (`--wal-dir`).
//! Then a symbolic link stands in the log's place, so that whoever follows it, the offline
//! checker too, needs no flag; and the log's directory says in an identity file whose it is, so
//! that a volume that is not mounted is no new log.
//!
//! Works on the operating system's files alone, as the lock does. Invariants: [`check`] writes
//! nothing; a log that has been written to is never left for an empty one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Fatal;
use crate::vfs::Vfs;

use super::layout::{self, LOG, MANIFEST};
use super::manifest::Identity;

/// What stands in the log's place in the data directory.
enum Found {
    Nothing,
    Directory,
    Link(PathBuf),
}

/// Compares where the log lies with where it is asked for.
///
/// # Errors
/// `Refused`, with the next step, when they differ, when the log is gone or is another
/// member's; I/O errors.
pub fn check(vfs: &dyn Vfs, directory: &Path, wal_dir: Option<&Path>) -> Result<(), Fatal> {
    let place = directory.join(LOG);
    // Until there is a manifest nothing was ever written to a log.
    let founded = layout::exists(vfs, &directory.join(MANIFEST))?;
    match (wal_dir, found(&place)?) {
        (None, Found::Link(log)) => Err(Fatal::refused(
            place,
            format!(
                "the log of this data directory lies in {0}; start with --wal-dir={0}",
                log.display()
            ),
        )),
        (Some(_), Found::Directory) if founded => Err(Fatal::refused(
            place,
            "the log of this data directory lies in it; start without --wal-dir",
        )),
        (Some(wal_dir), Found::Link(log)) if !is_same(wal_dir, &log) => Err(Fatal::refused(
            place,
            format!(
                "the log of this data directory lies in {0}, not in {1}; start with \
                 --wal-dir={0}, or, if the log was moved, let the link lead to {1}",
                log.display(),
                wal_dir.display()
            ),
        )),
        (Some(wal_dir), _) if founded => check_identity(vfs, directory, wal_dir),
        (Some(wal_dir), _) => check_free(vfs, directory, wal_dir),
        (None, Found::Nothing) if founded => Err(Fatal::refused(
            place,
            "the log is missing; restore the directory, or start with --wal-dir if the log \
             lies elsewhere",
        )),
        (None, _) => Ok(()),
    }
}

/// For the offline checker, which has no flag: the link leads to the log of this directory.
///
/// # Errors
/// `Refused` when it does not; I/O errors.
pub fn check_link(vfs: &dyn Vfs, directory: &Path) -> Result<(), Fatal> {
    match found(&directory.join(LOG))? {
        Found::Link(log) => check_identity(vfs, directory, &log),
        Found::Nothing | Found::Directory => Ok(()),
    }
}

/// Gives the log a directory of its own, or does nothing where it has it. To be called with
/// the data directory locked, after [`check`], before the log is opened.
///
/// # Errors
/// I/O errors.
pub fn create(
    vfs: &dyn Vfs,
    directory: &Path,
    wal_dir: &Path,
    identity: Identity,
) -> Result<(), Fatal> {
    let place = directory.join(LOG);
    if layout::read_identity(vfs, wal_dir)? != Some(identity) {
        layout::write_identity(vfs, wal_dir, identity)?;
    }
    match found(&place)? {
        Found::Link(_) => return Ok(()),
        // What a founding makes; only an empty one goes.
        Found::Directory => {
            fs::remove_dir(&place).map_err(|error| Fatal::io("remove", &place, error))?;
        }
        Found::Nothing => {}
    }
    let log = fs::canonicalize(wal_dir).map_err(|error| Fatal::io("find", wal_dir, error))?;
    std::os::unix::fs::symlink(log, &place).map_err(|error| Fatal::io("link", &place, error))?;
    layout::sync_dir(vfs, directory)
}

fn found(place: &Path) -> Result<Found, Fatal> {
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_symlink() => fs::read_link(place)
            .map(Found::Link)
            .map_err(|error| Fatal::io("read", place, error)),
        Ok(_) => Ok(Found::Directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(Fatal::io("look for", place, error)),
    }
}

/// Whether two paths lead to one directory; paths that lead nowhere are compared as they are.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

/// The directory must hold the log of this member.
fn check_identity(vfs: &dyn Vfs, directory: &Path, wal_dir: &Path) -> Result<(), Fatal> {
    let ours = layout::read_identity(vfs, directory)?;
    match layout::read_identity(vfs, wal_dir)? {
        None => Err(Fatal::refused(
            wal_dir,
            format!(
                "the log of {} is not here; mount its volume or restore it, or give the \
                 --wal-dir that it was founded with",
                directory.display()
            ),
        )),
        theirs if theirs != ours => Err(Fatal::refused(
            wal_dir,
            format!(
                "this is the log of another member than {} is; give the --wal-dir that it \
                 was founded with",
                directory.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// A log that is to be founded needs an empty directory outside the data directory.
fn check_free(vfs: &dyn Vfs, directory: &Path, wal_dir: &Path) -> Result<(), Fatal> {
    let inside = |error| Fatal::io("find", wal_dir, error);
    let within = std::path::absolute(wal_dir).map_err(inside)?;
    if within.starts_with(std::path::absolute(directory).map_err(inside)?) {
        let text = "give --wal-dir a directory outside --data-dir, or leave the flag out";
        return Err(Fatal::refused(wal_dir, text));
    }
    let entries = match vfs.list(wal_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Fatal::io("list", wal_dir, error)),
    };
    match layout::foreign_entry(&entries) {
        None => Ok(()),
        Some(name) => Err(Fatal::refused(
            wal_dir.join(name),
            "a new log needs an empty --wal-dir; give another one, or the --data-dir that \
             this log belongs to",
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::types::MemberId;
    use crate::vfs::real::RealVfs;

    use super::*;

    const IDENTITY_OF_ONE: Identity = Identity {
        cluster_id: 1,
        member_id: MemberId(2),
    };

    fn refusal(directory: &Path, wal_dir: Option<&Path>) -> String {
        match check(&RealVfs, directory, wal_dir) {
            Err(Fatal::Refused { path, detail }) => format!("{}: {detail}", path.display()),
            other => panic!("{other:?}"),
        }
    }

    /// As a start does it, up to the manifest.
    fn found_in(directory: &Path, wal_dir: &Path) {
        check(&RealVfs, directory, Some(wal_dir)).unwrap();
        layout::create(&RealVfs, directory, IDENTITY_OF_ONE).unwrap();
        create(&RealVfs, directory, wal_dir, IDENTITY_OF_ONE).unwrap();
    }

    #[test]
    fn a_log_stays_where_it_was_founded() {
        let temporary = tempfile::tempdir().unwrap();
        let (data, wal) = (temporary.path().join("data"), temporary.path().join("wal"));
        let other = temporary.path().join("other");
        found_in(&data, &wal);
        // Cut short here, it is founded once more.
        found_in(&data, &wal);
        fs::write(data.join(MANIFEST), "").unwrap();
        fs::write(wal.join("segment"), "").unwrap();
        check(&RealVfs, &data, Some(&wal)).unwrap();
        check(&RealVfs, &data, Some(&other.join("../wal"))).unwrap_err();
        fs::create_dir(&other).unwrap();
        check(&RealVfs, &data, Some(&other.join("../wal"))).unwrap();
        check_link(&RealVfs, &data).unwrap();
        assert!(refusal(&data, None).contains("start with --wal-dir="));
        assert!(refusal(&data, Some(&other)).contains("not in"));
        // Another member's, and an empty mount point.
        fs::rename(&wal, temporary.path().join("away")).unwrap();
        assert!(refusal(&data, Some(&wal)).contains("is not here"));
        fs::create_dir(&wal).unwrap();
        assert!(refusal(&data, Some(&wal)).contains("is not here"));
        check_link(&RealVfs, &data).unwrap_err();
        let of_another = Identity {
            cluster_id: 9,
            ..IDENTITY_OF_ONE
        };
        layout::write_identity(&RealVfs, &wal, of_another).unwrap();
        assert!(refusal(&data, Some(&wal)).contains("another member"));
        // A lost link is made anew, over the right log alone.
        fs::remove_file(data.join(LOG)).unwrap();
        assert!(refusal(&data, None).contains("the log is missing"));
        assert!(refusal(&data, Some(&wal)).contains("another member"));
        let away = temporary.path().join("away");
        check(&RealVfs, &data, Some(&away)).unwrap();
        create(&RealVfs, &data, &away, IDENTITY_OF_ONE).unwrap();
        check_link(&RealVfs, &data).unwrap();
    }

    #[test]
    fn a_log_is_founded_in_an_empty_directory_elsewhere() {
        let temporary = tempfile::tempdir().unwrap();
        let (data, wal) = (temporary.path().join("data"), temporary.path().join("wal"));
        assert!(refusal(&data, Some(&data)).contains("outside --data-dir"));
        assert!(refusal(&data, Some(&data.join("wal"))).contains("outside --data-dir"));
        fs::create_dir(&wal).unwrap();
        check(&RealVfs, &data, Some(&wal)).unwrap();
        fs::write(wal.join("0000000000000000-0000000000000000.wal"), "").unwrap();
        assert!(refusal(&data, Some(&wal)).contains("an empty --wal-dir"));
    }

    #[test]
    fn a_log_in_the_data_directory_stays_there() {
        let temporary = tempfile::tempdir().unwrap();
        let (data, wal) = (temporary.path().join("data"), temporary.path().join("wal"));
        layout::create(&RealVfs, &data, IDENTITY_OF_ONE).unwrap();
        check(&RealVfs, &data, None).unwrap();
        fs::write(data.join(MANIFEST), "").unwrap();
        check(&RealVfs, &data, None).unwrap();
        assert!(refusal(&data, Some(&wal)).contains("start without --wal-dir"));
        fs::remove_dir(data.join(LOG)).unwrap();
        assert!(refusal(&data, None).contains("the log is missing"));
        assert!(refusal(&data, Some(&wal)).contains("is not here"));
    }
}
