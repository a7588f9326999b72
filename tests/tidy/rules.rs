//! The rules. Each looks at all files and returns what it found; its name stands in front
//! of every finding.

use crate::Finding;
use crate::files::{SourceFile, root};

/// The most lines of a source file (generated code excepted).
const LINES_MAX: usize = 500;
/// The most characters of a line of source; documents may run longer.
const COLUMNS_MAX: usize = 100;

/// A rule: from files to findings.
pub type Rule = fn(&[SourceFile]) -> Vec<Finding>;

/// All rules.
pub const ALL: &[Rule] = &[
    length,
    line,
    head,
    unfinished,
    purity,
    error_texts,
    unbounded,
    names,
    documents,
];

/// A file that does not fit into 500 lines does two things.
fn length(files: &[SourceFile]) -> Vec<Finding> {
    let sources = files.iter().filter(|file| is_source(file));
    let lengths = sources.map(|file| (file, file.text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(file, lines)| Finding::new("length", file, format!("{lines} lines")))
        .collect()
}

/// rustfmt leaves comments and macros alone; text in quotes may run on.
fn line(files: &[SourceFile]) -> Vec<Finding> {
    let rust = files.iter().filter(|file| file.is("rs"));
    find_lines("line", rust, |text| {
        text.chars().count() > COLUMNS_MAX && !text.contains('"')
    })
}

/// A file opens with what it owns.
fn head(files: &[SourceFile]) -> Vec<Finding> {
    let headless = files.iter().filter(|file| {
        let first = file.text.lines().next().unwrap_or("");
        file.is("rs") && !first.starts_with("//! ")
    });
    headless
        .map(|file| Finding::new("head", file, "does not open with what it owns (//!)"))
        .collect()
}

/// What is not there answers so; nothing pretends.
fn unfinished(files: &[SourceFile]) -> Vec<Finding> {
    let marks = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let rust = files.iter().filter(|file| file.is("rs"));
    find_lines("unfinished", rust, |text| {
        marks.iter().any(|mark| text.contains(mark))
    })
}

/// storage, server::node and server::engine are deterministic: no runtime, clock, thread,
/// randomness or environment. The engine is told the time.
fn purity(files: &[SourceFile]) -> Vec<Finding> {
    const BANNED: [&str; 12] = [
        "tokio",
        "tonic",
        "kvproto::",
        "std::thread",
        "std::time",
        "std::env",
        "std::net",
        "Instant::now",
        ".elapsed()",
        "SystemTime",
        "rand::",
        "RandomState",
    ];
    const PURE: [&str; 3] = ["storage/src/", "server/src/node/", "server/src/engine/"];
    let mut findings = Vec::new();
    for place in PURE {
        let pure = files
            .iter()
            .filter(|file| file.path.starts_with(place) && file.is("rs") && !file.is_test());
        let told_the_time = place.ends_with("engine/");
        findings.extend(find_lines("purity", pure, |text| {
            let banned = |word: &str| !(told_the_time && word == "std::time");
            BANNED
                .iter()
                .any(|word| banned(word) && text.contains(word))
        }));
    }
    findings
}

/// Only `rpc/status.rs` knows etcd's words for its refusals.
fn error_texts(files: &[SourceFile]) -> Vec<Finding> {
    let others = files.iter().filter(|file| {
        let ours = file.path.starts_with("server/src/") || file.path.starts_with("storage/src/");
        ours && file.is("rs") && !file.is_test() && file.path != "server/src/rpc/status.rs"
    });
    find_lines("error texts", others, |text| {
        text.contains("\"etcdserver: ")
    })
}

/// Every queue has a limit.
fn unbounded(files: &[SourceFile]) -> Vec<Finding> {
    let ours = files
        .iter()
        .filter(|file| file.is("rs") && !file.path.starts_with("tests/"));
    find_lines("unbounded", ours, |text| {
        text.contains("unbounded_channel") || text.contains("mpsc::channel()")
    })
}

/// Names that say nothing.
fn names(files: &[SourceFile]) -> Vec<Finding> {
    const EMPTY: [&str; 7] = [
        "util", "utils", "helper", "helpers", "common", "misc", "manager",
    ];
    let rust = files
        .iter()
        .filter(|file| file.is("rs") && !file.path.starts_with("tests/tidy/"));
    let parts = |file: &SourceFile| {
        let stem = file.path.trim_end_matches(".rs");
        stem.split('/').any(|part| EMPTY.contains(&part))
    };
    let mut findings: Vec<Finding> = rust
        .clone()
        .filter(|file| parts(file))
        .map(|file| Finding::new("names", file, "the name says nothing"))
        .collect();
    findings.extend(find_lines("names", rust, |text| {
        text.contains("fn handle_")
    }));
    findings
}

/// A path that a document mentions exists.
fn documents(files: &[SourceFile]) -> Vec<Finding> {
    // What a script of ours builds.
    const BUILT: [&str; 1] = ["tests/compat/bin"];
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is("md")) {
        for (number, text) in file.text.lines().enumerate() {
            for path in text
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|path| is_path(path))
            {
                if !BUILT.contains(&path) && !root().join(path.trim_end_matches('/')).exists() {
                    let detail = format!("line {}: no {path}", number + 1);
                    findings.push(Finding::new("documents", file, detail));
                }
            }
        }
    }
    findings
}

/// Whether text in backquotes names something of this repository.
fn is_path(text: &str) -> bool {
    const TOPS: [&str; 7] = [
        "storage", "server", "kvproto", "bench", "tests", "docs", ".ci",
    ];
    let top = text.split('/').next().unwrap_or("");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    TOPS.contains(&top) && text.contains('/') && text.chars().all(plain)
}

fn is_source(file: &SourceFile) -> bool {
    file.is("rs") || file.is("go") || file.is("sh")
}

fn find_lines<'a>(
    rule: &'static str,
    files: impl Iterator<Item = &'a SourceFile>,
    offends: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        // What follows is the tests of the file.
        let lines = file.text.lines().take_while(|text| *text != "#[cfg(test)]");
        for (number, text) in lines.enumerate() {
            let comment = rule != "line" && text.trim_start().starts_with("//");
            if !comment && offends(text) {
                let detail = format!("line {}: {}", number + 1, text.trim());
                findings.push(Finding::new(rule, file, detail));
            }
        }
    }
    findings
}
