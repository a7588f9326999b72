//! A directory of segments with edited bytes, opened by the log over the simulated disk.
//!
//! Two kinds of edits: as a disk would damage them, where the outcome follows from the bytes
//! (`tests/integrity/log_image.rs`: the exact longest prefix, or a refusal by file and
//! offset); and with every checksum made right again, where the log must refuse or open,
//! and what it opened must be whole and the same at the next start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use storage::error::Fatal;
use storage::raft_log::{LogOptions, RaftLog, Recovered};
use storage::types::SegmentNumber;
use storage::vfs::Vfs;
use storage::vfs::sim::SimDisk;

use crate::log_image::{BLOCK, LogImage, START, directory};
use crate::log_record::{seal_group, seal_segment};
use crate::source::Source;

type Changes = BTreeMap<PathBuf, Option<Vec<u8>>>;

pub fn check(data: &[u8]) -> bool {
    static IMAGE: OnceLock<LogImage> = OnceLock::new();
    let image = IMAGE.get_or_init(LogImage::build);
    let mut source = Source::new(data);
    let choice = source.byte();
    let mut files = image.files.clone();
    let kept = image.files.len() - usize::from(choice / 2 % 3);
    for bytes in files.values_mut() {
        let part = usize::from(source.byte());
        source = edit_part(source, part, bytes);
    }
    if choice.is_multiple_of(2) {
        let changed = files.into_iter().enumerate();
        let changed = changed.map(|(at, (path, bytes))| (path, (at < kept).then_some(bytes)));
        let changed: Changes = changed.collect();
        image.check(&changed, "edited");
        return true;
    }
    reseal(image, &mut files);
    let disk = image.disk.power_cut(1);
    for (at, (path, bytes)) in files.into_iter().enumerate() {
        if at < kept {
            disk.damage(&path, bytes);
        } else {
            disk.remove_file(&path).unwrap();
        }
    }
    opened_is_whole(&disk)
}

/// Edits one file with the next so many bytes.
fn edit_part<'a>(mut source: Source<'a>, length: usize, bytes: &mut Vec<u8>) -> Source<'a> {
    let part = source.bytes(length);
    Source::new(part).edit(bytes);
    source
}

/// Makes every checksum right, and every chain, at the places where groups were.
fn reseal(image: &LogImage, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let mut chain = 0_u32;
    for (path, bytes) in files {
        if bytes.len() < BLOCK {
            continue;
        }
        bytes[36..40].copy_from_slice(&chain.to_le_bytes());
        seal_segment(&mut bytes[..BLOCK]);
        let salt = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
        let number = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
        for group in image.groups.iter().filter(|group| group.path == *path) {
            let Some(group) = bytes.get_mut(group.offset..group.end) else {
                break;
            };
            group[24..28].copy_from_slice(&chain.to_le_bytes());
            chain = seal_group(salt, SegmentNumber(number), group);
        }
    }
}

fn open(disk: &SimDisk) -> Result<(RaftLog, Recovered), Fatal> {
    let options = LogOptions {
        segment_bytes: 8 << 10,
        first_segment_bytes: 8 << 10,
        spares_max: 1,
        salt: 0x5EED,
    };
    RaftLog::open(Arc::new(disk.clone()), &directory(), options, START)
}

fn opened_is_whole(disk: &SimDisk) -> bool {
    let (log, found) = match open(disk) {
        Ok(opened) => opened,
        Err(Fatal::Corruption { .. } | Fatal::Refused { .. }) => return false,
        Err(other) => panic!("{other}"),
    };
    for (at, entry) in found.entries.iter().enumerate() {
        assert_eq!(entry.index.0, START.0.0 + 1 + at as u64);
    }
    let last = found.entries.last();
    assert_eq!(
        log.last(),
        last.map_or(START, |last| (last.index, last.term))
    );
    drop(log);
    let (_, again) = open(&disk.power_cut(2)).expect("what was opened opens again");
    assert!(again.entries == found.entries && again.hard_state == found.hard_state);
    true
}
