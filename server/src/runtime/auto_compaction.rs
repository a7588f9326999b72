//! Auto-compaction, as etcd does it (contract 8): periodic by time, or to a
//! number of revisions behind the current one. A task of its own; it only asks
//! the core loop for what any client may ask.

use std::collections::VecDeque;
use std::time::Duration;

use storage::apply::command::Command;

use super::handle::Handle;
use crate::config::AutoCompaction;

/// How often the revision mode looks (contract 8).
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The longest interval between two periodic compactions.
const PERIODIC_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Samples taken in one periodic interval.
const SAMPLES_PER_INTERVAL: u32 = 10;

/// Runs until the member stops.
pub async fn run(handle: Handle, mode: AutoCompaction) {
    let compactor = async {
        match mode {
            AutoCompaction::Off => std::future::pending().await,
            AutoCompaction::Periodic(retention) => periodic(&handle, retention).await,
            AutoCompaction::Revision(retention) => by_revision(&handle, retention).await,
        }
    };
    tokio::select! {
        () = compactor => {}
        () = handle.stopped() => {}
    }
}

async fn periodic(handle: &Handle, retention: Duration) {
    let interval = retention.min(PERIODIC_INTERVAL_MAX);
    let sample = interval / SAMPLES_PER_INTERVAL;
    let samples_max = usize::try_from(retention.as_nanos() / sample.as_nanos().max(1))
        .expect("a retention of years has fewer samples");
    let mut revisions = VecDeque::new();
    let mut since_compaction = 0;
    loop {
        tokio::time::sleep(sample).await;
        revisions.push_back(handle.view().revision());
        since_compaction += 1;
        if revisions.len() <= samples_max {
            continue;
        }
        let oldest = revisions.pop_front().expect("more than none are held");
        if since_compaction >= SAMPLES_PER_INTERVAL {
            compact(handle, oldest).await;
            since_compaction = 0;
        }
    }
}

async fn by_revision(handle: &Handle, retention: i64) {
    loop {
        tokio::time::sleep(REVISION_INTERVAL).await;
        compact(handle, handle.view().revision() - retention).await;
    }
}

async fn compact(handle: &Handle, revision: i64) {
    let view = handle.view();
    let led_here = view.leader() == Some(view.identity().member_id);
    if revision <= view.compacted_revision().max(0) || !led_here {
        return;
    }
    tracing::info!(revision, "starting auto compaction");
    if let Err(rejected) = handle.propose(Command::Compact { revision }).await {
        tracing::warn!(
            revision,
            ?rejected,
            "auto compaction was refused; trying again later"
        );
    }
}
