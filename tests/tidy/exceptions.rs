//! Where a rule does not hold, and why.

/// One file that one rule leaves alone.
pub struct Exception {
    /// The rule's name.
    pub rule: &'static str,
    /// The path from the root.
    pub path: &'static str,
    /// Why; for the reader.
    #[expect(dead_code, reason = "written for those who read this file")]
    pub reason: &'static str,
}

/// All exceptions.
pub const ALL: &[Exception] = &[];
