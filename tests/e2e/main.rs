//! The real process from outside: killed, stopped, refused, and read by clients that stop
//! reading. Everything goes through loopback and the generated client stubs.

#[cfg(test)]
mod campaign;
#[cfg(test)]
mod client;
#[cfg(test)]
mod content;
#[cfg(test)]
mod history;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod load;
#[cfg(test)]
mod methods;
#[cfg(test)]
mod process;
#[cfg(test)]
mod slow_reader;
