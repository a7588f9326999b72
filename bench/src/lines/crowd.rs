//! Puts, and the way from a put to its event, while many watchers look at other prefixes.
//!
//! Invariant: the crowd sees no event; what it watches is never written.

use super::closed_loop;
use super::session::Session;
use super::table::GROWTH_CLIENTS;
use super::watches;
use super::writes;
use crate::failure::Failure;
use crate::measurement::{Measurement, Meter};
use crate::objects;

/// Watchers on one stream of the crowd.
const STREAM_WATCHERS: u64 = 1_000;

/// Opens watches until there are so many.
async fn gather(session: &mut Session, watchers: u64) -> Result<(), Failure> {
    while (session.crowd.len() as u64) * STREAM_WATCHERS < watchers {
        let place = session.crowd.len();
        let first = place as u64 * STREAM_WATCHERS;
        let prefixes: Vec<String> = (first..first + STREAM_WATCHERS)
            .map(|number| objects::prefix(&format!("crowd-{number:06}")))
            .collect();
        let stream = watches::watch_all(&session.connection(place), &prefixes).await?;
        session.crowd.push(stream);
    }
    Ok(())
}

/// Puts by 16 clients.
pub async fn put(
    session: &mut Session,
    line: &'static str,
    watchers: u64,
) -> Result<Measurement, Failure> {
    gather(session, watchers).await?;
    session.need_keys().await?;
    let clients = writes::put_clients(session, GROWTH_CLIENTS);
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(clients, session.settings.length).await;
    Ok(meter.finish(line, &tally))
}

/// From a put to its event.
pub async fn latency(
    session: &mut Session,
    line: &'static str,
    watchers: u64,
) -> Result<Measurement, Failure> {
    gather(session, watchers).await?;
    watches::latency(session, line).await
}
