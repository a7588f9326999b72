//! What one run of one line gave: the raw figures, and the quantities derived from them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::flush_probe::Flush;
use crate::latency::Latencies;
use crate::procfs::{self, Usage};

/// From this share of one core on, the client may have been what bounded the rate.
pub const CLIENT_BOUND_SHARE: f64 = 0.85;

/// What the clients of one line did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub operations: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub latencies: Latencies,
}

impl Tally {
    /// Counts a failed call.
    pub fn fail(&mut self, failure: &Failure) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| failure.to_string());
    }

    /// Adds another client's.
    pub fn merge(&mut self, other: Tally) {
        self.operations += other.operations;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latencies.merge(&other.latencies);
    }
}

/// One run of one line. Times are microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub line: String,
    pub operations: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub seconds: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub max_us: Option<f64>,
    pub server_cpu_us: Option<f64>,
    /// Of the whole process of the bench.
    pub client_cpu_us: f64,
    /// Of the thread that the measured clients share.
    pub client_thread_cpu_us: f64,
    pub peak_resident_bytes: Option<u64>,
    pub grown_resident_bytes: Option<u64>,
    /// Resident bytes after a rest, of the lines that rest.
    pub rest_resident_bytes: Option<u64>,
    /// Of the kube-apiserver, where there is one.
    pub apiserver_cpu_us: Option<f64>,
    /// The raw flush of the disk, as probed before the store was started.
    pub raw_flush: Option<Flush>,
    /// By the counter of the device: of everybody on it, journal included.
    pub device_written_bytes: Option<u64>,
    /// By the counter of the process, which counts whole folios of the page cache.
    pub process_written_bytes: Option<u64>,
}

/// CPU that the bench itself took.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCpu {
    pub process: Duration,
    /// The main thread, on which all measured clients run.
    pub thread: Duration,
}

impl ClientCpu {
    fn read() -> std::io::Result<ClientCpu> {
        let own = std::process::id();
        Ok(ClientCpu {
            process: procfs::cpu(own)?,
            thread: procfs::thread_cpu(own, own)?,
        })
    }
}

/// Something that is compared between two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Operations per second.
    Rate,
    /// Median latency in milliseconds.
    Median,
    /// 99th percentile in milliseconds.
    P99,
    /// 99.9th percentile in milliseconds.
    P999,
    /// The longest latency in milliseconds.
    Max,
    /// Server CPU per operation in microseconds.
    ServerCpu,
    /// CPU of the kube-apiserver per operation in microseconds.
    ApiserverCpu,
    /// Peak resident memory in MiB.
    PeakMemory,
    /// Resident memory gained between the line's begin and its peak, in MiB.
    GrownMemory,
    /// Resident memory after a rest, in MiB.
    RestMemory,
    /// KiB written to the device per operation, by everybody on it.
    Written,
    /// KiB that the kernel charged to the process per operation.
    Charged,
    /// Client CPU as a share of one core.
    ClientShare,
}

impl Quantity {
    /// All, in the order of the report.
    pub const ALL: [Quantity; 13] = [
        Quantity::Rate,
        Quantity::Median,
        Quantity::P99,
        Quantity::P999,
        Quantity::Max,
        Quantity::ServerCpu,
        Quantity::ApiserverCpu,
        Quantity::PeakMemory,
        Quantity::GrownMemory,
        Quantity::RestMemory,
        Quantity::Written,
        Quantity::Charged,
        Quantity::ClientShare,
    ];

    /// Its name for the head of a narrow column; the unit is that of [`Quantity::label`].
    pub fn short_label(self) -> &'static str {
        match self {
            Quantity::Rate => "op/s",
            Quantity::Median => "p50 ms",
            Quantity::P99 => "p99 ms",
            Quantity::P999 => "p99.9 ms",
            Quantity::Max => "max ms",
            Quantity::ServerCpu => "CPU us",
            Quantity::ApiserverCpu => "API us",
            Quantity::PeakMemory => "RSS MiB",
            Quantity::GrownMemory => "+RSS MiB",
            Quantity::RestMemory => "rest MiB",
            Quantity::Written => "disk KiB",
            Quantity::Charged => "charged",
            Quantity::ClientShare => "client",
        }
    }

    /// Its name with the unit, for a table.
    pub fn label(self) -> &'static str {
        match self {
            Quantity::Rate => "operations/s",
            Quantity::Median => "p50 ms",
            Quantity::P99 => "p99 ms",
            Quantity::P999 => "p99.9 ms",
            Quantity::Max => "max ms",
            Quantity::ServerCpu => "server CPU us/op",
            Quantity::ApiserverCpu => "apiserver CPU us",
            Quantity::PeakMemory => "peak RSS MiB",
            Quantity::GrownMemory => "RSS growth MiB",
            Quantity::RestMemory => "RSS at rest MiB",
            Quantity::Written => "device KiB/op",
            Quantity::Charged => "charged KiB/op",
            Quantity::ClientShare => "client CPU cores",
        }
    }
}

impl Measurement {
    /// One quantity, None where it was not measured or has no meaning.
    pub fn quantity(&self, quantity: Quantity) -> Option<f64> {
        const MEBIBYTE: f64 = 1_048_576.0;
        let operations = (self.operations > 0).then_some(self.operations as f64)?;
        match quantity {
            Quantity::Rate => Some(operations / self.seconds),
            Quantity::Median => self.p50_us.map(|us| us / 1e3),
            Quantity::P99 => self.p99_us.map(|us| us / 1e3),
            Quantity::P999 => self.p999_us.map(|us| us / 1e3),
            Quantity::Max => self.max_us.map(|us| us / 1e3),
            Quantity::ServerCpu => self.server_cpu_us.map(|us| us / operations),
            Quantity::ApiserverCpu => self.apiserver_cpu_us.map(|us| us / operations),
            Quantity::PeakMemory => self
                .peak_resident_bytes
                .map(|bytes| bytes as f64 / MEBIBYTE),
            Quantity::GrownMemory => self
                .grown_resident_bytes
                .map(|bytes| bytes as f64 / MEBIBYTE),
            Quantity::RestMemory => self
                .rest_resident_bytes
                .map(|bytes| bytes as f64 / MEBIBYTE),
            Quantity::Written => self
                .device_written_bytes
                .map(|b| b as f64 / 1_024.0 / operations),
            Quantity::Charged => self
                .process_written_bytes
                .map(|b| b as f64 / 1_024.0 / operations),
            Quantity::ClientShare => Some(self.client_cpu_us / 1e6 / self.seconds),
        }
    }

    /// Whether the client's thread was busy for so long that the rate may be its own.
    pub fn is_client_bound(&self) -> bool {
        self.client_thread_cpu_us >= CLIENT_BOUND_SHARE * 1e6 * self.seconds && self.seconds > 0.0
    }

    /// A line that could not be run.
    pub fn failed(line: &'static str, failure: &Failure) -> Measurement {
        let mut tally = Tally::default();
        tally.fail(failure);
        Meter::start(&Observed::default()).map_or_else(
            |_| Measurement::assemble(line, &tally, Duration::ZERO, ClientCpu::default()),
            |meter| meter.finish(line, &tally),
        )
    }

    /// A line without a server's figures.
    pub fn assemble(
        line: &'static str,
        tally: &Tally,
        elapsed: Duration,
        client: ClientCpu,
    ) -> Measurement {
        let micros = |took: Duration| took.as_secs_f64() * 1e6;
        Measurement {
            line: line.to_owned(),
            operations: tally.operations,
            errors: tally.errors,
            first_error: tally.first_error.clone(),
            seconds: elapsed.as_secs_f64(),
            p50_us: tally.latencies.quantile(500).map(micros),
            p99_us: tally.latencies.quantile(990).map(micros),
            p999_us: tally.latencies.quantile(999).map(micros),
            max_us: tally.latencies.max().map(micros),
            server_cpu_us: None,
            client_cpu_us: micros(client.process),
            client_thread_cpu_us: micros(client.thread),
            peak_resident_bytes: None,
            grown_resident_bytes: None,
            rest_resident_bytes: None,
            apiserver_cpu_us: None,
            raw_flush: None,
            device_written_bytes: None,
            process_written_bytes: None,
        }
    }
}

/// What can be seen of a store beside its answers.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The server's process, if it runs on this machine and can be seen.
    pub pid: Option<u32>,
    /// The counters of the device under its data directory, if known.
    pub device: Option<PathBuf>,
}

impl Observed {
    fn device_written(&self) -> Option<u64> {
        self.device
            .as_deref()
            .and_then(|path| procfs::device_written_bytes(path).ok())
    }
}

/// The figures of both processes and of the device at the begin of a line.
#[derive(Clone, Debug)]
pub struct Meter {
    begin: Instant,
    client: ClientCpu,
    server: Option<ServerBegin>,
    observed: Observed,
    device_written: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct ServerBegin {
    pid: u32,
    usage: Usage,
    resident_bytes: u64,
    peak_was_reset: bool,
}

impl Meter {
    /// Begins to measure what can be seen.
    pub fn start(observed: &Observed) -> Result<Meter, Failure> {
        let server = observed.pid.map(ServerBegin::read).transpose()?;
        let client = ClientCpu::read()?;
        Ok(Meter {
            begin: Instant::now(),
            client,
            server,
            observed: observed.clone(),
            device_written: observed.device_written(),
        })
    }

    /// Ends the line.
    pub fn finish(self, line: &'static str, tally: &Tally) -> Measurement {
        let elapsed = self.begin.elapsed();
        let client = ClientCpu::read().map_or(ClientCpu::default(), |now| ClientCpu {
            process: now.process.saturating_sub(self.client.process),
            thread: now.thread.saturating_sub(self.client.thread),
        });
        let mut measurement = Measurement::assemble(line, tally, elapsed, client);
        let device = self.device_written.zip(self.observed.device_written());
        measurement.device_written_bytes =
            device.map(|(before, after)| after.saturating_sub(before));
        if let Some(begin) = self.server {
            begin.complete(&mut measurement);
        }
        measurement
    }
}

impl ServerBegin {
    fn read(pid: u32) -> Result<ServerBegin, Failure> {
        // Only the owner may reset the peak; without it the peak is that of the whole life.
        let peak_was_reset = procfs::reset_peak(pid).is_ok();
        let usage = procfs::usage(pid)?;
        Ok(ServerBegin {
            pid,
            usage,
            resident_bytes: procfs::resident_bytes(pid)?,
            peak_was_reset,
        })
    }

    fn complete(self, measurement: &mut Measurement) {
        let (Ok(usage), Ok(peak)) = (
            procfs::usage(self.pid),
            procfs::peak_resident_bytes(self.pid),
        ) else {
            measurement.errors += 1;
            let gone = || "the server's process is gone".to_owned();
            measurement.first_error.get_or_insert_with(gone);
            return;
        };
        let cpu = usage.cpu.saturating_sub(self.usage.cpu);
        measurement.server_cpu_us = Some(cpu.as_secs_f64() * 1e6);
        measurement.process_written_bytes =
            Some(usage.written_bytes.saturating_sub(self.usage.written_bytes));
        measurement.peak_resident_bytes = Some(peak);
        measurement.grown_resident_bytes = self
            .peak_was_reset
            .then(|| peak.saturating_sub(self.resident_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_client_is_called_the_bottleneck() {
        let bound = |busy_ms| {
            let tally = Tally {
                operations: 1,
                ..Tally::default()
            };
            let client = ClientCpu {
                process: Duration::from_secs(1),
                thread: Duration::from_millis(busy_ms),
            };
            Measurement::assemble("put-1", &tally, Duration::from_secs(1), client).is_client_bound()
        };
        assert!(bound(900));
        assert!(!bound(800), "threads beside the clients do not count");
    }

    #[test]
    fn without_operations_there_is_no_figure() {
        let failure = Failure::Wrong("none".to_owned());
        let failed = Measurement::failed("put-1", &failure);
        assert_eq!(failed.errors, 1);
        for quantity in Quantity::ALL {
            assert_eq!(failed.quantity(quantity), None, "{}", quantity.label());
        }
        assert!(!failed.is_client_bound());
    }
}
