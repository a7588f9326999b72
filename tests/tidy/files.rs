//! The files of the repository that the rules look at: what git tracks or would track,
//! found by walking, so that the test needs no git.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold nothing of ours, or nothing written by hand.
const SKIPPED: [&str; 6] = ["target", ".git", ".cache", "generated", "testdata", "bin"];
/// Extensions of text that the rules read.
const READ: [&str; 5] = ["rs", "go", "md", "toml", "sh"];

/// A file and its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The path from the root of the repository, with `/`.
    pub path: String,
    /// The whole content.
    pub text: String,
}

impl SourceFile {
    /// Whether its name ends so.
    pub fn is(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }

    /// Whether it holds tests only.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("tests.rs")
            || self.path.contains("_tests")
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file that the rules look at.
pub fn all() -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable directory").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if path.is_dir() {
            if !SKIPPED.contains(&name) && !name.ends_with(".sternpost") {
                walk(root, &path, found);
            }
            continue;
        }
        let read = path
            .extension()
            .is_some_and(|found| READ.iter().any(|read| found == *read));
        if !read {
            continue;
        }
        let text = fs::read_to_string(&path).expect("our sources are UTF-8");
        let relative = path.strip_prefix(root).expect("it lies below the root");
        found.push(SourceFile {
            path: relative.to_str().expect("our names are ASCII").to_owned(),
            text,
        });
    }
}
