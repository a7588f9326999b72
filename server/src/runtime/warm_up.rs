//! Brings newest values into memory after a start, behind the serving: until
//! then reads fetch from the disk what they need.
//!
//! A task of its own. Limits: [`WARM_SLICE_RECORDS`] values at a time.

use bytes::Bytes;
use storage::error::Fatal;
use storage::types::{RecordMeta, Revision};

use super::die;
use super::handle::Handle;
use super::limits::WARM_SLICE_RECORDS;

/// Runs until every newest value is in memory, or the member stops.
pub async fn run(handle: Handle) {
    let started = std::time::Instant::now();
    let mut after = Revision::default();
    let mut count = 0_usize;
    loop {
        let Ok((missing, next)) = handle.missing_values(after, WARM_SLICE_RECORDS).await else {
            return;
        };
        count += missing.len();
        if !missing.is_empty() {
            let values = handle.values().clone();
            let fetch = move || {
                let fetch = |meta: RecordMeta| Ok((meta.revision, values.fetch(&meta)?));
                missing
                    .into_iter()
                    .map(fetch)
                    .collect::<Result<Vec<(Revision, Bytes)>, Fatal>>()
            };
            match tokio::task::spawn_blocking(fetch).await {
                Ok(Ok(fetched)) => handle.install_values(fetched).await,
                Ok(Err(fatal)) => die(&fatal),
                Err(_) => return,
            }
        }
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    if count > 0 {
        tracing::info!(values = count, took = ?started.elapsed(), "all newest values are in memory");
    }
}
