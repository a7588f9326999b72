//! The only place that knows gRPC codes and etcd's error strings (contract 2):
//! clients compare the strings byte by byte.

use storage::error::Refusal;
use tonic::{Code, Status};

use crate::runtime::Rejected;

impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Status {
        match rejected {
            Rejected::Refusal(refusal) => refused(&refusal),
            Rejected::NoLeader => Status::unavailable("etcdserver: no leader"),
            Rejected::Stopped => Status::unavailable("etcdserver: server stopped"),
            Rejected::TimedOut => Status::unavailable("etcdserver: request timed out"),
            Rejected::TooDeep => invalid::too_many_operations(),
            // etcd sends this one as Unknown (contract 2, "facts that differ").
            Rejected::TooManyRequests => Status::unknown("etcdserver: too many requests"),
        }
    }
}

/// The status of a refusal.
#[must_use]
pub fn refused(refusal: &Refusal) -> Status {
    let (code, text) = match refusal {
        Refusal::Compacted => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        Refusal::FutureRevision => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        Refusal::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        Refusal::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Refusal::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        Refusal::NoSpace => (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        Refusal::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
    };
    Status::new(code, text)
}

/// A member that does not lead was asked to hand over the leadership.
#[must_use]
pub fn not_leader() -> Status {
    Status::failed_precondition("etcdserver: not leader")
}

/// The leadership was to go where it cannot.
#[must_use]
pub fn bad_leader_transferee() -> Status {
    Status::failed_precondition("etcdserver: bad leader transferee")
}

/// Refusals of a request's form, before anyone looks at data.
pub mod invalid {
    use tonic::Status;

    macro_rules! invalid {
        ($($(#[$doc:meta])* $name:ident => $text:literal;)*) => {
            $($(#[$doc])* #[must_use] pub fn $name() -> Status {
                Status::invalid_argument(concat!("etcdserver: ", $text))
            })*
        };
    }

    invalid! {
        /// An empty key.
        empty_key => "key is not provided";
        /// An operation of a transaction with nothing set.
        key_not_found => "key not found";
        /// `ignore_value` together with a value.
        value_provided => "value is provided";
        /// `ignore_lease` together with a lease.
        lease_provided => "lease is provided";
        /// More operations than `--max-txn-ops`.
        too_many_operations => "too many operations in txn request";
        /// Two changes of one key in one transaction.
        duplicate_key => "duplicate key given in txn request";
        /// A sort order or target that does not exist.
        sort_option => "invalid sort option";
        /// A client version that is no text.
        client_api_version => "invalid client api version";
        /// A request larger than `--max-request-bytes`.
        request_too_large => "request is too large";
    }
}
