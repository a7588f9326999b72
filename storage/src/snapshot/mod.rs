//! The bolt file format: writer and reader.
