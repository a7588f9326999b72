//! The watch fan-out: one shared ring of events, cursors instead of queues.
//!
//! The core loop publishes each applied group to the [`Hub`]; a stream (one task
//! for each Watch call, on the connection's runtime) holds a position and reads
//! the ring from there; what has left the ring it reads from history through the
//! core. Nothing is dropped, memory is bounded by the ring, and the core never
//! waits for a reader.

mod catch_up;
mod cursor;
mod deliver;
mod encode;
mod gauges;
mod hub;
mod range_index;
mod ring;
mod stream;
mod watchers;

pub use hub::{Hub, Signal};
pub use stream::{StreamOptions, serve};
