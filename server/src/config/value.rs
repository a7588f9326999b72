//! The words and numbers that flags, variables and the file share.
//!
//! Pure. Limits: none.

/// Go's `strconv.ParseBool`.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
