//! What the whole of reading a configuration does, against what a real etcd 3.7.3 does.
