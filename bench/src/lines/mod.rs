//! The lines of the bench: each one kind of work, run against one store.
//!
//! Invariants: a line prepares what it needs before its meter starts; a line that outlives its
//! limit is an error, never a hang.

mod background;
mod beside;
mod closed_loop;
mod crowd;
mod kube;
mod leases;
mod memory;
mod reads;
mod session;
mod table;
mod watches;
mod writes;

pub use session::{Session, Settings};
#[cfg(test)]
pub use table::named;
pub use table::{Group, LINES, Line, Stage, Work, select};
pub use writes::puts;

use std::time::Duration;

use crate::failure::Failure;
use crate::measurement::Measurement;

/// A line may take its measured time and this much more to prepare and to finish.
const GRACE: Duration = Duration::from_secs(300);
/// The same for lines that write millions of keys.
const HEAVY_GRACE: Duration = Duration::from_secs(3_600);

/// Runs one line. What goes wrong becomes part of the measurement.
pub async fn run(session: &mut Session, line: Line) -> Measurement {
    let settings = &session.settings;
    let limit = match line.stage.group() {
        Group::Standard | Group::Kube => GRACE + settings.length,
        Group::Heavy | Group::Growth => HEAVY_GRACE + settings.length + settings.sustained,
    };
    let result = match tokio::time::timeout(limit, measure(session, line)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Wrong(format!(
            "not done after {} s",
            limit.as_secs()
        ))),
    };
    let measurement = result.unwrap_or_else(|failure| Measurement::failed(line.name, &failure));
    session.saw_peak(measurement.peak_resident_bytes);
    measurement
}

async fn measure(session: &mut Session, line: Line) -> Result<Measurement, Failure> {
    let name = line.name;
    match line.work {
        Work::StartEmpty => session.start_empty(name).await,
        Work::Restart => session.restart(name).await,
        Work::Put { clients } => writes::put(session, name, clients).await,
        Work::Transaction { clients } => writes::transaction(session, name, clients).await,
        Work::PutOverHistory { compacting } => {
            writes::put_over_history(session, name, compacting).await
        }
        Work::PutSustained => writes::put_sustained(session, name).await,
        Work::PutListing => beside::put_listing(session, name).await,
        Work::PutHandshakes => beside::put_handshakes(session, name).await,
        Work::Load => writes::load(session, name).await,
        Work::Overwrites => memory::overwrites(session, name).await,
        Work::Get {
            clients,
            serializable,
        } => reads::get(session, name, clients, serializable).await,
        Work::GetObjects => reads::get_objects(session, name).await,
        Work::List(list) => reads::list(session, name, list).await,
        Work::Page => reads::page(session, name).await,
        Work::StoppedReaders => memory::stopped_readers(session, name).await,
        Work::Namespace { clients } => reads::namespace(session, name, clients).await,
        Work::Count => reads::count(session, name).await,
        Work::KeepAlive => leases::keep_alive(session, name).await,
        Work::FanOut { streams } => watches::fan_out(session, name, streams).await,
        Work::WatchLatency => watches::latency(session, name).await,
        Work::Kube => kube::run(session, name).await,
        Work::Idle => memory::idle(session, name).await,
        Work::PutCrowded { watchers } => crowd::put(session, name, watchers).await,
        Work::WatchCrowded { watchers } => crowd::latency(session, name, watchers).await,
    }
}
