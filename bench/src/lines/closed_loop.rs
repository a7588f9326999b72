//! Clients that each have one operation in flight: the next begins when the last was answered.
//!
//! Invariant: an operation that failed is counted as an error and enters neither the rate nor the
//! latencies. Limit: a client gives up after [`ERRORS_MAX`] failures.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::measurement::Tally;

/// A client that fails so often has nothing more to tell.
const ERRORS_MAX: u64 = 20;
/// Pause of a client after a failure, so that a dead server is not hammered.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// One client; its state between operations.
pub trait Client: Send + 'static {
    /// Performs one call, and returns for how many operations it counts.
    fn step(&mut self) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// Runs all clients for `length`; an operation that has begun by then is waited for.
pub async fn run<C: Client>(clients: Vec<C>, length: Duration) -> Tally {
    let end = Instant::now() + length;
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(run_client(client, end)))
        .collect();
    let mut tally = Tally::default();
    for task in tasks {
        tally.merge(task.await.expect("a client does not panic"));
    }
    tally
}

async fn run_client(mut client: impl Client, end: Instant) -> Tally {
    let mut tally = Tally::default();
    loop {
        let begin = Instant::now();
        if begin >= end || tally.errors >= ERRORS_MAX {
            return tally;
        }
        match client.step().await {
            Ok(operations) => {
                tally.latencies.record(begin.elapsed());
                tally.operations += operations;
            }
            Err(failure) => {
                tally.fail(&failure);
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}
