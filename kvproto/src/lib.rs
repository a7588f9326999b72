//! Messages and service stubs of the etcd v3 protocol, generated from the
//! `.proto` files of this crate. The generated code is committed, so that a
//! build needs neither protoc nor protox; `tests/regenerate.rs` compares it with
//! the `.proto` files and rewrites it on request.

/// Users, roles, permissions.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod authpb {
    include!("generated/authpb.rs");
}

/// The etcd services.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// Key-values and events.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// Server-side elections.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v3electionpb {
    include!("generated/v3electionpb.rs");
}

/// Server-side locks.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v3lockpb {
    include!("generated/v3lockpb.rs");
}

/// The encoded `FileDescriptorSet` of every `.proto` file of this crate.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
