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
use super::segment::{FileName, remove, rename, sync_directory};
use super::spare::SpareFile;

/// A segment file before it is read.
#[derive(Debug)]
pub(super) struct Candidate {
    pub header: SegmentHeader,
    pub path: PathBuf,
}

/// The newest segment, when it has no whole header: it was prepared, and perhaps its
/// header and first group were being written, in one write.
#[derive(Debug)]
pub(super) struct Void {
    pub number: SegmentNumber,
    pub path: PathBuf,
    /// Bytes lie where a header and a first group would begin.
    pub begun: bool,
    /// A whole header of another segment lies there, which no torn write leaves behind: no
    /// harm only where nothing was written to this one.
    pub strayed: bool,
    /// Where the header is wrong and how, for when it must have been durable.
    pub defect: (u64, String),
}

/// What lies in the log's directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub segments: BTreeMap<SegmentNumber, Candidate>,
    pub void: Option<Void>,
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
    let mut without_header = BTreeMap::new();
    for name in names {
        let path = directory.join(&name);
        match FileName::parse(&name) {
            Some(FileName::Segment(number)) => match read_header(vfs, &path, number)? {
                Ok(header) => {
                    found.segments.insert(number, Candidate { header, path });
                }
                Err(void) => {
                    without_header.insert(number, void);
                }
            },
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
    drop_jumped(&mut found, &mut without_header);
    found.void = only_the_newest(&found, without_header)?;
    let mut salt = None;
    for candidate in found.segments.values() {
        if *salt.get_or_insert(candidate.header.salt) != candidate.header.salt {
            let detail = "a segment of another log lies here";
            return Err(Fatal::corruption(&candidate.path, 24, detail));
        }
    }
    Ok(found)
}

/// A segment without a header is void only behind all others: theirs were durable
/// before it was prepared.
fn only_the_newest(
    found: &Found,
    without_header: BTreeMap<SegmentNumber, Void>,
) -> Result<Option<Void>, Fatal> {
    let newest = found.segments.keys().next_back();
    let mut all = without_header.into_values();
    match (all.next(), all.next()) {
        (Some(void), None) if newest.is_some_and(|newest| *newest < void.number) => Ok(Some(void)),
        (Some(damaged), _) => {
            let (offset, detail) = damaged.defect;
            Err(Fatal::corruption(&damaged.path, offset, detail))
        }
        (None, _) => Ok(None),
    }
}

/// A boot that finds its last segment empty links the next one past it; then it may
/// have lost its header as well, which perhaps was in memory alone.
fn drop_jumped(found: &mut Found, without_header: &mut BTreeMap<SegmentNumber, Void>) {
    let links: Vec<_> = found
        .segments
        .values()
        .map(|c| (c.header.previous, c.header.number))
        .collect();
    for (previous, number) in links {
        // Without a link it is the first one that ever held a group.
        let previous = previous.map_or(SegmentNumber(0), |(previous, _)| previous);
        let jumped = |n: &SegmentNumber| *n > previous && *n < number;
        let whole = found.segments.extract_if(.., |n, _| jumped(n));
        found
            .stale
            .extend(whole.map(|(_, candidate)| candidate.path));
        let void = without_header.extract_if(.., |n, _| jumped(n));
        found.stale.extend(void.map(|(_, void)| void.path));
    }
}

/// The header of a segment, or what stands in its place.
fn read_header(
    vfs: &dyn Vfs,
    path: &Path,
    number: SegmentNumber,
) -> Result<Result<SegmentHeader, Void>, Fatal> {
    let file = vfs
        .open(path, OpenMode::Read)
        .map_err(|source| Fatal::io("open", path, source))?;
    let void = |begun, defect: &str| {
        Ok(Err(Void {
            number,
            path: path.to_path_buf(),
            begun,
            strayed: false,
            defect: (0, defect.to_owned()),
        }))
    };
    let mut block = [0; BLOCK];
    match file.read_exact_at(&mut block, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return void(true, "the file ends within its header");
        }
        Err(source) => return Err(Fatal::io("read", path, source)),
    }
    match SegmentHeader::decode(&block) {
        Ok(header) if header.number == number => Ok(Ok(header)),
        Ok(header) => Ok(Err(Void {
            number,
            path: path.to_path_buf(),
            begun: true,
            strayed: true,
            defect: (16, format!("the header says segment {}", header.number.0)),
        })),
        Err(BadHeader::NewerFormat(version)) => Err(Fatal::refused(
            path,
            format!(
                "log format {version} at offset 8 is newer than {FORMAT_VERSION}; \
                 start the release that wrote it"
            ),
        )),
        Err(BadHeader::NotOurs) => {
            let begun = block.iter().any(|byte| *byte != 0);
            void(begun, "no segment header")
        }
        Err(BadHeader::Damaged) => void(true, "the segment header fails its checksum"),
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
    if let Some(void) = found.void.take() {
        removed = true;
        if void.begun {
            // A group in it would verify again under the same number.
            remove(vfs, &void.path)?;
        } else {
            let number = found.next_spare;
            found.next_spare += 1;
            let path = FileName::Spare(number).path(directory);
            rename(vfs, &void.path, &path)?;
            found.spares.push((number, path));
        }
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
