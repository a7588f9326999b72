//! A real kube-apiserver on the store: pods are created and deleted and node leases renewed
//! through it, as fast as it goes.
//!
//! Invariant: an answer other than success is an error; every renewal changes the lease, so that
//! it reaches the store. Limit: nothing else runs, so a pod without a node is deleted at once.

mod apiserver;
mod client;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use self::apiserver::Apiserver;
use self::client::KubeClient;
use super::closed_loop::{self, Client};
use super::session::Session;
use crate::failure::Failure;
use crate::measurement::{Measurement, Meter};
use crate::procfs;

/// Clients, each with one request in flight.
const WORKERS: usize = 32;
/// Connections that they share.
const CONNECTIONS: usize = 8;
/// Namespaces of the pods.
const NAMESPACES: usize = 8;
/// Node leases of each client, all renewed between the begin and the end of a pod.
const LEASES: usize = 4;
/// How many times the length of other lines the run lasts.
const LENGTHS: u32 = 4;
/// Fills a pod to about 4 KiB, the smallest size that is quoted for real ones.
const PADDING_BYTES: usize = 3_072;
const LEASE_PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Runs the apiserver on the session's store, and the clients against it.
pub async fn run(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    let missing = || Failure::Refused("give --apiserver with a kube-apiserver".to_owned());
    let binary = session.settings.apiserver.clone().ok_or_else(missing)?;
    let apiserver = Apiserver::start(&binary, session.endpoint(), &session.home()?).await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(apiserver.connect().await?);
    }
    let first = connections.first().expect("there are connections");
    for number in 0..NAMESPACES {
        let body = json!({"metadata": {"name": namespace(number)}});
        first
            .call(Method::POST, "/api/v1/namespaces", Some(&body))
            .await?;
    }
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let connection = connections.get(number % CONNECTIONS).cloned();
        workers.push(Worker::new(number, connection.expect("a place below the count")).await?);
    }
    let before = procfs::cpu(apiserver.pid())?;
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(workers, session.settings.length * LENGTHS).await;
    let mut measurement = meter.finish(line, &tally);
    let taken = procfs::cpu(apiserver.pid())?.saturating_sub(before);
    measurement.apiserver_cpu_us = Some(taken.as_secs_f64() * 1e6);
    Ok(measurement)
}

fn namespace(number: usize) -> String {
    format!("bench-{}", number % NAMESPACES)
}

/// One client: creates a pod, renews its leases, deletes the pod, and begins anew.
struct Worker {
    client: KubeClient,
    number: usize,
    pods: String,
    /// Resource versions of the leases.
    leases: Vec<String>,
    calls: usize,
}

impl Worker {
    async fn new(number: usize, client: KubeClient) -> Result<Worker, Failure> {
        let mut worker = Worker {
            client,
            number,
            pods: format!("/api/v1/namespaces/{}/pods", namespace(number)),
            leases: Vec::new(),
            calls: 0,
        };
        for place in 0..LEASES {
            let body = worker.lease(place, None);
            let lease = worker
                .client
                .call(Method::POST, LEASE_PATH, Some(&body))
                .await?;
            worker.leases.push(resource_version(&lease)?);
        }
        Ok(worker)
    }

    fn node(&self, place: usize) -> String {
        format!("node-{}", self.number * LEASES + place)
    }

    fn lease(&self, place: usize, version: Option<&str>) -> Value {
        let name = self.node(place);
        let mut metadata = json!({"name": name, "namespace": "kube-node-lease"});
        if let (Some(version), Some(object)) = (version, metadata.as_object_mut()) {
            object.insert("resourceVersion".to_owned(), version.into());
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": name, "leaseDurationSeconds": 40,
                "renewTime": renew_time(self.calls),
            },
        })
    }

    fn pod(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "labels": {"app": "bench", "worker": self.number.to_string()},
                "annotations": {"bench/padding": "x".repeat(PADDING_BYTES)},
            },
            "spec": {"containers": [{"name": "main", "image": "registry.example/bench:1"}]},
        })
    }
}

impl Client for Worker {
    async fn step(&mut self) -> Result<u64, Failure> {
        let calls = LEASES + 2;
        let pod = format!("bench-{}-{}", self.number, self.calls / calls);
        let turn = self.calls % calls;
        self.calls += 1;
        if turn == 0 {
            let body = self.pod(&pod);
            self.client
                .call(Method::POST, &self.pods, Some(&body))
                .await?;
        } else if turn <= LEASES {
            let place = turn - 1;
            let known = self.leases.get(place).map(String::as_str);
            let (body, path) = (
                self.lease(place, known),
                format!("{LEASE_PATH}/{}", self.node(place)),
            );
            let renewed = self.client.call(Method::PUT, &path, Some(&body)).await?;
            if let Some(known) = self.leases.get_mut(place) {
                *known = resource_version(&renewed)?;
            }
        } else {
            let path = format!("{}/{pod}?gracePeriodSeconds=0", self.pods);
            self.client.call(Method::DELETE, &path, None).await?;
        }
        Ok(1)
    }
}

/// A time that differs from call to call.
fn renew_time(calls: usize) -> String {
    let (seconds, micros) = (calls / 1_000_000, calls % 1_000_000);
    format!(
        "2026-01-01T{:02}:00:{:02}.{micros:06}Z",
        seconds / 60 % 24,
        seconds % 60
    )
}

fn resource_version(object: &Bytes) -> Result<String, Failure> {
    let object: Value = serde_json::from_slice(object)
        .map_err(|error| Failure::Wrong(format!("no JSON: {error}")))?;
    let version = object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str);
    let missing = || Failure::Wrong("an object without a resource version".to_owned());
    version.map(str::to_owned).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_renewals_differ() {
        assert_eq!(renew_time(7), "2026-01-01T00:00:00.000007Z");
        assert_eq!(renew_time(61_000_000), "2026-01-01T01:00:01.000000Z");
    }

    #[test]
    fn a_version_is_read_or_missed() {
        let lease = Bytes::from_static(br#"{"metadata":{"resourceVersion":"12"}}"#);
        assert_eq!(resource_version(&lease).unwrap(), "12");
        assert!(resource_version(&Bytes::from_static(b"{}")).is_err());
        assert!(resource_version(&Bytes::from_static(b"<html>")).is_err());
    }
}
