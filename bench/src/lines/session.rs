//! One store under test during one round: its process if it is ours, its connections, and what
//! has been written to it so far.

use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::TlsConnector;

use kvproto::etcdserverpb::{StatusRequest, StatusResponse};

use crate::connection::{Connection, Duplex, Method};
use crate::failure::Failure;
use crate::lines::table::Stage;
use crate::lines::writes;
use crate::measurement::{ClientCpu, Measurement, Meter, Observed, Tally};
use crate::objects::{NAMESPACE_OBJECTS, Values};
use crate::process::{Launch, ServerProcess};
use crate::procfs;

/// Objects of the lines about a million.
const MILLION: u64 = 1_000_000;
/// Puts of the line about overwrites.
const OVERWRITES: u64 = 10_000_000;
/// How long an empty server may settle before its memory at rest is read.
const START_REST: Duration = Duration::from_secs(2);

/// What all lines of a run have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a line is measured.
    pub length: Duration,
    /// Objects that the lists, the count and the restart work on.
    pub objects: u64,
    /// Keys that puts and gets work on.
    pub keys: u64,
    /// Superseded revisions that are compacted beside puts.
    pub history: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Connections over which clients are spread.
    pub connections: usize,
    /// How long the sustained load lasts.
    pub sustained: Duration,
    /// Time between two compactions under sustained load.
    pub compaction: Duration,
    /// By how much the sizes of heavy and growth lines are divided, to try the bench itself.
    pub scale_down: u64,
    /// Puts of the line about overwrites.
    pub overwrites: u64,
    /// The kube-apiserver of the line about it.
    pub apiserver: Option<PathBuf>,
}

impl Settings {
    /// As the lines of one stage need them.
    pub fn of_stage(&self, stage: Stage) -> Settings {
        let objects = match stage {
            Stage::Million => MILLION / self.scale_down,
            Stage::Grown(objects) => objects / self.scale_down,
            _ => self.objects,
        };
        Settings {
            objects: objects.max(1).next_multiple_of(NAMESPACE_OBJECTS),
            overwrites: OVERWRITES / self.scale_down,
            ..self.clone()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            length: Duration::from_secs(5),
            objects: 200_000,
            keys: 10_000,
            history: 240_000,
            value_bytes: 1_024,
            connections: 16,
            sustained: Duration::from_secs(60),
            compaction: Duration::from_secs(20),
            scale_down: 1,
            overwrites: OVERWRITES,
            apiserver: None,
        }
    }
}

/// A store and the state of the run against it.
pub struct Session {
    pub stage: Stage,
    pub settings: Settings,
    pub values: Values,
    pub observed: Observed,
    /// Streams of watchers that look elsewhere.
    pub crowd: Vec<Duplex>,
    peak_bytes: Option<u64>,
    connections: Vec<Connection>,
    endpoint: String,
    own: Option<(Launch, ServerProcess)>,
    started_in: Option<Duration>,
    has_keys: bool,
    has_history: bool,
    has_objects: bool,
}

impl Session {
    /// A run against a server that somebody else started.
    ///
    /// # Errors
    /// When it cannot be reached, or runs here with its fsync off.
    pub async fn attach(endpoint: &str, settings: Settings) -> Result<Session, Failure> {
        let local = endpoint.starts_with("127.") || endpoint.starts_with("localhost:");
        let port = endpoint
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let server_pid = port.filter(|_| local).and_then(procfs::listener);
        if let Some(pid) = server_pid
            && let Some(reason) = procfs::fsync_off(pid)?
        {
            return Err(Failure::Refused(format!(
                "a server whose fsync is off: {reason}"
            )));
        }
        let mut session = Session::new(endpoint.to_owned(), settings, Stage::Usual);
        session.observed.pid = server_pid;
        session.connect().await?;
        Ok(session)
    }

    /// A run against a server that is started here.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn launch(
        launch: Launch,
        settings: &Settings,
        stage: Stage,
    ) -> Result<Session, Failure> {
        let settings = settings.of_stage(stage);
        let mut session = Session::new(launch.endpoint(), settings, stage);
        let (server, took) = launch.start().await?;
        session.observed = Observed {
            pid: Some(server.pid()),
            device: procfs::device_counters(&launch.home),
        };
        session.started_in = Some(took);
        session.own = Some((launch, server));
        session.connect().await?;
        Ok(session)
    }

    fn new(endpoint: String, settings: Settings, stage: Stage) -> Session {
        let values = Values::new(settings.value_bytes);
        Session {
            stage,
            settings,
            values,
            observed: Observed::default(),
            crowd: Vec::new(),
            peak_bytes: None,
            connections: Vec::new(),
            endpoint,
            own: None,
            started_in: None,
            has_keys: false,
            has_history: false,
            has_objects: false,
        }
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        self.connections.clear();
        for _ in 0..self.settings.connections {
            self.connections
                .push(Connection::open(&self.endpoint).await?);
        }
        Ok(())
    }

    /// The connection of the client with this number.
    pub fn connection(&self, client: usize) -> Connection {
        let place = client % self.connections.len().max(1);
        self.connections
            .get(place)
            .cloned()
            .expect("a session has connections")
    }

    /// `host:port` of the server.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The directory of a server of ours, for what belongs to it.
    pub fn home(&self) -> Result<PathBuf, Failure> {
        let foreign = || Failure::Refused("only a server started here has a directory".to_owned());
        let (launch, _) = self.own.as_ref().ok_or_else(foreign)?;
        Ok(launch.home.clone())
    }

    /// Address of the server's listener with TLS, and what trusts its certificate.
    pub fn tls(&self) -> Result<(String, TlsConnector), Failure> {
        let foreign = || Failure::Refused("only a server started here has TLS".to_owned());
        let (launch, _) = self.own.as_ref().ok_or_else(foreign)?;
        Ok((launch.tls_endpoint(), launch.tls_connector()?))
    }

    /// Resident bytes of the server now, if it can be seen.
    pub fn resident_bytes(&self) -> Option<u64> {
        procfs::resident_bytes(self.observed.pid?).ok()
    }

    /// A line's peak of resident memory.
    pub fn saw_peak(&mut self, bytes: Option<u64>) {
        self.peak_bytes = self.peak_bytes.max(bytes);
    }

    /// The highest of the peaks.
    pub fn peak(&self) -> Option<u64> {
        self.peak_bytes
    }

    /// The version that the server names.
    pub async fn version(&self) -> Result<String, Failure> {
        let request = StatusRequest::default();
        let status: StatusResponse = self.connection(0).unary(Method::Status, &request).await?;
        Ok(status.version)
    }

    /// Writes each of the keys once, the first time it is asked.
    pub async fn need_keys(&mut self) -> Result<(), Failure> {
        if !self.has_keys {
            writes::fill(self, writes::KEY_KIND, self.settings.keys, 1).await?;
            self.has_keys = true;
        }
        Ok(())
    }

    /// Overwrites keys until there is history to compact, the first time it is asked.
    pub async fn need_history(&mut self) -> Result<(), Failure> {
        self.need_keys().await?;
        if !self.has_history {
            let times = self.settings.history.div_ceil(self.settings.keys);
            writes::fill(self, writes::KEY_KIND, self.settings.keys, times).await?;
            self.has_history = true;
        }
        Ok(())
    }

    /// The history is gone.
    pub fn lose_history(&mut self) {
        self.has_history = false;
    }

    /// Writes all objects, the first time it is asked. Returns what that gave when it did.
    pub async fn need_objects(&mut self) -> Result<Option<Tally>, Failure> {
        if self.has_objects {
            return Ok(None);
        }
        let tally = writes::fill(self, writes::OBJECT_KIND, self.settings.objects, 1).await?;
        self.has_objects = true;
        Ok(Some(tally))
    }

    /// How long the first start of a server of ours took.
    pub async fn start_empty(&mut self, line: &'static str) -> Result<Measurement, Failure> {
        let foreign = || Failure::Refused("only a server started here can be timed".to_owned());
        let took = self.started_in.ok_or_else(foreign)?;
        let mut measurement =
            Measurement::assemble(line, &one_operation(took), took, ClientCpu::default());
        measurement.peak_resident_bytes = self
            .observed
            .pid
            .and_then(|pid| procfs::peak_resident_bytes(pid).ok());
        tokio::time::sleep(START_REST).await;
        measurement.rest_resident_bytes = self.resident_bytes();
        Ok(measurement)
    }

    /// Kills the server and starts it on the same directory.
    pub async fn restart(&mut self, line: &'static str) -> Result<Measurement, Failure> {
        self.need_objects().await?;
        let foreign = || Failure::Refused("only a server started here can be killed".to_owned());
        let (launch, server) = self.own.take().ok_or_else(foreign)?;
        self.connections.clear();
        server.kill()?;
        let meter = Meter::start(&Observed {
            pid: None,
            ..self.observed.clone()
        })?;
        let (server, took) = launch.start().await?;
        let mut measurement = meter.finish(line, &one_operation(took));
        // A new process: all of its figures belong to this line.
        let usage = procfs::usage(server.pid())?;
        measurement.seconds = took.as_secs_f64();
        measurement.server_cpu_us = Some(usage.cpu.as_secs_f64() * 1e6);
        measurement.process_written_bytes = Some(usage.written_bytes);
        measurement.peak_resident_bytes = Some(procfs::peak_resident_bytes(server.pid())?);
        self.observed.pid = Some(server.pid());
        self.own = Some((launch, server));
        self.connect().await?;
        Ok(measurement)
    }

    /// Ends the run: a server of ours is killed and its directory removed.
    pub fn end(mut self) -> Result<(), Failure> {
        self.crowd.clear();
        self.connections.clear();
        if let Some((launch, server)) = self.own.take() {
            server.kill()?;
            launch.remove()?;
        }
        Ok(())
    }
}

fn one_operation(took: Duration) -> Tally {
    let mut tally = Tally {
        operations: 1,
        ..Tally::default()
    };
    tally.latencies.record(took);
    tally
}
