//! The program under its supervisor: readiness, stop, refusals, the checker.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use http::StatusCode;
use kvproto::etcdserverpb::watch_request::RequestUnion;
use kvproto::etcdserverpb::{
    PutRequest, PutResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

use super::client::{self, Client, Refused};
use super::running::{PATIENCE, Process, flags, free_port, until_listening};

const SIGTERM: i32 = 15;

fn start(data: &Path, log: PathBuf) -> (Process, u16) {
    let port = free_port();
    let process = Process::start(&flags(data, &format!("http://127.0.0.1:{port}")), &[], log);
    until_listening(port);
    (process, port)
}

async fn put(port: u16, key: &str, value: &str) {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    let mut client = Client::tcp(port).await;
    let answer: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &request).await;
    answer.unwrap();
}

fn check(data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sternpost"))
        .args([Path::new("check"), data])
        .env_clear()
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn sigterm_ends_it_with_watches_open() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, port) = start(&directory.path().join("data"), directory.path().join("log"));
    let mut client = Client::tcp(port).await;
    let mut watch = client.stream("/etcdserverpb.Watch/Watch").await;
    let create = WatchCreateRequest {
        key: "k".into(),
        ..Default::default()
    };
    let create = RequestUnion::CreateRequest(create);
    watch
        .send(&WatchRequest {
            request_union: Some(create),
        })
        .await;
    let created: WatchResponse = watch.next().await.unwrap();
    assert!(created.created);
    process.terminate();
    let end = watch.next::<WatchResponse>().await.unwrap_err();
    let stopped = Refused(14, "etcdserver: server stopped".to_owned());
    assert_eq!(end, Some(stopped));
    assert_eq!(process.wait().signal(), Some(SIGTERM));
}

#[tokio::test]
async fn systemd_is_told_once_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = free_port();
    let flags = flags(
        &directory.path().join("data"),
        &format!("http://127.0.0.1:{port}"),
    );
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let _process = Process::start(&flags, &environment, directory.path().join("log"));
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    assert_eq!(client::get(port, "/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (_first, port) = start(&data, directory.path().join("first"));
    put(port, "k", "v").await;
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut second = Process::start(&flags(&data, &url), &[], directory.path().join("second"));
    assert_eq!(second.wait().code(), Some(1));
    let log = second.log();
    assert!(
        log.contains("another process uses this data directory"),
        "{log}"
    );
    let refused = check(&data);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("another process uses this data directory"));
    // The first one was not disturbed.
    put(port, "k", "w").await;
}

#[test]
fn etcds_directory_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("default.etcd");
    for name in ["member/snap", "member/wal"] {
        std::fs::create_dir_all(data.join(name)).unwrap();
    }
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut process = Process::start(&flags(&data, &url), &[], directory.path().join("log"));
    assert_eq!(process.wait().code(), Some(1));
    let log = process.log();
    assert!(log.contains("this is the data directory of etcd"), "{log}");
    assert_eq!(check(&data).status.code(), Some(2));
    let names: Vec<_> = std::fs::read_dir(&data).unwrap().collect();
    assert_eq!(names.len(), 1, "something was written: {names:?}");
}

#[tokio::test]
async fn the_checker_tells_a_clean_directory_from_a_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert_eq!(
        check(&data).status.code(),
        Some(2),
        "there is nothing to check"
    );
    let (mut process, port) = start(&data, directory.path().join("log"));
    let needle = "a value that stands in the log once";
    put(port, "k", needle).await;
    for number in 0..3 {
        put(port, "k", &number.to_string()).await;
    }
    process.terminate();
    process.wait();
    let clean = check(&data);
    assert_eq!(
        clean.status.code(),
        Some(0),
        "{}{}",
        stdout(&clean),
        stderr(&clean)
    );
    assert!(stdout(&clean).starts_with("clean: "), "{}", stdout(&clean));
    assert_eq!(stderr(&clean), "", "no bar where there is no terminal");

    let (file, offset) = flip(&data.join("log"), needle.as_bytes());
    let damaged = check(&data);
    assert_eq!(
        damaged.status.code(),
        Some(1),
        "{}{}",
        stdout(&damaged),
        stderr(&damaged)
    );
    let report = stdout(&damaged);
    let finding = format!("{}: offset ", file.display());
    let line = report.lines().find_map(|line| line.strip_prefix(&finding));
    let found: usize = line.unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(
        found <= offset,
        "the group that holds the byte begins before it"
    );
}

/// Flips a bit where `needle` stands; the file and the offset.
fn flip(directory: &Path, needle: &[u8]) -> (PathBuf, usize) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(needle.len())
            .position(|window| window == needle);
        if let Some(offset) = found {
            bytes[offset] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return (path, offset);
        }
    }
    panic!("the value is not in the log");
}
