//! Why a call or a run did not succeed. A failed call is counted and reported; it never enters a
//! rate or a latency.

use std::fmt;

/// A call, a server or a run that failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The server answered with a gRPC status other than OK.
    Status { code: u32, message: String },
    /// The connection, a file or a process failed.
    Transport(String),
    /// The server answered something that cannot be right.
    Wrong(String),
    /// What was asked of the bench cannot be measured honestly or at all.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status { code, message } => write!(formatter, "gRPC status {code}: {message}"),
            Failure::Transport(message) => write!(formatter, "transport: {message}"),
            Failure::Wrong(message) => write!(formatter, "wrong answer: {message}"),
            Failure::Refused(message) => write!(formatter, "{message}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Failure::Transport(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Transport(error.to_string())
    }
}

impl From<prost::DecodeError> for Failure {
    fn from(error: prost::DecodeError) -> Self {
        Failure::Wrong(error.to_string())
    }
}
