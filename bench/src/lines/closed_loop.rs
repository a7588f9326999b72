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

    /// Whether it has done all that it was to do; most clients go on until the time is over.
    fn is_done(&self) -> bool {
        false
    }
}

/// Runs all clients for `length`; an operation that has begun by then is waited for.
pub async fn run<C: Client>(clients: Vec<C>, length: Duration) -> Tally {
    run_until(clients, Some(Instant::now() + length)).await
}

/// Runs all clients until each is done.
pub async fn run_until_done<C: Client>(clients: Vec<C>) -> Tally {
    run_until(clients, None).await
}

async fn run_until<C: Client>(clients: Vec<C>, end: Option<Instant>) -> Tally {
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

async fn run_client(mut client: impl Client, end: Option<Instant>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let begin = Instant::now();
        let is_over = end.is_some_and(|end| begin >= end) || client.is_done();
        if is_over || tally.errors >= ERRORS_MAX {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every second call fails.
    struct Flaky {
        calls: u64,
    }

    impl Client for Flaky {
        async fn step(&mut self) -> Result<u64, Failure> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(Failure::Wrong(format!("call {}", self.calls)));
            }
            Ok(1)
        }

        fn is_done(&self) -> bool {
            self.calls >= 10
        }
    }

    fn run_flaky(clients: u64, calls: u64) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let clients = (0..clients).map(|_| Flaky { calls }).collect();
        runtime.block_on(run_until_done(clients))
    }

    #[test]
    fn a_failed_call_is_an_error_and_no_operation() {
        let tally = run_flaky(3, 0);
        assert_eq!((tally.operations, tally.errors), (15, 15));
        assert_eq!(tally.latencies.count(), 15);
        assert_eq!(tally.first_error.as_deref(), Some("wrong answer: call 2"));
    }

    #[test]
    fn clients_that_are_done_give_nothing() {
        let tally = run_flaky(2, 10);
        assert_eq!((tally.operations, tally.errors), (0, 0));
    }
}
