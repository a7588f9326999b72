//! Members under test: in this process, or as processes of their own.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use server::config::{self, Config, Request};
use server::shutdown::{self, ShutdownTrigger, StopCause};

/// How long controller-runtime waits for a member to start or to stop (contract 4.3).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Flags of a member with its data here and its clients there.
pub fn flags(data: &Path, client_url: &str) -> Vec<String> {
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--unsafe-no-fsync".to_owned(),
    ]
}

/// `server::run` on a thread of its own.
pub struct InProcess {
    trigger: ShutdownTrigger,
    thread: JoinHandle<Result<(), String>>,
}

impl InProcess {
    pub fn start(flags: &[String]) -> InProcess {
        InProcess::start_changed(flags, |_| {})
    }

    /// With what no flag can say.
    pub fn start_changed(flags: &[String], change: impl FnOnce(&mut Config)) -> InProcess {
        let mut notices = Vec::new();
        let request = config::read(flags, &[], &mut notices).unwrap();
        let Request::Serve(mut config) = request else {
            panic!("the flags ask for a member");
        };
        change(&mut config);
        let (trigger, shutdown) = shutdown::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            let run = server::run(*config, shutdown);
            runtime.block_on(run).map_err(|error| error.to_string())
        });
        InProcess { trigger, thread }
    }

    /// Stops the member, which must have run well until now.
    pub fn stop(self) {
        self.trigger.request(StopCause::Requested);
        self.thread.join().unwrap().unwrap();
    }
}

/// The program; killed when it is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; its log goes to `log`.
    pub fn start(flags: &[String], environment: &[(&str, &str)], log: PathBuf) -> Process {
        let child = Command::new(env!("CARGO_BIN_EXE_sternpost"))
            .args(flags)
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Process { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// How it ended.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until something listens on the port.
pub fn until_listening(port: u16) {
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
