//! The two kinds of failure. A [`Refusal`] is an answer to a client and is
//! deterministic: every member gives the same one. A [`Fatal`] ends the
//! process after one log line. There is no third kind.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An answer to a client that is not a success. `server::rpc::status` alone
/// knows the gRPC code and etcd's text for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The asked revision lies below the compacted one (contract 1.5, 1.8).
    Compacted,
    /// The asked revision is above the current one.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// A put, revoke or keep-alive names a lease that does not exist.
    LeaseNotFound,
    /// A grant names a lease that exists.
    LeaseExists,
    /// A grant asks for more than 9,000,000,000 seconds.
    LeaseTtlTooLarge,
    /// The space quota is used up or the NOSPACE alarm is active.
    NoSpace,
    /// The CORRUPT alarm is active.
    Corrupt,
}

/// What ends the process: an I/O error, corrupt data, or a broken invariant.
#[derive(Debug)]
pub enum Fatal {
    /// The operating system refused an operation on a file.
    Io {
        /// What was attempted, as a verb phrase: "sync", "open".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Bytes on disk are not what was written there.
    Corruption {
        /// The file.
        path: PathBuf,
        /// Byte offset of the first bad byte known.
        offset: u64,
        /// What was expected there and what was found.
        detail: String,
    },
    /// The directory holds something this binary must not touch: another
    /// product's data, a newer format, a directory in use.
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// Why, and what to do next.
        detail: String,
    },
}

impl Fatal {
    /// Wraps an I/O error with what was attempted on which file.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Fatal::Io {
            operation,
            path: path.into(),
            source,
        }
    }

    /// Names corrupt bytes.
    pub fn corruption(path: impl Into<PathBuf>, offset: u64, detail: impl Into<String>) -> Self {
        Fatal::Corruption {
            path: path.into(),
            offset,
            detail: detail.into(),
        }
    }

    /// Refuses a file or directory before any write to it.
    pub fn refused(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Fatal::Refused {
            path: path.into(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Io {
                operation,
                path,
                source,
            } => {
                write!(f, "cannot {operation} {}: {source}", path.display())
            }
            Fatal::Corruption {
                path,
                offset,
                detail,
            } => {
                write!(
                    f,
                    "corrupt data in {} at offset {offset}: {detail}",
                    path.display()
                )
            }
            Fatal::Refused { path, detail } => write!(f, "{}: {detail}", path.display()),
        }
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Fatal::Io { source, .. } => Some(source),
            Fatal::Corruption { .. } | Fatal::Refused { .. } => None,
        }
    }
}
