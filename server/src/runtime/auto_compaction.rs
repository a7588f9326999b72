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

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::Receiver;
    use tokio::time::Instant;

    use super::*;
    use crate::engine::Rejected;
    use crate::runtime::handle::tests::handle;
    use crate::runtime::shell::Request;

    /// The next compaction that is asked for, which is refused, and when it was.
    async fn asked(requests: &mut Receiver<Request>, began: Instant) -> (i64, Duration) {
        let Some(Request::Propose { command, reply }) = requests.recv().await else {
            panic!("a command is proposed");
        };
        let Command::Compact { revision } = command else {
            panic!("a compaction is asked for: {command:?}");
        };
        reply.send(Err(Rejected::TooManyRequests)).unwrap();
        (revision, began.elapsed())
    }

    /// On tokio's paused clock, whose sleeps end some milliseconds late.
    fn close_to(elapsed: Duration, wanted: Duration) -> bool {
        elapsed >= wanted && elapsed < wanted + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn by_revision_every_five_minutes() {
        let (handle, mut requests, _stop) = handle();
        handle.view().pretend(1_000, -1);
        let began = Instant::now();
        tokio::spawn(run(handle.clone(), AutoCompaction::Revision(100)));
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let (revision, elapsed) = asked(&mut requests, began).await;
        assert!(close_to(elapsed, minutes(5)), "{elapsed:?}");
        assert_eq!(revision, 900);
        // It was refused: the next one is tried in its turn.
        handle.view().pretend(1_001, -1);
        let (revision, elapsed) = asked(&mut requests, began).await;
        assert!(close_to(elapsed, minutes(10)), "{elapsed:?}");
        assert_eq!(revision, 901);
        // Nothing is new for two turns, and then something is.
        handle.view().pretend(1_001, 901);
        tokio::time::sleep(minutes(12)).await;
        assert!(requests.is_empty(), "nothing to compact");
        handle.view().pretend(1_500, 901);
        let (revision, elapsed) = asked(&mut requests, began).await;
        assert!(close_to(elapsed, minutes(25)), "{elapsed:?}");
        assert_eq!(revision, 1_400);
    }

    /// etcd's: the first after one retention, to the revision of its beginning; the next
    /// an hour later at most.
    #[tokio::test(start_paused = true)]
    async fn by_time_to_what_was_current_then() {
        let (handle, mut requests, _stop) = handle();
        handle.view().pretend(10, -1);
        let began = Instant::now();
        let retention = Duration::from_secs(2 * 3600);
        tokio::spawn(run(handle.clone(), AutoCompaction::Periodic(retention)));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        handle.view().pretend(20, -1);
        let (revision, elapsed) = asked(&mut requests, began).await;
        assert!(elapsed >= retention, "{elapsed:?}");
        assert!(elapsed < retention + Duration::from_secs(10 * 60));
        assert_eq!(revision, 10);
        handle.view().pretend(30, 10);
        let (revision, next) = asked(&mut requests, began).await;
        assert!(close_to(next - elapsed, Duration::from_secs(3600)));
        assert_eq!(revision, 20);
    }
}
