//! The checkers of `tests/history`, put to the test themselves: a thousand good histories pass
//! without a false alarm, of a thousand spoiled ones each is found, by the checker whose kind
//! it is. `CHECKERS_HISTORIES` sets another number; `CHECKERS_EXPORT` names a directory that
//! all of them are written to, with the verdict on linearizability, for
//! `tests/compat/porcupine`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

#[path = "../model/apply/answer.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod answer;
mod export;
#[path = "../history/mod.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod history;
mod honest;
#[path = "../model/apply/model.rs"]
#[allow(dead_code, reason = "the test of the model uses all of it")]
mod model;
mod spoil;

use std::collections::BTreeMap;

use history::judge::{Amounts, Judge};
use history::record::History;
use spoil::{KINDS, spoil};

fn histories() -> u64 {
    let asked = std::env::var("CHECKERS_HISTORIES");
    asked.map_or(1_000, |text| text.parse().unwrap())
}

/// Writes a history down if that was asked for.
fn exported(name: &str, history: &History) {
    if let Some(directory) = std::env::var_os("CHECKERS_EXPORT") {
        std::fs::create_dir_all(&directory).unwrap();
        export::write(directory.as_ref(), name, history);
    }
}

#[test]
fn good_histories_pass() {
    let mut amounts = Amounts::default();
    for seed in 0..histories() {
        let history = honest::history(seed);
        exported(&format!("good-{seed:05}"), &history);
        let mut judge = Judge::new();
        let findings = judge.judge(&history);
        assert!(
            findings.is_empty(),
            "seed {seed}: a false alarm: {findings:?}"
        );
        amounts += judge.amounts;
    }
    eprintln!("{} histories: {amounts}", histories());
    assert!(
        amounts.open_happened > 0 && amounts.leases_ended > 0,
        "kinds are missing: {amounts:?}"
    );
}

#[test]
fn every_spoiled_history_is_found_by_the_checker_of_its_kind() {
    let mut spoiled: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut total, mut seed) = (0, 0);
    while total < histories() {
        seed += 1;
        let (name, property, damage) = KINDS[seed as usize % KINDS.len()];
        let mut history = honest::history(seed);
        // A history without a place for this kind of damage is left out.
        if !spoil(damage, &mut history, seed) {
            assert!(seed < 20 * histories() + 1_000, "no place for {name}");
            continue;
        }
        exported(&format!("spoiled-{seed:05}"), &history);
        let findings = Judge::new().judge(&history);
        let found = findings.iter().any(|(by, _)| *by == property);
        assert!(
            found,
            "seed {seed}: {name} is not found by {property}: {findings:?}"
        );
        *spoiled.entry(name).or_insert(0) += 1;
        total += 1;
    }
    eprintln!("{total} spoiled histories, all found: {spoiled:?}");
    let missing: Vec<_> = KINDS
        .iter()
        .filter(|kind| !spoiled.contains_key(kind.0))
        .collect();
    assert!(
        total < 200 || missing.is_empty(),
        "never spoiled: {missing:?}"
    );
}
