//! `grpc_server_*`: one set of series per method, all there at zero from the start (contract 6.1,
//! trap 24).

use std::collections::HashMap;
use std::time::Duration;

use super::number::{Counter, Histogram};
use super::text::Page;

/// How many messages a call has in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests, one response.
    ClientStream,
    /// Many of both.
    BidiStream,
}

impl MethodKind {
    fn label(self) -> &'static str {
        match self {
            MethodKind::Unary => "unary",
            MethodKind::ServerStream => "server_stream",
            MethodKind::ClientStream => "client_stream",
            MethodKind::BidiStream => "bidi_stream",
        }
    }
}

/// A row of the table of methods.
#[derive(Clone, Copy, Debug)]
pub struct GrpcMethod {
    /// Full name, such as `etcdserverpb.KV`.
    pub service: &'static str,
    /// Such as `Range`.
    pub method: &'static str,
    /// Streaming.
    pub kind: MethodKind,
}

/// Names of gRPC codes by number, as Go spells them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The number of `Unknown`, which an unknown code is counted as.
const UNKNOWN: usize = 2;

/// The series of one method.
#[derive(Debug)]
pub struct MethodSeries {
    row: GrpcMethod,
    /// Calls begun.
    pub started: Counter,
    /// Messages that came.
    pub received: Counter,
    /// Messages that went.
    pub sent: Counter,
    handled: [Counter; CODES.len()],
    handling: Option<Histogram>,
}

impl MethodSeries {
    /// Counts the end of a call with this code.
    pub fn handled(&self, code: usize) {
        let counter = self.handled.get(code).or(self.handled.get(UNKNOWN));
        counter.expect("Unknown is a code").increment();
    }

    /// Whether durations are wanted (`--metrics=extensive`).
    pub fn is_timed(&self) -> bool {
        self.handling.is_some()
    }

    /// Counts the duration of a call, if durations are wanted.
    pub fn observe(&self, duration: Duration) {
        if let Some(handling) = &self.handling {
            handling.observe_seconds(duration);
        }
    }

    /// Whether the call counts as `stream` in `etcd_server_client_requests_total`.
    pub fn is_streaming(&self) -> bool {
        self.row.kind != MethodKind::Unary
    }

    /// etcd registers its lock and election services after the series are made, so theirs come with
    /// the first call.
    fn is_listed(&self) -> bool {
        self.row.service.starts_with("etcdserverpb.")
            || self.row.service.starts_with("grpc.")
            || self.started.get() > 0
    }

    fn labels(&self) -> [(&'static str, &'static str); 3] {
        let GrpcMethod {
            service,
            method,
            kind,
        } = self.row;
        [
            ("grpc_method", method),
            ("grpc_service", service),
            ("grpc_type", kind.label()),
        ]
    }
}

/// The series of all methods.
#[derive(Debug)]
pub struct GrpcMetrics {
    /// By method, then service: the order of the page.
    methods: Vec<MethodSeries>,
    by_path: HashMap<String, usize>,
    services: Vec<&'static str>,
}

impl GrpcMetrics {
    pub(super) fn new(rows: &[GrpcMethod], extensive: bool) -> GrpcMetrics {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| (row.method, row.service));
        let bounds = [
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        let series = |row: &GrpcMethod| MethodSeries {
            row: *row,
            started: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            handled: std::array::from_fn(|_| Counter::default()),
            handling: extensive.then(|| Histogram::with_bounds(bounds.to_vec())),
        };
        let path = |row: &GrpcMethod| format!("/{}/{}", row.service, row.method);
        let by_path: HashMap<String, usize> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| (path(row), place))
            .collect();
        assert_eq!(by_path.len(), rows.len(), "a method is listed once");
        let services = rows.iter().map(|row| row.service).collect();
        GrpcMetrics {
            methods: rows.iter().map(series).collect(),
            by_path,
            services,
        }
    }

    /// Where the method of a path stands; None when there is no such method.
    pub fn place(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// The series at a place that `place` gave.
    pub fn at(&self, place: usize) -> &MethodSeries {
        self.methods
            .get(place)
            .expect("a place comes from the same table")
    }

    /// Whether any method of the service is served.
    pub fn has_service(&self, service: &str) -> bool {
        self.services.contains(&service)
    }

    pub(super) fn write(&self, page: &mut Page) {
        let listed: Vec<&MethodSeries> = self
            .methods
            .iter()
            .filter(|series| series.is_listed())
            .collect();
        if listed.is_empty() {
            return;
        }
        type Pick = fn(&MethodSeries) -> &Counter;
        let simple: [(&str, &str, Pick); 3] = [
            (
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                |series| &series.started,
            ),
            (
                "grpc_server_msg_received_total",
                "Total number of RPC stream messages received on the server.",
                |series| &series.received,
            ),
            (
                "grpc_server_msg_sent_total",
                "Total number of gRPC stream messages sent by the server.",
                |series| &series.sent,
            ),
        ];
        for (name, help, pick) in simple {
            let mut family = page.family(name, help, "counter");
            for series in &listed {
                family.count(&series.labels(), pick(series).get());
            }
        }
        let mut codes: Vec<(usize, &str)> = CODES.into_iter().enumerate().collect();
        codes.sort_by_key(|(_, name)| *name);
        let help =
            "Total number of RPCs completed on the server, regardless of success or failure.";
        let mut family = page.family("grpc_server_handled_total", help, "counter");
        for (code, name) in codes {
            for series in &listed {
                let [method, service, kind] = series.labels();
                let counter = series.handled.get(code).expect("one counter per code");
                family.count(&[("grpc_code", name), method, service, kind], counter.get());
            }
        }
        if listed.iter().any(|series| series.is_timed()) {
            let help = "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.";
            let mut family = page.family("grpc_server_handling_seconds", help, "histogram");
            for series in &listed {
                if let Some(handling) = &series.handling {
                    family.histogram(&series.labels(), handling);
                }
            }
        }
    }
}
