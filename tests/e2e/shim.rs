//! The preload shim (`tests/e2e/shim.c`), compiled where there is a C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the shim into a directory; None, and a word, where there is no `cc`.
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
            not_run("cc", &format!("there is no cc: {error}"));
            None
        }
    }
}

/// Says that a test did not run, and why; never silently. `STERNPOST_FAULTS_MUST_RUN` lists
/// what this machine can do (`cc`, `mount`, `script`): there it is a failure.
pub fn not_run(needs: &str, why: &str) {
    let can = std::env::var("STERNPOST_FAULTS_MUST_RUN").unwrap_or_default();
    let must = can.split(',').any(|one| one == needs);
    assert!(!must, "NOT RUN: {why}");
    eprintln!("NOT RUN: {why}");
}
