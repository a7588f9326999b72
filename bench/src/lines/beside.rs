//! Puts by one client while the server has other work: lists of all objects, or handshakes.
//!
//! Invariant: the other work took place, or the line is an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;

use super::background::{Background, Stop};
use super::closed_loop;
use super::reads;
use super::session::Session;
use super::table::List;
use super::writes;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::measurement::{Measurement, Meter};

/// How many times the length of other lines the puts run: the tail needs many of them.
const LENGTHS: u32 = 2;
/// Handshakes begun in a second.
const HANDSHAKES_PER_SECOND: u32 = 500;
/// Handshakes under way at once; a server that needs more is too slow for the rate.
const HANDSHAKES_MAX: usize = 64;
/// The share of the rate that must be reached.
const HANDSHAKES_REACHED: f64 = 0.9;

/// Puts while another connection reads lists of all objects, one after the other.
pub async fn put_listing(
    session: &mut Session,
    line: &'static str,
) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let endpoint = session.endpoint().to_owned();
    let objects = session.settings.objects;
    let lists = move |stop: Stop| -> std::pin::Pin<Box<dyn Future<Output = _>>> {
        Box::pin(async move {
            let connection = Connection::open(&endpoint).await?;
            let mut done = 0;
            while !stop.is_set() {
                // In turn, as an apiserver of an older and of a newer release reads.
                let list = if done % 2 == 0 {
                    List::Unary
                } else {
                    List::Stream
                };
                reads::list_once(&connection, list, objects).await?;
                done += 1;
            }
            Ok(done)
        })
    };
    let (measurement, lists) = put_beside(session, line, lists).await?;
    if lists == 0 {
        return Err(Failure::Wrong(
            "no list was read beside the puts".to_owned(),
        ));
    }
    Ok(measurement)
}

/// Puts while 500 connections a second are opened with TLS and closed.
pub async fn put_handshakes(
    session: &mut Session,
    line: &'static str,
) -> Result<Measurement, Failure> {
    let (address, connector) = session.tls()?;
    let handshakes = move |stop: Stop| -> std::pin::Pin<Box<dyn Future<Output = _>>> {
        Box::pin(handshakes(stop, address, connector))
    };
    let begin = Instant::now();
    let (measurement, done) = put_beside(session, line, handshakes).await?;
    let due = begin.elapsed().as_secs_f64() * f64::from(HANDSHAKES_PER_SECOND);
    if (done as f64) < due * HANDSHAKES_REACHED {
        return Err(Failure::Wrong(format!(
            "only {done} of {due:.0} handshakes took place"
        )));
    }
    Ok(measurement)
}

async fn handshakes(stop: Stop, address: String, connector: TlsConnector) -> Result<u64, Failure> {
    let mut ticks = interval(Duration::from_secs(1) / HANDSHAKES_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let address: Arc<str> = address.into();
    let mut running = JoinSet::new();
    let mut done = 0;
    while !stop.is_set() {
        ticks.tick().await;
        while running.len() >= HANDSHAKES_MAX {
            done += finished(running.join_next().await)?;
        }
        running.spawn(handshake(Arc::clone(&address), connector.clone()));
        while let Some(ended) = running.try_join_next() {
            done += finished(Some(ended))?;
        }
    }
    while let Some(ended) = running.join_next().await {
        done += finished(Some(ended))?;
    }
    Ok(done)
}

type Ended = Option<Result<Result<(), Failure>, tokio::task::JoinError>>;

fn finished(ended: Ended) -> Result<u64, Failure> {
    match ended {
        Some(result) => result.expect("a handshake does not panic").map(|()| 1),
        None => Ok(0),
    }
}

/// One full handshake; the client's half ends before the server's, which is ended by the close.
async fn handshake(address: Arc<str>, connector: TlsConnector) -> Result<(), Failure> {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(&*address).await?;
    drop(connector.connect(name, stream).await?);
    Ok(())
}

async fn put_beside(
    session: &mut Session,
    line: &'static str,
    work: impl FnOnce(Stop) -> std::pin::Pin<Box<dyn Future<Output = Result<u64, Failure>>>>
    + Send
    + 'static,
) -> Result<(Measurement, u64), Failure> {
    session.need_keys().await?;
    let client = writes::one_client(session);
    let background = Background::start(work)?;
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(vec![client], session.settings.length * LENGTHS).await;
    let measurement = meter.finish(line, &tally);
    Ok((measurement, background.end()?))
}
