//! A disk in memory whose faults are drawn from a seed.
