//! Certificates on disk, read and changed, and handshakes with them.
