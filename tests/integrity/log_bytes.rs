//! The log cut and flipped at every byte, its sectors zeroed and swapped; and what a
//! process reads after a kill, which stays through a power cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::raft_log::{LogEntry, LogOptions, RaftLog};
use storage::types::LogIndex;
use storage::vfs::sim::SimDisk;

use crate::amount;
use crate::log_image::{BLOCK, LogImage, START, Verdict, directory, entry, flush};

const SECTOR: usize = 512;

/// How many images opened whole, opened shorter, and were refused.
#[derive(Debug, Default)]
struct Tally {
    whole: usize,
    shorter: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, image: &LogImage, verdict: &Verdict) {
        match verdict {
            Verdict::Groups(all) if *all == image.groups.len() => self.whole += 1,
            Verdict::Groups(_) => self.shorter += 1,
            Verdict::Refused(..) => self.refused += 1,
        }
    }

    fn images(&self) -> usize {
        self.whole + self.shorter + self.refused
    }
}

type Changes = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn one(path: &Path, bytes: Vec<u8>) -> Changes {
    Changes::from([(path.to_path_buf(), Some(bytes))])
}

#[test]
fn a_flip_at_every_byte_is_refused_by_file_and_offset_or_is_the_last_group() {
    let image = LogImage::build();
    let mut tally = Tally::default();
    for mask in 0..amount("INTEGRITY_MASKS", 1).min(8) {
        for (path, whole) in &image.files {
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << ((at as u64 + mask) % 8);
                let what = format!("{} flipped at {at}", path.display());
                let verdict = image.check(&one(path, bytes), &what);
                tally.count(&image, &verdict);
            }
        }
    }
    eprintln!("log flips: {} images, {tally:?}", tally.images());
    assert!(tally.images() >= 65_536);
    // Every byte belongs to a header or a group; the last one is not proven synced.
    assert_eq!(tally.whole, 0);
    assert_eq!(tally.shorter % BLOCK, 0);
}

/// What lies behind the cut: the end of the file, zeros as on a file that was filled
/// before, or what a recycled file held.
#[derive(Clone, Copy, Debug)]
enum Rest {
    End,
    Zeros,
    Garbage,
}

fn cut(whole: &[u8], length: usize, rest: Rest) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    match rest {
        Rest::End => bytes.truncate(length),
        Rest::Zeros => bytes[length..].fill(0),
        Rest::Garbage => {
            for (at, byte) in bytes.iter_mut().enumerate().skip(length) {
                *byte = ((at * 131) >> 3) as u8 ^ 0x5A;
            }
        }
    }
    bytes
}

#[test]
fn a_cut_at_every_byte_gives_the_longest_prefix_or_a_refusal() {
    let image = LogImage::build();
    let paths = image.paths();
    let mut tally = Tally::default();
    for (number, (path, whole)) in image.files.iter().enumerate() {
        for length in 0..whole.len() {
            // The file ends at the cut; the other ends take turns.
            let other = if length.is_multiple_of(2) {
                Rest::Zeros
            } else {
                Rest::Garbage
            };
            for rest in [Rest::End, other] {
                let mut changed = one(path, cut(whole, length, rest));
                let what = format!("{} cut at {length}, {rest:?}", path.display());
                if matches!(rest, Rest::End) {
                    let verdict = image.check(&changed, &what);
                    tally.count(&image, &verdict);
                }
                if number + 1 < paths.len() {
                    let later = paths.iter().skip(number + 1);
                    changed.extend(later.map(|path| (path.clone(), None)));
                    let verdict = image.check(&changed, &format!("{what}, the last file"));
                    tally.count(&image, &verdict);
                }
            }
        }
    }
    eprintln!("log cuts: {} images, {tally:?}", tally.images());
    assert!(tally.images() >= 65_536);
    assert!(tally.shorter > 20_000 && tally.refused > 20_000);
}

#[test]
fn lost_and_swapped_sectors_are_refused_or_harmless() {
    let image = LogImage::build();
    let sectors: Vec<(PathBuf, usize)> = image
        .files
        .iter()
        .flat_map(|(path, bytes)| {
            (0..bytes.len())
                .step_by(SECTOR)
                .map(|at| (path.clone(), at))
        })
        .collect();
    let mut tally = Tally::default();
    for (number, first) in sectors.iter().enumerate() {
        for second in sectors.iter().skip(number) {
            for swap in [false, true] {
                let mut files = image.files.clone();
                let mut take = |(path, at): &(PathBuf, usize), new: &[u8]| {
                    let bytes = files.get_mut(path).unwrap();
                    let old = bytes[*at..at + SECTOR].to_vec();
                    bytes[*at..at + SECTOR].copy_from_slice(new);
                    old
                };
                let lost = take(first, &[0; SECTOR]);
                let other = take(second, if swap { &lost } else { &[0; SECTOR] });
                if swap {
                    take(first, &other);
                }
                let changed = files.into_iter().map(|(path, bytes)| (path, Some(bytes)));
                let what = format!("{first:?} and {second:?}, swapped: {swap}");
                let verdict = image.check(&changed.collect(), &what);
                tally.count(&image, &verdict);
            }
        }
    }
    eprintln!("log sectors: {} images, {tally:?}", tally.images());
    assert!(tally.images() > 20_000 && tally.refused > 10_000);
}

/// A group reached the page cache and was never synced; the process is killed, the next one
/// reads it, serves it, and the power goes. What was read is there.
#[test]
fn what_was_read_after_a_kill_is_there_after_a_power_cut() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..amount("INTEGRITY_IMAGES", 5000) / 4 {
        let disk = SimDisk::new(seed);
        // Every other time the unsynced group begins a segment, and carries its header.
        let rolls = seed % 2 == 1;
        let options = LogOptions {
            segment_bytes: 32 << 10,
            first_segment_bytes: 32 << 10,
            spares_max: usize::from(rolls),
            salt: 9,
        };
        let open = |disk: &SimDisk| {
            RaftLog::open(Arc::new(disk.clone()), &directory(), options.clone(), START).unwrap()
        };
        let (mut log, _) = open(&disk);
        while let Some(job) = log.spare_job() {
            log.add_spare(job.perform(&mut || ()).unwrap());
        }
        let full = if rolls { 27_000 } else { 700 };
        let answered = log.append(None, &[entry(1, 1, full)]).unwrap();
        flush(&mut log, &answered);
        let length = 100 + (seed as usize * 997) % 12_000;
        let unsynced = log.append(None, &[entry(2, 1, length)]).unwrap();
        assert_eq!(unsynced.offset() == 0, rolls);
        let written = unsynced.bytes().len() * (seed as usize / 2 % 4 + 1) / 4;
        let written = written.next_multiple_of(SECTOR).min(unsynced.bytes().len());
        let part = unsynced.bytes().get(..written).unwrap();
        unsynced
            .file()
            .write_all_at(part, unsynced.offset())
            .unwrap();
        let killed = disk.kill();
        let (log, read) = open(&killed);
        let last = read.entries.last().map(|entry| entry.index);
        let served = log.entries(LogIndex(1), LogIndex(log.last().0.0 + 1), u64::MAX);
        assert_eq!(served.unwrap(), read.entries);
        match last {
            Some(LogIndex(2)) => kept += 1,
            Some(LogIndex(1)) => lost += 1,
            other => panic!("seed {seed}: the answered entry is gone: {other:?}"),
        }
        for cut in 0..4 {
            let (_, again) = open(&killed.power_cut(seed * 4 + cut));
            let same: &Vec<LogEntry> = &read.entries;
            assert!(
                again.entries == *same,
                "seed {seed}, cut {cut}: what was read is gone"
            );
        }
    }
    eprintln!("kill, read, power cut: {kept} times the unsynced group was read, {lost} not");
    assert!(kept > 50 && lost > 50);
}
