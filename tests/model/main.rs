//! The state machine's parts against naive models. `PROPTEST_CASES` sets how
//! many random histories are tried.

#[cfg(test)]
mod mvcc;
#[cfg(test)]
mod mvcc_checks;
#[cfg(test)]
mod mvcc_model;
#[cfg(test)]
mod mvcc_steps;
#[cfg(test)]
mod packing;
