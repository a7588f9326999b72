//! Support code shared by the test targets of this package.
