//! Incremental index checkpoints, cold values and the manifest, the one commit point.
