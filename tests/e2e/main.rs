//! The real process from outside: killed, stopped, refused, and read by clients that stop
//! reading. Everything goes through loopback and the generated client stubs.

mod campaign;
mod client;
mod content;
mod history;
mod kill;
mod lifecycle;
mod load;
mod methods;
mod process;
mod slow_reader;
