//! Lines about memory: readers that stop half-way, many overwrites, and rest.

use std::time::Duration;

use super::closed_loop::{self, Client};
use super::reads;
use super::session::Session;
use super::table::List;
use super::writes;
use crate::connection::{Connection, Reading};
use crate::failure::Failure;
use crate::measurement::{Measurement, Meter, Tally};

/// Readers that stop half-way, half of them unary ones.
const READERS: usize = 16;
/// Clients of the overwrites.
const OVERWRITE_CLIENTS: usize = 256;
/// How long a server may settle before its memory at rest is read.
const REST: Duration = Duration::from_secs(10);

/// 16 readers begin a list of all objects on connections of their own, stop when they have half
/// of it and stay for the line's length.
pub async fn stopped_readers(
    session: &mut Session,
    line: &'static str,
) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let half = session.settings.objects * session.settings.value_bytes as u64 / 2;
    let meter = Meter::start(&session.observed)?;
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..READERS {
        let endpoint = session.endpoint().to_owned();
        let list = if number % 2 == 0 {
            List::Unary
        } else {
            List::Stream
        };
        readers.spawn(async move {
            let connection = Connection::open(&endpoint).await?;
            let (method, request) = reads::whole_list(list);
            let mut reading = connection.read(method, request).await?;
            reading.read_up_to(half).await?;
            Ok::<(Connection, Reading), Failure>((connection, reading))
        });
    }
    let mut held = Vec::new();
    let mut tally = Tally::default();
    while let Some(ended) = readers.join_next().await {
        held.push(ended.expect("a reader does not panic")?);
        tally.operations += 1;
    }
    tokio::time::sleep(session.settings.length).await;
    let measurement = meter.finish(line, &tally);
    drop(held);
    Ok(measurement)
}

/// Puts over few keys until so many were done.
pub async fn overwrites(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    session.need_keys().await?;
    let clients = writes::put_clients(session, OVERWRITE_CLIENTS);
    let share = session
        .settings
        .overwrites
        .div_ceil(OVERWRITE_CLIENTS as u64);
    let clients = clients
        .into_iter()
        .map(|client| Counted {
            client,
            left: share,
        })
        .collect();
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run_until_done(clients).await;
    let mut measurement = meter.finish(line, &tally);
    tokio::time::sleep(REST).await;
    measurement.rest_resident_bytes = session.resident_bytes();
    Ok(measurement)
}

struct Counted<C> {
    client: C,
    left: u64,
}

impl<C: Client> Client for Counted<C> {
    async fn step(&mut self) -> Result<u64, Failure> {
        self.left = self.left.saturating_sub(1);
        self.client.step().await
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }
}

/// Nothing for a while; the peak is that of all lines of the stage.
pub async fn idle(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let meter = Meter::start(&session.observed)?;
    tokio::time::sleep(REST).await;
    let tally = Tally {
        operations: 1,
        ..Tally::default()
    };
    let mut measurement = meter.finish(line, &tally);
    measurement.rest_resident_bytes = session.resident_bytes();
    session.saw_peak(measurement.peak_resident_bytes);
    measurement.peak_resident_bytes = session.peak();
    Ok(measurement)
}
