//! What lies in the log's directory, before any group is read.
//!
//! Invariant: `scan` writes nothing; `clear` runs only once all is verified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Fatal;
use crate::types::SegmentNumber;
use crate::vfs::{OpenMode, Vfs};

use super::LogOptions;
use super::format::{BLOCK, BadHeader, FORMAT_VERSION, SegmentHeader};
use super::segment::{FileName, remove, sync_directory};
use super::spare::SpareFile;

/// A segment file before it is read.
#[derive(Debug)]
pub(super) struct Candidate {
    pub header: SegmentHeader,
    pub path: PathBuf,
}

/// What lies in the log's directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub segments: BTreeMap<SegmentNumber, Candidate>,
    pub spares: Vec<(u32, PathBuf)>,
    pub fillings: Vec<PathBuf>,
    /// Empty segments that a later header jumped over.
    pub stale: Vec<PathBuf>,
    pub next_spare: u32,
}

/// Lists the directory and verifies every segment header, without a write.
pub(super) fn scan(vfs: &dyn Vfs, directory: &Path) -> Result<Found, Fatal> {
    let names = vfs
        .list(directory)
        .map_err(|source| Fatal::io("list", directory, source))?;
    let mut found = Found::default();
    for name in names {
        let path = directory.join(&name);
        match FileName::parse(&name) {
            Some(FileName::Segment(number)) => {
                let header = read_header(vfs, &path, number)?;
                found.segments.insert(number, Candidate { header, path });
            }
            Some(FileName::Spare(number)) => {
                found.next_spare = found.next_spare.max(number + 1);
                found.spares.push((number, path));
            }
            Some(FileName::Filling(number)) => {
                found.next_spare = found.next_spare.max(number + 1);
                found.fillings.push(path);
            }
            None => {}
        }
    }
    drop_jumped(&mut found);
    let mut salt = None;
    for candidate in found.segments.values() {
        if *salt.get_or_insert(candidate.header.salt) != candidate.header.salt {
            let detail = "a segment of another log lies here";
            return Err(Fatal::corruption(&candidate.path, 24, detail));
        }
    }
    Ok(found)
}

/// A boot that finds its last segment empty links the next one past it.
fn drop_jumped(found: &mut Found) {
    let links: Vec<_> = found
        .segments
        .values()
        .map(|c| (c.header.previous, c.header.number))
        .collect();
    for (previous, number) in links {
        // Without a link it is the first one that ever held a group.
        let previous = previous.map_or(SegmentNumber(0), |(previous, _)| previous);
        let jumped: Vec<_> = found
            .segments
            .keys()
            .copied()
            .filter(|n| *n > previous && *n < number)
            .collect();
        for number in jumped {
            found
                .stale
                .extend(found.segments.remove(&number).map(|c| c.path));
        }
    }
}

fn read_header(vfs: &dyn Vfs, path: &Path, number: SegmentNumber) -> Result<SegmentHeader, Fatal> {
    let file = vfs
        .open(path, OpenMode::Read)
        .map_err(|source| Fatal::io("open", path, source))?;
    let mut block = [0; BLOCK];
    match file.read_exact_at(&mut block, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Fatal::corruption(
                path,
                0,
                "the file ends within its header",
            ));
        }
        Err(source) => return Err(Fatal::io("read", path, source)),
    }
    match SegmentHeader::decode(&block) {
        Ok(header) if header.number == number => Ok(header),
        Ok(header) => Err(Fatal::corruption(
            path,
            16,
            format!("the header says segment {}", header.number.0),
        )),
        Err(BadHeader::NewerFormat(version)) => Err(Fatal::refused(
            path,
            format!(
                "log format {version} at offset 8 is newer than {FORMAT_VERSION}; \
                 start the release that wrote it"
            ),
        )),
        Err(BadHeader::NotOurs) => Err(Fatal::corruption(path, 0, "no segment header")),
        Err(BadHeader::Damaged) => Err(Fatal::corruption(
            path,
            0,
            "the segment header fails its checksum",
        )),
    }
}

/// Removes what a crash left half done, keeps whole spares.
pub(super) fn clear(
    vfs: &dyn Vfs,
    directory: &Path,
    options: &LogOptions,
    found: &mut Found,
) -> Result<Vec<SpareFile>, Fatal> {
    let mut removed = !found.fillings.is_empty() || !found.stale.is_empty();
    for path in found.fillings.drain(..).chain(found.stale.drain(..)) {
        remove(vfs, &path)?;
    }
    let mut spares = Vec::new();
    for (_, path) in found.spares.drain(..) {
        let file = vfs
            .open(&path, OpenMode::ReadWrite)
            .map_err(|source| Fatal::io("open", &path, source))?;
        let length = file
            .len()
            .map_err(|source| Fatal::io("measure", &path, source))?;
        if length == options.segment_bytes && spares.len() < options.spares_max {
            // What it held is not known any more, so it counts as recycled.
            spares.push(SpareFile {
                path,
                file,
                length,
                recycled: true,
            });
        } else {
            remove(vfs, &path)?;
            removed = true;
        }
    }
    if removed {
        sync_directory(vfs, directory)?;
    }
    Ok(spares)
}
