//! The gRPC side of the wire, as far as a server needs it: length-prefixed
//! messages in, length-prefixed messages and trailers out (contract 1.17).
//!
//! Answers of any size leave as HTTP bodies of our own, so that a large list
//! costs no buffer of its size; small ones take the same short way. Nothing in
//! here knows etcd but `lenient`, which reads the descriptors, and `nested_txn`.

mod body;
mod chunk;
mod frames;
mod gzip;
mod lenient;
mod nested_txn;

pub use body::{AnswerBody, BODY_CHUNK_BYTES, BodySender, Closed, empty_status, streaming, unary};
pub use chunk::{Chunk, Pieces};
pub use frames::{
    DRAIN_TIMEOUT, FRAME_HEADER_BYTES, Incoming, MessageStream, frame_header, frame_message,
    read_one, read_unary,
};
pub use gzip::{deflated, is_gzip};
