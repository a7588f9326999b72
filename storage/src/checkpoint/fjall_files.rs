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

use xxhash_rust::xxh3::Xxh3Default;

use crate::error::Fatal;

/// Points to the present version file: number (8), its XXH3-128 (16), checksum kind (1).
const CURRENT: &str = "current";
const CURRENT_BYTES: usize = 25;
const TABLES: &str = "tables";
const TABLES_SECTION: &[u8] = b"tables";

/// Largest version file that is read, bytes: 33 bytes per table, so millions of tables.
const VERSION_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a table in memory at a time.
const READ_BYTES: usize = 1 << 20;

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
    let tables = match version(directory) {
        Ok(tables) => tables,
        Err(defect @ Fatal::Corruption { .. }) => return found(defect),
        Err(other) => return Err(other),
    };
    for table in tables {
        let path = directory.join(TABLES).join(table.number.to_string());
        let computed = match depth {
            Depth::Presence => std::fs::metadata(&path).map(|_| table.checksum),
            Depth::Content => checksum(&path),
        };
        match computed {
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

/// The XXH3-128 of a whole file.
fn checksum(path: &Path) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.digest128());
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}
