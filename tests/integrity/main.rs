//! What a member makes of damaged and interrupted storage: the log, the manifest, the
//! identity file and checkpoint files cut and flipped at every byte, and the images that a
//! crash leaves at every file operation (docs/durability.md, "Every byte").
//!
//! `INTEGRITY_MASKS` (1 to 8) sets the flips per byte, `INTEGRITY_IMAGES` the crash images,
//! `INTEGRITY_FJALL` the flips in fjall's own files.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

mod crash_images;
mod file_bytes;
mod fjall_bytes;
mod log_bytes;
mod log_image;
mod member;

/// A number from the environment: how far a campaign goes beyond what every change runs.
fn amount(variable: &str, plain: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(plain, |text| {
        text.parse().expect("the variable holds a number")
    })
}
