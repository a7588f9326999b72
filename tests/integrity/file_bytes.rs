//! The manifest, the identity file, index records and cold values, cut and flipped at every
//! byte: the start or the read is refused, with the file and an offset in it.

use std::path::Path;
use std::sync::Arc;

use storage::checkpoint::layout;
use storage::checkpoint::{Family, ModelDisk, ModelStore};
use storage::error::Fatal;
use storage::types::Revision;
use storage::vfs::Vfs;
use storage::vfs::sim::SimDisk;

use crate::amount;
use crate::member::{Member, Planned, directory, plan};

struct Sound {
    disk: SimDisk,
    model: ModelDisk,
    plan: Vec<Planned>,
}

fn open(disk: &SimDisk, model: &ModelDisk) -> Result<Member, Fatal> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    Member::open(&vfs, &directory(), Box::new(ModelStore::open(model)))
}

/// A member with index records, cold values, leases, compacted records and a log behind.
fn sound() -> Sound {
    let (disk, model, plan) = (SimDisk::new(5), ModelDisk::default(), plan(5, 80));
    let mut member = open(&disk, &model).unwrap();
    for _ in 0..7 {
        member.write(&plan, 10).unwrap();
        while member.purge(3) {}
        member.checkpoint(true).unwrap();
    }
    member.write(&plan, 10).unwrap();
    let published = member.checkpointer.published();
    assert!(
        published.cold.count > 2 && published.index.count > 10,
        "{published:?}"
    );
    assert!(!published.leases.is_empty());
    Sound { disk, model, plan }
}

impl Sound {
    fn open_with(&self, path: &Path, bytes: Vec<u8>) -> Result<Member, Fatal> {
        let disk = self.disk.power_cut(1);
        disk.damage(path, bytes);
        open(&disk, &self.model)
    }
}

/// The offset that a refusal names in the file.
fn named(found: Result<Member, Fatal>, file: &Path, what: &str) -> u64 {
    match found {
        Err(Fatal::Corruption { path, offset, .. }) => {
            assert_eq!(path, file, "{what}");
            offset
        }
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: opened"),
    }
}

fn every_byte_of(name: &str) -> usize {
    let sound = sound();
    let path = directory().join(name);
    let whole = sound.disk.contents(&path);
    assert!(!whole.is_empty());
    let mut images = 0;
    for mask in 0..amount("INTEGRITY_MASKS", 1).min(8) {
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << ((at as u64 + mask) % 8);
            let what = format!("{name} flipped at {at}");
            let offset = named(sound.open_with(&path, bytes), &path, &what);
            assert!(offset <= whole.len() as u64, "{what}: offset {offset}");
            images += 1;
        }
    }
    for length in 0..whole.len() {
        let what = format!("{name} cut at {length}");
        let offset = named(
            sound.open_with(&path, whole[..length].to_vec()),
            &path,
            &what,
        );
        assert!(offset <= whole.len() as u64, "{what}: offset {offset}");
        let mut zeroed = whole.clone();
        zeroed[length..].fill(0);
        if zeroed != whole {
            named(
                sound.open_with(&path, zeroed),
                &path,
                &format!("{what}, zeros behind"),
            );
        }
        images += 2;
    }
    let mut longer = whole.clone();
    longer.push(0);
    named(sound.open_with(&path, longer), &path, "a byte more");
    eprintln!("{name}: {images} images");
    images
}

#[test]
fn a_manifest_cut_or_flipped_at_any_byte_is_refused() {
    assert!(every_byte_of(layout::MANIFEST) > 1000);
}

#[test]
fn an_identity_file_cut_or_flipped_at_any_byte_is_refused() {
    assert!(every_byte_of(layout::IDENTITY) >= 96);
}

/// Flips every byte of every record of one family and asks `judge` each time.
fn each_flip(model: &ModelDisk, family: Family, mut judge: impl FnMut(Revision, &str)) -> usize {
    let mut flips = 0;
    for mask in 0..amount("INTEGRITY_MASKS", 1).min(8) {
        for revision in model.revisions(family) {
            for at in 0.. {
                let bit = 1 << ((at as u64 + mask) % 8);
                if !model.damage(family, revision, at, bit) {
                    break;
                }
                judge(
                    revision,
                    &format!("{family:?} {revision:?} flipped at {at}"),
                );
                assert!(
                    model.damage(family, revision, at, bit),
                    "it is flipped back"
                );
                flips += 1;
            }
        }
    }
    flips
}

#[test]
fn an_index_record_flipped_at_any_byte_or_lost_is_refused_at_start() {
    let sound = sound();
    let refused = |what: &str| {
        let found = open(&sound.disk.power_cut(1), &sound.model);
        match found.map(|member| member.applied()) {
            Err(Fatal::Corruption { detail, .. }) => detail,
            other => panic!("{what}: {other:?}"),
        }
    };
    let flips = each_flip(&sound.model, Family::Index, |revision, what| {
        let detail = refused(what);
        assert!(
            detail.contains(&format!("{revision:?}")),
            "{what}: {detail}"
        );
    });
    eprintln!("index records: {flips} flips");
    assert!(flips > 1000);
    for revision in sound.model.revisions(Family::Index) {
        let lossy = self::sound();
        assert!(lossy.model.lose(Family::Index, revision));
        let found = open(&lossy.disk.power_cut(1), &lossy.model);
        assert!(
            matches!(found, Err(Fatal::Corruption { .. })),
            "{revision:?} is lost"
        );
    }
}

#[test]
fn a_cold_value_flipped_at_any_byte_or_lost_is_never_served() {
    let sound = sound();
    let member = open(&sound.disk.power_cut(1), &sound.model).unwrap();
    member.verify(&sound.plan, "before any flip");
    let records = member.records();
    let mut unnamed = 0;
    let flips = each_flip(&sound.model, Family::Cold, |revision, what| {
        let record = records.iter().find(|record| record.revision == revision);
        // A value whose record was compacted since is nobody's.
        let Some(record) = record else {
            unnamed += 1;
            return;
        };
        match member.value(record) {
            Err(Fatal::Corruption { detail, .. }) => {
                assert!(
                    detail.contains(&format!("{revision:?}")),
                    "{what}: {detail}"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
    });
    eprintln!("cold values: {flips} flips, {unnamed} in values of no record");
    assert!(flips - unnamed > 1000);
    for revision in sound.model.revisions(Family::Cold) {
        assert!(sound.model.lose(Family::Cold, revision));
        let record = records.iter().find(|record| record.revision == revision);
        assert!(
            record.is_none_or(|record| member.value(record).is_err()),
            "{revision:?}"
        );
    }
}
