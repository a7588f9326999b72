//! The wish to stop, carried from whoever has it to everyone who must act on it.
//!
//! The trigger is held by the signal listener; every part of the server awaits its own clone of
//! [`Shutdown`]. Invariant: the first cause given stays the cause. Limits: none.

use tokio::sync::watch;

/// Why the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// Nobody is left who could ask for a stop, or an embedding program asked.
    Requested,
}

/// Asks for the stop. When it is dropped without having asked, the server stops as well.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Option<StopCause>>);

/// Learns of the stop.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Option<StopCause>>);

/// A trigger and what it triggers.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Asks for the stop; the first cause stays.
    pub fn request(&self, cause: StopCause) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(cause);
            }
            first
        });
    }
}

impl Shutdown {
    /// Returns once the stop was asked for, at once if it was before.
    pub async fn requested(&self) -> StopCause {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await {
            Ok(cause) => cause.unwrap_or(StopCause::Requested),
            Err(_) => StopCause::Requested,
        }
    }

    /// The cause, once there is one.
    pub fn cause(&self) -> Option<StopCause> {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_stays() {
        let (trigger, shutdown) = channel();
        assert_eq!(shutdown.cause(), None);
        trigger.request(StopCause::Interrupt);
        trigger.request(StopCause::Terminate);
        assert_eq!(shutdown.requested().await, StopCause::Interrupt);
        assert_eq!(shutdown.clone().requested().await, StopCause::Interrupt);
    }

    #[tokio::test]
    async fn a_dropped_trigger_stops_too() {
        let (trigger, shutdown) = channel();
        drop(trigger);
        assert_eq!(shutdown.requested().await, StopCause::Requested);
    }
}
