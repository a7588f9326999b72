//! Members as their clients and their supervisors meet them: over every kind of
//! socket, from start to stop (contract 3, 4, 6).

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod client;
mod edges;
mod lifecycle;
mod limits;
mod metrics;
mod requests;
mod running;
mod stopped_readers;
mod transactions;
mod transports;
