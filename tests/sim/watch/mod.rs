//! Watch streams in the simulation: the production ring, hub, cursors and index of
//! key intervals, compiled here from the same source, and a stream that uses them
//! as `server/src/watch/stream.rs` does, one step at a time.

#[path = "../../../server/src/watch/cursor.rs"]
mod cursor;
#[path = "../../../server/src/watch/hub.rs"]
#[allow(dead_code, reason = "nobody waits for a bell here")]
mod hub;
#[path = "../../../server/src/watch/range_index.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
mod range_index;
#[path = "../../../server/src/watch/ring.rs"]
mod ring;
mod stream;
#[path = "../../../server/src/watch/watchers.rs"]
#[allow(dead_code, reason = "the simulation uses a part")]
mod watchers;

pub use hub::Hub;
pub use stream::{Message, Stream};
