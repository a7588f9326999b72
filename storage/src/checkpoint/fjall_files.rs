//! Looks at fjall's files before fjall does: the version file of each tree against the
//! checksum in `current`, and each table that it names against the checksum it gives.
//!
//! lsm-tree 3.1.10 writes both checksums and verifies neither when it opens; a damaged
//! version file makes it panic, and a missing table is noticed after files were deleted
//! as orphans. So nothing is opened that was not found whole, and a refusal names the
//! file. Reads only.
//!
//! Limits: [`VERSION_BYTES_MAX`], [`READ_BYTES`] at a time.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use crate::error::Fatal;
use crate::vfs::real::RealVfs;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Points to the present version file: number (8), its XXH3-128 (16), checksum kind (1).
const CURRENT: &str = "current";
const CURRENT_BYTES: usize = 25;
const TABLES: &str = "tables";
const TABLES_SECTION: &[u8] = b"tables";

/// Largest version file that is read, bytes: 33 bytes per table, so millions of tables.
const VERSION_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a table in memory at a time.
const READ_BYTES: usize = 1 << 20;

/// How often a scrub begins a tree again that changed meanwhile. Each change is a run of a
/// checkpoint or a merge of tables, which takes longer than reading the first table again.
const SCRUB_TRIES: usize = 16;

/// How much is read of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// That they are there.
    Presence,
    /// Every byte.
    Content,
}

/// Verifies the tree in `directory`; hands each defect to `found` and goes on where it can.
///
/// # Errors
/// I/O errors, and what `found` returns.
pub(super) fn verify_tree(
    directory: &Path,
    depth: Depth,
    found: &mut dyn FnMut(Fatal) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let compute = &mut |path: &Path, named: u128| match depth {
        Depth::Presence => std::fs::metadata(path).map(|_| named),
        Depth::Content => checksum(RealVfs.open(path, OpenMode::Read), &mut |_| ()),
    };
    verify(directory, compute, found)
}

/// Verifies every byte of a tree that fjall has open, as the disk holds it. fjall removes
/// tables and version files when it has merged tables, so a defect counts only while
/// `current` is what it was before; a tree that changes all the time is left to the next
/// pass.
///
/// # Errors
/// The first defect, and I/O errors.
pub(super) fn scrub_tree(directory: &Path, pace: &mut dyn FnMut(u64)) -> Result<(), Fatal> {
    let path = directory.join(CURRENT);
    let compute = &mut |path: &Path, _| checksum(RealVfs.open_uncached(path), pace);
    for _ in 0..SCRUB_TRIES {
        let before = read(&path, CURRENT_BYTES as u64)?;
        let verified = verify(directory, compute, &mut Err);
        if verified.is_ok() || read(&path, CURRENT_BYTES as u64)? == before {
            return verified;
        }
    }
    Ok(())
}

/// Gives the checksum of a table by its path and the checksum that it should have.
type Compute<'a> = dyn FnMut(&Path, u128) -> io::Result<u128> + 'a;

fn verify(
    directory: &Path,
    compute: &mut Compute<'_>,
    found: &mut dyn FnMut(Fatal) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let tables = match version(directory) {
        Ok(tables) => tables,
        Err(defect @ Fatal::Corruption { .. }) => return found(defect),
        Err(other) => return Err(other),
    };
    for table in tables {
        let path = directory.join(TABLES).join(table.number.to_string());
        match compute(&path, table.checksum) {
            Ok(computed) if computed == table.checksum => {}
            Ok(computed) => {
                let detail = format!(
                    "the table has the checksum {computed:032x}, its tree says {:032x}",
                    table.checksum
                );
                found(Fatal::corruption(path, 0, detail))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let detail = "the table is missing; restore the whole directory from a copy";
                found(Fatal::corruption(path, 0, detail))?;
            }
            Err(error) => return Err(Fatal::io("read", path, error)),
        }
    }
    Ok(())
}

/// A table as a version file names it.
struct Table {
    number: u64,
    checksum: u128,
}

/// The tables of the present version, whose file is proven whole.
fn version(directory: &Path) -> Result<Vec<Table>, Fatal> {
    let path = directory.join(CURRENT);
    let current = read(&path, CURRENT_BYTES as u64)?;
    let mut fields = current.as_slice();
    let number = take::<8>(&mut fields).map(u64::from_le_bytes);
    let wanted = take::<16>(&mut fields).map(u128::from_le_bytes);
    let (Some(number), Some(wanted), [0]) = (number, wanted, fields) else {
        return Err(Fatal::corruption(path, 0, "this points to no version"));
    };
    let path = directory.join(format!("v{number}"));
    let bytes = read(&path, VERSION_BYTES_MAX)?;
    let computed = xxhash_rust::xxh3::xxh3_128(&bytes);
    if computed != wanted {
        let detail = format!(
            "the version file has the checksum {computed:032x}, the file {CURRENT} says {wanted:032x}"
        );
        return Err(Fatal::corruption(path, 0, detail));
    }
    let bad = |detail: &str| Fatal::corruption(&path, 0, detail);
    let archive = sfa::Reader::from_reader(&mut Cursor::new(&bytes))
        .map_err(|error| bad(&format!("no version file: {error:?}")))?;
    let section = archive.toc().section(TABLES_SECTION);
    let section = section.ok_or_else(|| bad("no section of tables"))?;
    let part = usize::try_from(section.pos())
        .ok()
        .zip(usize::try_from(section.pos() + section.len()).ok())
        .and_then(|(from, to)| bytes.get(from..to));
    let tables = part.and_then(parse_tables);
    tables.ok_or_else(|| bad("the section of tables ends within a table"))
}

/// Levels (1 byte), runs (1), tables (4): number (8), checksum kind (1), checksum (16),
/// sequence number (8).
fn parse_tables(mut part: &[u8]) -> Option<Vec<Table>> {
    let mut tables = Vec::new();
    let [levels] = take::<1>(&mut part)?;
    for _ in 0..levels {
        let [runs] = take::<1>(&mut part)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(&mut part)?) {
                let number = u64::from_le_bytes(take(&mut part)?);
                take::<1>(&mut part)?;
                let checksum = u128::from_le_bytes(take(&mut part)?);
                take::<8>(&mut part)?;
                tables.push(Table { number, checksum });
            }
        }
    }
    Some(tables)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Fatal> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 <= limit => Ok(bytes),
        Ok(_) => Err(Fatal::corruption(path, limit, "the file is too long")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = "the file is missing; restore the whole directory from a copy";
            Err(Fatal::corruption(path, 0, detail))
        }
        Err(error) => Err(Fatal::io("read", path, error)),
    }
}

/// The XXH3-128 of a whole file. `pace` hears of each piece that was read.
fn checksum(file: io::Result<Arc<dyn VfsFile>>, pace: &mut dyn FnMut(u64)) -> io::Result<u128> {
    let file = file?;
    let length = file.len()?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < length {
        let rest = usize::try_from(length - offset).unwrap_or(READ_BYTES);
        buffer.resize(rest.min(READ_BYTES), 0);
        file.read_exact_at(&mut buffer, offset)?;
        hasher.update(&buffer);
        offset += buffer.len() as u64;
        pace(buffer.len() as u64);
    }
    Ok(hasher.digest128())
}
