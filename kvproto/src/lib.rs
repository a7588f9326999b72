//! Messages and service stubs of the etcd v3 protocol.
