//! The scrub of a running log: every byte of every proven group and header, at the right
//! offset; nothing behind them; never a segment that was retired meanwhile.

use std::path::PathBuf;
use std::sync::Arc;

use super::{START, directory, entry, hard_state, open, options, put};
use crate::error::Fatal;
use crate::raft_log::{LogScrub, RaftLog};
use crate::types::LogIndex;
use crate::vfs::sim::SimDisk;

/// A log of several segments whose last group is proven, and where each group lies.
fn build(disk: &SimDisk) -> (RaftLog, Vec<(PathBuf, u64, u64)>) {
    let (mut log, _) = open(Arc::new(disk.clone()), &directory(), START).unwrap();
    put(&mut log, Some(hard_state(1, 2, 0)), &[]);
    let mut groups = vec![];
    for index in 1..=12 {
        let group = log
            .append(None, &[entry(index, 1, 3000 + index as usize * 100)])
            .unwrap();
        super::flush(&mut log, &group);
        let end = group.offset() + group.bytes().len() as u64;
        groups.push((group.path().to_path_buf(), group.offset(), end));
    }
    let proof = log.proof_group().unwrap().unwrap();
    super::flush(&mut log, &proof);
    assert!(log.segments().count() >= 3);
    (log, groups)
}

fn run(mut scrub: LogScrub) -> Result<u64, Fatal> {
    let mut bytes = 0;
    while let Some(read) = scrub.step()? {
        bytes += read;
    }
    Ok(bytes)
}

#[test]
fn a_sound_log_has_no_finding_and_is_read_whole() {
    let disk = SimDisk::new(1);
    let (log, groups) = build(&disk);
    let bytes: u64 = groups.iter().map(|(_, begin, end)| end - begin).sum();
    assert!(run(log.scrub()).unwrap() >= bytes);
    // A group in flight is nobody's business.
    let mut log = log;
    let group = log.append(None, &[entry(13, 1, 500)]).unwrap();
    run(log.scrub()).unwrap();
    super::flush(&mut log, &group);
    run(log.scrub()).unwrap();
}

#[test]
fn a_flip_anywhere_in_a_header_or_a_proven_group_is_found_and_named() {
    let disk = SimDisk::new(1);
    let (log, groups) = build(&disk);
    let headers = log.segments().map(|segment| {
        let name = format!("{:010}.segment", segment.number.0);
        (directory().join(name), 0, 4096)
    });
    for (path, begin, end) in headers.chain(groups.iter().cloned()) {
        let sound = disk.contents(&path);
        for at in (begin..end).step_by(61).chain([end - 1]) {
            let mut bytes = sound.clone();
            bytes[at as usize] ^= 0x10;
            disk.damage(&path, bytes);
            match run(log.scrub()) {
                Err(Fatal::Corruption {
                    path: named,
                    offset,
                    ..
                }) => assert_eq!((&named, offset), (&path, begin), "flip at {at}"),
                other => panic!("{}: flip at {at}: {other:?}", path.display()),
            }
        }
        disk.damage(&path, sound);
    }
    run(log.scrub()).unwrap();
}

#[test]
fn the_group_that_nothing_proves_is_left_alone() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(Arc::new(disk.clone()), &directory(), START).unwrap();
    put(&mut log, Some(hard_state(1, 2, 0)), &[entry(1, 1, 100)]);
    let group = log.append(None, &[entry(2, 1, 100)]).unwrap();
    super::flush(&mut log, &group);
    let mut bytes = disk.contents(group.path());
    bytes[group.offset() as usize + 70] ^= 1;
    disk.damage(group.path(), bytes);
    run(log.scrub()).unwrap();
    put(&mut log, None, &[entry(3, 1, 100)]);
    assert!(run(log.scrub()).is_err(), "the next group proves it");
}

#[test]
fn a_lost_or_cut_segment_is_found() {
    let disk = SimDisk::new(1);
    let (log, groups) = build(&disk);
    let path = &groups[0].0;
    let sound = disk.contents(path);
    disk.damage(path, sound[..groups[1].1 as usize].to_vec());
    let cut = run(log.scrub()).unwrap_err().to_string();
    assert!(cut.contains("segment at offset"), "{cut}");
    disk.take_away(path);
    let lost = run(log.scrub()).unwrap_err().to_string();
    assert!(lost.contains("is gone"), "{lost}");
}

#[test]
fn a_segment_that_is_retired_and_recycled_meanwhile_is_no_finding() {
    let disk = SimDisk::new(1);
    let (mut log, _) = build(&disk);
    let steps = {
        let mut scrub = log.scrub();
        std::iter::from_fn(|| scrub.step().unwrap()).count()
    };
    log.release(LogIndex(9));
    let oldest = log.segments().next().unwrap().number;
    assert!(log.can_retire(oldest));
    let mut passes: Vec<LogScrub> = (0..steps).map(|_| log.scrub()).collect();
    for (done, pass) in passes.iter_mut().enumerate() {
        for _ in 0..done {
            pass.step().unwrap();
        }
    }
    log.retire(oldest).unwrap();
    let spare = log.spare_job().unwrap().perform(&mut || ()).unwrap();
    log.add_spare(spare);
    // What was its file is now another segment, with other bytes.
    let before = log.segments().last().unwrap().number;
    let mut index = 13;
    while log.segments().last().unwrap().number == before {
        put(&mut log, None, &[entry(index, 1, 5000)]);
        index += 1;
    }
    assert!(options().spares_max > 0);
    for pass in passes {
        run(pass).unwrap();
    }
    run(log.scrub()).unwrap();
}
