//! The Raft log: group-committed, zero-filled, recycled segments that stay the home of values.
