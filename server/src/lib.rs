//! Time, network and processes around the storage crate.
