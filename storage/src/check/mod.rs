//! Verifies a whole data directory offline.
