//! One member as a real process: started, killed, stopped, started again on the same
//! directory and ports.
//!
//! A [`Member`] owns its data directory, its ports, its log file and, while it runs, the
//! child. Dropping it kills the child, so a failed test leaves no process behind.
//! Limits: [`READY_WITHIN`] bounds every wait.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a member may take to serve. Generous: the machine may be busy with builds.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// How the log is flushed in one life after the other (docs/operations.md).
const FLUSH_BACK_ENDS: [&str; 3] = ["", "aio", "thread"];
/// Asks for a back end; set from outside, it counts for all lives.
const FLUSH_VARIABLE: &str = "STERNPOST_LOG_FLUSH";
/// The pause between two looks at a process.
const POLL: Duration = Duration::from_millis(5);

/// The program under test: `$STERNPOST_BIN`, or what cargo has built for this test. With
/// a path to a real etcd the harness itself is put to the test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STERNPOST_BIN") {
        return PathBuf::from(path);
    }
    PathBuf::from(env!("CARGO_BIN_EXE_sternpost"))
}

/// Whether the program under test is etcd itself, as it is when the harness is validated:
/// what only Sternpost promises is not asked of it.
pub fn is_etcd() -> bool {
    binary().file_name().is_some_and(|name| name == "etcd")
}

/// A member that runs or does not, on a directory and ports of its own.
#[derive(Debug)]
pub struct Member {
    directory: PathBuf,
    data: PathBuf,
    /// Variables that the process is started with.
    pub environment: Vec<(String, String)>,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
    /// Times the process was started.
    lives: usize,
}

impl Member {
    /// A member whose data and log lie under `directory`; it does not run yet.
    pub fn new(directory: &Path) -> Member {
        Member::with_data(directory, &directory.join("data"))
    }

    /// A member whose log lies under `directory` and its data elsewhere.
    pub fn with_data(directory: &Path, data: &Path) -> Member {
        Member {
            directory: directory.to_owned(),
            data: data.to_owned(),
            environment: Vec::new(),
            client_port: free_port(),
            peer_port: free_port(),
            child: None,
            lives: 0,
        }
    }

    /// Another process on this member's data directory, with ports and a log of its own.
    pub fn rival(&self, directory: &Path) -> Member {
        let rival = Member::new(directory);
        if !rival.data().exists() {
            std::os::unix::fs::symlink(self.data(), rival.data()).expect("a fresh directory");
        }
        rival
    }

    /// The port that clients connect to.
    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the member runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the directory of the test is there");
        let client = format!("http://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        // Lives take turns on one directory.
        let back_end = FLUSH_BACK_ENDS.get(self.lives % FLUSH_BACK_ENDS.len());
        if std::env::var_os(FLUSH_VARIABLE).is_none() {
            command.env(FLUSH_VARIABLE, back_end.expect("within the list"));
        }
        self.lives += 1;
        let variables = self.environment.iter();
        let child = command
            .envs(variables.map(|(name, value)| (name, value)))
            .arg("--name=default")
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the program under test can be started");
        self.child = Some(child);
    }

    /// Starts the process and waits until it serves.
    pub fn start(&mut self) {
        self.spawn();
        if let Some(status) = self.wait_ready() {
            panic!("ended before it served: {status}\n{}", self.log_tail());
        }
    }

    /// Waits until the process serves; its status if it ends before that.
    pub fn wait_ready(&mut self) -> Option<ExitStatus> {
        let begin = Instant::now();
        while !self.is_ready() {
            if let Some(status) = self.poll_exit() {
                self.child = None;
                return Some(status);
            }
            let log = || self.log_tail();
            assert!(begin.elapsed() < READY_WITHIN, "does not serve\n{}", log());
            std::thread::sleep(POLL);
        }
        None
    }

    /// Whether the process has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.poll_exit().is_some()
    }

    /// Starts the process, which must end by itself, and returns how it ended and what it
    /// wrote.
    pub fn start_refused(&mut self) -> (ExitStatus, String) {
        let before = fs::metadata(self.log_path()).map_or(0, |file| file.len());
        self.spawn();
        let status = self.wait(READY_WITHIN);
        let log = fs::read(self.log_path()).expect("the log is there");
        let new = log.get(usize::try_from(before).expect("short")..);
        let text = String::from_utf8_lossy(new.expect("it grows")).into_owned();
        (status, text)
    }

    /// Ends the process as `kill -9` does and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            child.kill().ok();
            child.wait().expect("the child is ours");
        }
    }

    /// What `sternpost check` says of the data directory, while the member does not run.
    pub fn check(&self) -> (ExitStatus, String) {
        assert!(self.child.is_none(), "the member runs");
        let output = Command::new(binary())
            .arg("check")
            .arg(self.data())
            .output();
        let output = output.expect("the program can be started");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status, text)
    }

    /// Sends SIGTERM and returns how the process ended, which it must do within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(limit)
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("the member runs");
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", child.id())])
            .status()
            .expect("there is a shell");
        assert!(sent.success(), "kill -{name} failed: {sent}");
    }

    /// The resident memory of the process, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let child = self.child.as_ref().expect("the member runs");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.expect("the process lives and /proc is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kibibytes: u64 = kibibytes.expect("VmRSS").parse().expect("a number");
        kibibytes << 10
    }

    /// Fails the test if the process has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.poll_exit() {
            panic!("the member ended: {status}\n{}", self.log_tail());
        }
    }

    /// The end of what the process has written.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(4096)..).unwrap_or(&log);
        String::from_utf8_lossy(tail).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("member.log")
    }

    /// Whether `/readyz` answers 200.
    fn is_ready(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut socket = TcpStream::connect(("127.0.0.1", self.client_port))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
            let mut line = [0; 12];
            socket.read_exact(&mut line)?;
            Ok(line.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    fn poll_exit(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().expect("the child is ours")
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.poll_exit() {
                self.child = None;
                return status;
            }
            let log = || self.log_tail();
            assert!(begin.elapsed() < limit, "not ended in {limit:?}\n{}", log());
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A TCP port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}
