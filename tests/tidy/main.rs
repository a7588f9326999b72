//! Lints the repository itself: the laws of the house (docs/ARCHITECTURE.md, "Laws") that
//! clippy cannot see. A rule is a function from files to findings; an exception stands in
//! `exceptions.rs` with its reason, and one that is not needed any more is a finding too.

#[cfg(test)]
mod exceptions;
#[cfg(test)]
mod files;
#[cfg(test)]
mod rules;

use std::collections::BTreeSet;

use files::SourceFile;

/// What is wrong: the rule, the file, and the rest for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    rule: &'static str,
    path: String,
    detail: String,
}

impl Finding {
    fn new(rule: &'static str, file: &SourceFile, detail: impl Into<String>) -> Finding {
        Finding {
            rule,
            path: file.path.clone(),
            detail: detail.into(),
        }
    }
}

#[test]
fn the_repository_keeps_the_laws_of_the_house() {
    let files = files::all();
    assert!(files.len() > 100, "the walk found the repository");
    let mut findings = Vec::new();
    for rule in rules::ALL {
        findings.extend(rule(&files));
    }
    let mut used = BTreeSet::new();
    findings.retain(|finding| {
        let known = exceptions::ALL
            .iter()
            .position(|known| known.rule == finding.rule && known.path == finding.path);
        known.is_none_or(|place| {
            used.insert(place);
            false
        })
    });
    let mut report: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}: {}", finding.rule, finding.path, finding.detail))
        .collect();
    for (place, known) in exceptions::ALL.iter().enumerate() {
        if !used.contains(&place) {
            report.push(format!(
                "exception not needed: {} {}",
                known.rule, known.path
            ));
        }
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

/// Each rule finds what it is there to find.
#[test]
fn every_rule_finds_its_offence() {
    let offences = [
        ("length", "storage/src/a.rs", "//! Head.\n".repeat(501)),
        (
            "unfinished",
            "storage/src/a.rs",
            ["//! Head.\n", "todo", "!()"].concat(),
        ),
        ("head", "storage/src/a.rs", "fn a() {}\n".to_owned()),
        (
            "purity",
            "storage/src/a.rs",
            "//! Head.\nuse std::time::Instant;\n".to_owned(),
        ),
        (
            "purity",
            "server/src/node/a.rs",
            "//! Head.\nuse tokio::time;\n".to_owned(),
        ),
        (
            "purity",
            "server/src/engine/a.rs",
            "//! Head.\nlet now = Instant::now();\n".to_owned(),
        ),
        (
            "error texts",
            "server/src/watch/a.rs",
            "//! Head.\n\"etcdserver: x\"\n".to_owned(),
        ),
        (
            "unbounded",
            "server/src/a.rs",
            "//! Head.\nmpsc::unbounded_channel()\n".to_owned(),
        ),
        ("names", "server/src/rpc/utils.rs", "//! Head.\n".to_owned()),
        (
            "documents",
            "docs/a.md",
            "See `storage/src/nowhere.rs`.\n".to_owned(),
        ),
        (
            "line",
            "storage/src/a.rs",
            format!("//! {}\n", "x".repeat(101)),
        ),
    ];
    for (rule, path, text) in offences {
        let file = SourceFile {
            path: path.to_owned(),
            text,
        };
        let files = [file];
        let mut found = rules::ALL.iter().flat_map(|rule| rule(&files));
        assert!(
            found.any(|finding| finding.rule == rule),
            "{rule} in {path}"
        );
    }
}
