//! The preload shim (`tests/e2e/shim.c`), compiled where there is a C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the shim into a directory; None, and a word, where there is no `cc`. With
/// `STERNPOST_FAULTS_MUST_RUN` set that is a failure.
pub fn build(directory: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/shim.c");
    let library = directory.join("shim.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .output();
    match compiled {
        Ok(output) if output.status.success() => Some(library),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            not_run(&format!("there is no cc: {error}"));
            None
        }
    }
}

/// Says that a test did not run, and why; never silently, and not at all where it must run.
pub fn not_run(why: &str) {
    let must = std::env::var_os("STERNPOST_FAULTS_MUST_RUN").is_some();
    assert!(!must, "NOT RUN: {why}");
    eprintln!("NOT RUN: {why}");
}
