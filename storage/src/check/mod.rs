//! The offline checker of a whole data directory: every checksum, every order,
//! and what the parts say of each other. One finding per defect, with file and
//! offset; a directory without a finding starts and loses nothing.
//!
//! It changes nothing that counts. Opening the checkpoint store lets fjall
//! merge tables as it would at a start, which is why [`run`] takes the lock.
//!
//! Limits: [`FINDINGS_MAX`]; memory for one entry per key and per cold value.

mod records;
mod values;

use std::path::{Path, PathBuf};

use crate::apply::codec;
use crate::checkpoint::layout;
use crate::checkpoint::{CheckpointStore, FjallStore, Identity, Manifest};
use crate::error::Fatal;
use crate::raft_log::{self, EntryKind, Verified};
use crate::types::{LogIndex, Term};
use crate::vfs::Vfs;

pub use values::require_values;

/// Most findings that a report carries: a disk full of errors says no more
/// after that.
pub const FINDINGS_MAX: usize = 1000;

/// One defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// Byte offset within it, 0 where none is known.
    pub offset: u64,
    /// What is wrong.
    pub detail: String,
}

/// What is being checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Groups and entries of the log, in bytes.
    Log,
    /// Index records, in records.
    Index,
    /// Values in the log's segments, in bytes.
    Values,
    /// Cold values, in values.
    Cold,
}

/// How far one phase has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which phase.
    pub phase: Phase,
    /// Done so far, in the unit of the phase.
    pub done: u64,
    /// All there is to do in this phase, as far as known.
    pub total: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whose directory it is.
    pub identity: Option<Identity>,
    /// Number of the manifest; None without one.
    pub manifest_sequence: Option<u64>,
    /// Applied index of the manifest.
    pub applied_index: LogIndex,
    /// Entries in the log after it.
    pub log_entries: u64,
    /// Segments of the log.
    pub log_segments: u64,
    /// Records of the checkpoint.
    pub records: u64,
    /// Cold values that a record names.
    pub cold_values: u64,
    /// Cold values that no record names: wasted space, no defect.
    pub cold_surplus: u64,
    /// The defects, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// True when there were more.
    pub more_findings: bool,
}

impl Report {
    /// True when there is no defect.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, path: PathBuf, offset: u64, detail: impl Into<String>) {
        if self.findings.len() >= FINDINGS_MAX {
            self.more_findings = true;
            return;
        }
        self.findings.push(Finding {
            path,
            offset,
            detail: detail.into(),
        });
    }

    /// Turns corruption into a finding; what hinders the check itself ends it.
    fn take<T>(&mut self, result: Result<T, Fatal>) -> Result<Option<T>, Fatal> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Fatal::Corruption {
                path,
                offset,
                detail,
            }) => {
                self.add(path, offset, detail);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

/// Checks a data directory of the operating system. Holds its lock meanwhile.
///
/// # Errors
/// `Refused` for a directory that is not ours, is in use, or has a newer
/// format; I/O errors. Corruption is no error but a finding.
pub fn run(
    vfs: &dyn Vfs,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Fatal> {
    let mut report = Report::default();
    if !recognise(vfs, directory, &mut report)? {
        return Ok(report);
    }
    let _lock = layout::lock(directory)?;
    let store = open_store(vfs, directory, &mut report)?;
    let store = store.as_ref().map(|store| store as &dyn CheckpointStore);
    check(vfs, directory, store, &mut report, progress)?;
    Ok(report)
}

/// Opens the checkpoint store once its files are found whole; None where that was reported
/// or where there is none yet.
fn open_store(
    vfs: &dyn Vfs,
    directory: &Path,
    report: &mut Report,
) -> Result<Option<FjallStore>, Fatal> {
    let path = directory.join(layout::CHECKPOINT);
    let named = Manifest::read_unsynced(vfs, directory);
    let is_needed =
        !matches!(&named, Ok(known) if known.as_ref().is_none_or(Manifest::names_nothing));
    if is_needed {
        let before = report.findings.len();
        FjallStore::verify_files(&path, &mut |defect| {
            report.take::<()>(Err(defect)).map(|_| ())
        })?;
        if report.findings.len() > before {
            return Ok(None);
        }
    }
    Ok(report
        .take(FjallStore::open_existing(vfs, directory))?
        .flatten())
}

/// Checks a data directory whose checkpoint store the caller has opened, for
/// the simulation.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    vfs: &dyn Vfs,
    directory: &Path,
    store: &dyn CheckpointStore,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Fatal> {
    let mut report = Report::default();
    if recognise(vfs, directory, &mut report)? {
        check(vfs, directory, Some(store), &mut report, progress)?;
    }
    Ok(report)
}

/// True for a directory of ours; a lost or damaged identity file is a finding.
fn recognise(vfs: &dyn Vfs, directory: &Path, report: &mut Report) -> Result<bool, Fatal> {
    if layout::identity_is_lost(vfs, directory)? {
        let path = directory.join(layout::IDENTITY);
        report.add(path, 0, layout::IDENTITY_LOST);
        return Ok(false);
    }
    let Some(found) = report.take(layout::recognise(vfs, directory))? else {
        return Ok(false);
    };
    match found.accept()? {
        Some(_) => Ok(true),
        None => Err(Fatal::refused(
            directory,
            "there is no data directory here; give the --data-dir of a member",
        )),
    }
}

fn check(
    vfs: &dyn Vfs,
    directory: &Path,
    store: Option<&dyn CheckpointStore>,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Fatal> {
    let identity = report.take(layout::read_identity(vfs, directory))?;
    report.identity = identity.flatten();
    let manifest = check_manifest(vfs, directory, report)?;
    let covered = manifest
        .as_ref()
        .map(|known| (known.applied_index, known.applied_term));
    let log = check_log(vfs, directory, covered, report, progress)?;
    if manifest.is_none() && report.is_clean() {
        check_founded(directory, store, log.as_ref(), report)?;
    }
    if let Some(manifest) = &manifest
        && let Some(store) = store
    {
        records::check(directory, manifest, store, log.as_ref(), report, progress)?;
    }
    Ok(())
}

fn check_manifest(
    vfs: &dyn Vfs,
    directory: &Path,
    report: &mut Report,
) -> Result<Option<Manifest>, Fatal> {
    let path = directory.join(layout::MANIFEST);
    let read = report.take(Manifest::read_unsynced(vfs, directory))?;
    let Some(manifest) = read.flatten() else {
        return Ok(None);
    };
    report.manifest_sequence = Some(manifest.sequence);
    report.applied_index = manifest.applied_index;
    if report
        .identity
        .is_some_and(|ours| ours != manifest.identity)
    {
        let detail = "the manifest belongs to another member than the directory";
        report.add(path, 0, detail);
    }
    Ok(Some(manifest))
}

/// A directory without a manifest is one whose founding was cut short: it holds nothing but
/// the log's first segments, which are empty.
fn check_founded(
    directory: &Path,
    store: Option<&dyn CheckpointStore>,
    log: Option<&Verified>,
    report: &mut Report,
) -> Result<(), Fatal> {
    let mut records = false;
    if let Some(store) = store {
        let visited = store.visit_index(&mut |_| {
            records = true;
            Ok(())
        });
        report.take(visited)?;
    }
    if records || log.is_some_and(|log| !log.entries.is_empty()) {
        let detail = "there is no manifest, but a log or records that it would name; \
                      restore the file or the whole directory from a copy";
        report.add(directory.join(layout::MANIFEST), 0, detail);
    }
    Ok(())
}

fn check_log(
    vfs: &dyn Vfs,
    directory: &Path,
    covered: Option<(LogIndex, Term)>,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Verified>, Fatal> {
    let applied = covered.unwrap_or((LogIndex(0), Term(0)));
    let path = directory.join(layout::LOG);
    let mut told = |done, total| {
        progress(Progress {
            phase: Phase::Log,
            done,
            total,
        });
    };
    let verified = raft_log::verify(vfs, &path, applied, &mut told);
    let Some(log) = report.take(verified)? else {
        return Ok(None);
    };
    let Some(log) = log else {
        if covered.is_some() {
            let detail = format!(
                "the manifest covers entry {}, the log is missing",
                applied.0.0
            );
            report.add(path, 0, detail);
        }
        return Ok(None);
    };
    report.log_segments = log.segments.len() as u64;
    report.log_entries = log.entries.len() as u64;
    let bytes = log.segments.iter().map(|segment| segment.bytes_used).sum();
    told(bytes, bytes);
    for entry in &log.entries {
        let is_command = entry.kind == EntryKind::Normal && !entry.data.is_empty();
        if is_command && let Err(error) = codec::decode(&entry.data) {
            let detail = format!("entry {} is no command: {error}", entry.index.0);
            report.add(path.clone(), 0, detail);
        }
    }
    Ok(Some(log))
}

#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod tests;
