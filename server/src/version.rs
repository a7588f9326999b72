//! The versions this server speaks: the etcd release whose contract it honours, and its own.
//!
//! Clients gate features on the etcd version (contract 5.5), so it stays a plain
//! `major.minor.patch`. Limits: none.

/// The etcd release spoken: `Status.version`, `/version`, the first line of `--version`.
pub const ETCD_VERSION: &str = "3.7.3";

/// The cluster version of a cluster whose members all speak [`ETCD_VERSION`].
pub const CLUSTER_VERSION: &str = "3.7.0";

/// The storage version reported by `Status` once the cluster version is known.
pub const STORAGE_VERSION: &str = "3.7.0";

/// The version of Sternpost itself.
pub const STERNPOST_VERSION: &str = env!("CARGO_PKG_VERSION");
