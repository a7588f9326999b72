//! Directories that a member must not start on: parts missing, parts of another time, a newer
//! format, a place that cannot be written. Each is refused with its cause, and nothing in it
//! is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::lifecycle::files;
use crate::process::{Member, READY_WITHIN, is_etcd};

type Files = Vec<(PathBuf, Vec<u8>)>;

/// What a start may make anew without harm.
const UNCOUNTED: [&str; 2] = ["LOCK", "lock"];

fn counted(directory: &Path) -> Files {
    let mut found = files(directory);
    found.retain(|(path, _)| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_none_or(|name| !UNCOUNTED.contains(&name))
    });
    found
}

fn restore(directory: &Path, wanted: &Files) {
    fs::remove_dir_all(directory).expect("the directory can be removed");
    for (path, content) in wanted {
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }
}

/// Writes more than a segment, until a checkpoint is published; the files before and after.
async fn grow(member: &mut Member) -> (Files, Files) {
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    client.put("key/first", b"value".to_vec()).await;
    member.kill();
    let before = files(&member.data());
    member.start();
    let manifest = member.data().join("MANIFEST");
    let first = fs::read(&manifest).expect("a manifest");
    let mut client = Client::connect(member.client_port()).await;
    for number in 0..70_u8 {
        client
            .put(&format!("key/{number:03}"), vec![number; 1 << 20])
            .await;
    }
    let begin = Instant::now();
    while fs::read(&manifest).is_ok_and(|now| now == first) {
        assert!(
            begin.elapsed() < READY_WITHIN,
            "no checkpoint\n{}",
            member.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    member.kill();
    (before, files(&member.data()))
}

/// A change of the directory, and what the refusal must name.
struct Case {
    name: &'static str,
    change: Box<dyn Fn(&Path)>,
    named: Vec<String>,
}

fn missing(name: &'static str, named: &[&str]) -> Case {
    Case {
        name,
        change: Box::new(move |data| {
            let path = data.join(name);
            if path.is_dir() {
                fs::remove_dir_all(path).expect("a directory to lose");
            } else {
                fs::remove_file(path).expect("a file to lose");
            }
        }),
        named: named.iter().map(|text| (*text).to_owned()).collect(),
    }
}

fn below(data: &Path, part: &str, all: &Files) -> Vec<PathBuf> {
    let inside = all.iter().map(|(path, _)| path);
    let inside = inside.filter(|path| path.starts_with(data.join(part)));
    inside.cloned().collect()
}

fn cases(data: &Path, before: &Files, after: &Files) -> Vec<Case> {
    let mut cases = vec![
        missing(
            "STERNPOST",
            &["STERNPOST", "identity file is missing", "copy"],
        ),
        missing("MANIFEST", &["MANIFEST", "copy"]),
        missing("log", &["log is missing", "restore"]),
        missing("checkpoint", &["checkpoint", "missing"]),
        missing("checkpoint/version", &["checkpoint/version", "missing"]),
        missing(
            "checkpoint/keyspaces/1/current",
            &["keyspaces/1/current", "missing"],
        ),
    ];
    let table = below(data, "checkpoint/keyspaces/1/tables", after);
    let table = table.into_iter().next().expect("a checkpoint has a table");
    let name = table.display().to_string();
    cases.push(Case {
        name: "a table is lost",
        change: Box::new(move |_| fs::remove_file(&table).expect("a table")),
        named: vec![name, "missing".to_owned()],
    });
    let older: Files = before
        .iter()
        .filter(|(path, _)| path.starts_with(data.join("log")))
        .cloned()
        .collect();
    cases.push(Case {
        name: "an older log under a newer manifest",
        change: Box::new(move |data| {
            fs::remove_dir_all(data.join("log")).expect("a log");
            fs::create_dir_all(data.join("log")).expect("a directory");
            for (path, content) in &older {
                fs::write(path, content).expect("a file");
            }
        }),
        named: vec!["the manifest covers entries up to".to_owned()],
    });
    cases.push(older_copy(data, before, after));
    cases.extend(newer_formats(data, after));
    cases
}

/// All but the log is as it was before a segment was cleaned.
fn older_copy(data: &Path, before: &Files, after: &Files) -> Case {
    let log = data.join("log");
    let cleaned = below(data, "log", after).into_iter().min();
    let cleaned = cleaned.expect("a log has a segment");
    let older: Files = before
        .iter()
        .filter(|(path, _)| !path.starts_with(&log))
        .cloned()
        .collect();
    Case {
        name: "an older copy under a newer log",
        change: Box::new(move |data| {
            fs::remove_dir_all(data.join("checkpoint")).expect("a checkpoint");
            for (path, content) in &older {
                fs::create_dir_all(path.parent().expect("a file has a directory"))
                    .expect("a directory");
                fs::write(path, content).expect("a file");
            }
            fs::remove_file(&cleaned).expect("the oldest segment");
        }),
        named: [
            "the segment before is missing",
            "the manifest covers entries up to",
            "restore the whole data directory",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

/// Files of a release to come, whole: version 2, its checksum right.
fn newer_formats(data: &Path, after: &Files) -> [Case; 3] {
    let segment = below(data, "log", after).into_iter().min();
    let segment = segment.expect("a log has a segment");
    let newer = |path: PathBuf, ends: [usize; 2], crc_at: usize, step: &str| {
        let named = ["2", "is newer", step].map(str::to_owned).to_vec();
        let file = path.clone();
        Case {
            name: "a newer format",
            change: Box::new(move |_| {
                let mut bytes = fs::read(&file).expect("the file is there");
                *bytes.get_mut(8).expect("a version") = 2;
                let mut crc = crc32fast::Hasher::new();
                let [first, last] = ends;
                crc.update(bytes.get(..first).expect("a header"));
                crc.update(bytes.get(crc_at + 4..last).unwrap_or_default());
                let crc = crc.finalize().to_le_bytes();
                let field = bytes.get_mut(crc_at..crc_at + 4).expect("a header");
                field.copy_from_slice(&crc);
                fs::write(&file, bytes).expect("the file is there");
            }),
            named: [named, vec![path.display().to_string()]].concat(),
        }
    };
    [
        newer(
            data.join("MANIFEST"),
            [24, 0],
            24,
            "start the newer release",
        ),
        newer(
            data.join("STERNPOST"),
            [28, 0],
            28,
            "start the newer release",
        ),
        newer(segment, [12, 4096], 12, "start the release that wrote it"),
    ]
}

#[tokio::test]
async fn a_directory_with_a_lost_older_or_newer_part_is_refused_and_left_alone() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    let (before, after) = grow(&mut member).await;
    let data = member.data();
    for case in cases(&data, &before, &after) {
        restore(&data, &after);
        (case.change)(&data);
        let changed = counted(&data);
        let (status, log) = member.start_refused();
        assert_eq!(status.code(), Some(1), "{}: {log}", case.name);
        let last = log.lines().last().unwrap_or_default();
        for text in &case.named {
            assert!(log.contains(text), "{}: no {text:?} in {last}", case.name);
        }
        let left = counted(&data);
        let names = |all: &Files| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&left),
            names(&changed),
            "{}: files came or went",
            case.name
        );
        assert!(left == changed, "{}: something was written", case.name);
    }
    restore(&data, &after);
    member.start();
}

/// Before its first checkpoint a member has nothing but its log.
#[tokio::test]
async fn a_young_member_without_its_log_is_refused_and_left_alone() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let mut client = Client::connect(member.client_port()).await;
    client.put("key", b"value".to_vec()).await;
    member.kill();
    let data = member.data();
    let whole = files(&data);
    let segments = below(&data, "log", &whole);
    assert!(!segments.is_empty(), "there is a log");
    for segment in &segments {
        fs::remove_file(segment).expect("a segment");
    }
    let changed = counted(&data);
    let (status, log) = member.start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the log is missing"), "{log}");
    assert!(log.contains("restore the directory"), "{log}");
    assert!(counted(&data) == changed, "something was written");
    let (status, text) = member.check();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("the log is missing"), "{text}");
    restore(&data, &whole);
    member.start();
}

/// A file system mounted read-only; needs root and a mount namespace, and is left out where
/// neither can be had.
#[tokio::test]
async fn a_read_only_directory_is_refused_with_the_next_step() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    member.kill();
    let data = member.data();
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exit 42";
    let mut probe = Command::new("unshare");
    let probe = probe
        .args(["--mount", "sh", "-c", script])
        .arg(&data)
        .status();
    if !probe.is_ok_and(|status| status.code() == Some(42)) {
        return;
    }
    // Ports of its own: whoever runs the tests may have a member on the default ones.
    let flags = "--listen-client-urls=http://127.0.0.1:0 \
        --advertise-client-urls=http://127.0.0.1:0 --listen-peer-urls=http://127.0.0.1:0";
    let start = format!("exec \"$1\" --data-dir=\"$0\" {flags}");
    let script = script.replace("exit 42", &start);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .arg(&data)
        .arg(crate::process::binary())
        .output()
        .expect("unshare was there just now");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("must be writable"), "{text}");
}
