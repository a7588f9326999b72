//! Every kind of file of a data directory flipped, cut and lost: a finding that names the
//! file, or no harm, which a start then shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::tests::{check_directory, make, restore, snapshot, start};
use super::{Finding, layout};
use crate::checkpoint::{CheckpointStore, FjallStore, Manifest};
use crate::error::Fatal;
use crate::types::{RecordMeta, Revision};
use crate::vfs::real::RealVfs;

/// What is promised of a kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A finding with its path.
    Named,
    /// A finding with its path, or no harm: the newest segment, whose end nothing proves, and
    /// the oldest, whose values were moved.
    Loose,
    /// A finding with its path or that of the version file that it points to.
    NamedNearby,
    /// No harm: nothing depends on what is in it.
    Harmless,
    /// A finding, or a start without harm.
    Either,
}

fn kind(name: &Path, newest: &Path, versions: &[PathBuf]) -> Kind {
    if versions.iter().any(|version| version == name) {
        return Kind::Named;
    }
    let text = name.to_str().unwrap();
    match text {
        "STERNPOST" | "MANIFEST" => Kind::Named,
        "LOCK" => Kind::Harmless,
        "log/0000000001.segment" => Kind::Loose,
        _ if name == newest => Kind::Loose,
        _ if text.starts_with("log/") && text.ends_with(".segment") => Kind::Named,
        _ if text.starts_with("log/") || !text.contains('/') => Kind::Harmless,
        _ if text.starts_with("checkpoint/keyspaces/") && text.contains("/tables/") => Kind::Named,
        _ if text.ends_with("/current") => Kind::NamedNearby,
        _ => Kind::Either,
    }
}

struct Directory {
    _scratch: tempfile::TempDir,
    path: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// The version files that fjall would open, beside older ones.
    versions: Vec<PathBuf>,
}

impl Directory {
    fn new() -> Directory {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("data");
        make(&path);
        fs::write(path.join("log/0000000009.spare"), vec![0; 64 << 10]).unwrap();
        fs::write(path.join("LOCK"), "").unwrap();
        fs::write(path.join("notes.txt"), "a stray file").unwrap();
        fs::write(path.join("log/notes.txt"), "another one").unwrap();
        let mut files = BTreeMap::new();
        snapshot(&path, &mut files);
        let pointers = files
            .iter()
            .filter(|(file, _)| file.file_name().is_some_and(|name| name == "current"));
        let versions = pointers.map(|(file, content)| {
            let number = u64::from_le_bytes(*content.first_chunk().unwrap());
            let version = file.with_file_name(format!("v{number}"));
            version.strip_prefix(&path).unwrap().to_owned()
        });
        let versions: Vec<PathBuf> = versions.collect();
        assert_eq!(versions.len(), 3);
        Directory {
            _scratch: scratch,
            path,
            files,
            versions,
        }
    }

    /// The findings of a check, with one file changed.
    fn changed(&self, file: &Path, change: impl Fn(&Path, &[u8])) -> Result<Vec<Finding>, Fatal> {
        restore(&self.path, &self.files);
        change(file, &self.files[file]);
        check_directory(&self.path).map(|report| report.findings)
    }

    fn judge(&self, file: &Path, newest: &Path, what: &str, found: Result<Vec<Finding>, Fatal>) {
        let name = file.strip_prefix(&self.path).unwrap();
        let kind = kind(name, newest, &self.versions);
        let findings = match found {
            Ok(findings) => findings,
            // fjall's own words for what it does not open.
            Err(_) if kind == Kind::Either => return,
            Err(other) => panic!("{}, {what}: {other}", name.display()),
        };
        let named = findings.iter().any(|finding| finding.path == file);
        let nearby = findings
            .iter()
            .any(|finding| finding.path.parent() == file.parent());
        // Where the log ends too early, the segment that it ends in is named.
        let named = named || (nearby && what == "lost" && name.starts_with("log"));
        let right = match kind {
            Kind::Named => named,
            Kind::NamedNearby => nearby,
            Kind::Harmless => findings.is_empty(),
            Kind::Loose => named || findings.is_empty(),
            Kind::Either => true,
        };
        assert!(right, "{}, {what}: {findings:?}", name.display());
        if findings.is_empty() && kind != Kind::Loose {
            drop(start(&self.path));
        }
    }
}

/// Bytes up to the last one that is not zero.
fn used(content: &[u8]) -> usize {
    content.len() - content.iter().rev().take_while(|byte| **byte == 0).count()
}

#[test]
fn every_kind_of_file_flipped_cut_or_lost_is_named_or_no_harm() {
    let directory = Directory::new();
    let segments = directory.files.keys().filter(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension == Some("segment")
    });
    let newest = segments
        .max()
        .unwrap()
        .strip_prefix(&directory.path)
        .unwrap();
    let mut kinds = BTreeMap::new();
    for (file, content) in &directory.files {
        let name = file.strip_prefix(&directory.path).unwrap();
        *kinds
            .entry(format!("{:?}", kind(name, newest, &directory.versions)))
            .or_insert(0) += 1;
        let end = used(content);
        for at in [0, end / 3, end / 2, end.saturating_sub(1)] {
            if at >= end {
                continue;
            }
            let found = directory.changed(file, |path, content| {
                let mut content = content.to_vec();
                content[at] ^= 0x04;
                fs::write(path, content).unwrap();
            });
            directory.judge(file, newest, &format!("flipped at {at}"), found);
        }
        if end > 0 {
            let found = directory.changed(file, |path, content| {
                fs::write(path, &content[..end / 2]).unwrap();
            });
            directory.judge(file, newest, "cut", found);
        }
        let found = directory.changed(file, |path, _| fs::remove_file(path).unwrap());
        directory.judge(file, newest, "lost", found);
    }
    for kind in ["Named", "NamedNearby", "Harmless", "Loose"] {
        assert!(kinds.contains_key(kind), "{kinds:?}");
    }
}

/// Records are changed through fjall, so that its own checksums hold.
#[test]
fn a_wrong_lost_or_short_record_or_value_is_a_finding() {
    type Change = fn(&mut FjallStore, &[RecordMeta], (Revision, usize));
    let cases: [(&str, Change); 6] = [
        ("has the CRC", |store, _, (revision, length)| {
            let value = Bytes::from(vec![1; length]);
            store
                .ingest_values(&[(revision, value)], &mut || ())
                .unwrap();
        }),
        ("bytes, its record says", |store, _, (revision, length)| {
            let value = Bytes::from(vec![1; length - 1]);
            store
                .ingest_values(&[(revision, value)], &mut || ())
                .unwrap();
        }),
        ("is missing", |store, _, (revision, _)| {
            store.remove_values(&[revision], &mut || ()).unwrap();
        }),
        ("the index checkpoint has", |store, records, _| {
            let lost = [records[0].revision];
            store.remove_index(&lost, &mut || ()).unwrap();
        }),
        ("does not continue", |store, records, _| {
            let mut wrong = records.last().unwrap().clone();
            wrong.version += 1;
            store.ingest_index(&[wrong.into()], &mut || ()).unwrap();
        }),
        ("the live keys have the hash", |store, records, _| {
            let live = records.iter().rev().find(|record| !record.tombstone);
            let mut wrong = live.unwrap().clone();
            wrong.key = b"another key"[..].into();
            store.ingest_index(&[wrong.into()], &mut || ()).unwrap();
        }),
    ];
    let directory = Directory::new();
    for (expected, change) in cases {
        restore(&directory.path, &directory.files);
        let manifest = Manifest::read(&RealVfs, &directory.path).unwrap().unwrap();
        let mut store = FjallStore::open_or_create(&RealVfs, &directory.path).unwrap();
        let mut records = Vec::new();
        store
            .visit_index(&mut |record| {
                records.push(record);
                Ok(())
            })
            .unwrap();
        records.retain(|record| record.revision <= manifest.bound);
        let mut cold = None;
        store
            .visit_values(&mut |revision, value| {
                cold = cold.or(Some((revision, value.len())));
                Ok(())
            })
            .unwrap();
        change(&mut store, &records, cold.unwrap());
        drop(store);
        let report = check_directory(&directory.path).unwrap();
        let found = report.findings.iter().find(|f| f.detail.contains(expected));
        let found = found.unwrap_or_else(|| panic!("{expected}: {:?}", report.findings));
        assert_eq!(found.path, directory.path.join(layout::CHECKPOINT));
    }
}
