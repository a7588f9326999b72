//! Writes histories for a second opinion (`tests/compat/porcupine`): the groups of keys that
//! `linearizable` searches, with its verdict, as one JSON file a history. Bytes are in
//! hexadecimal, times in nanoseconds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::answer::KeyValue;
use crate::history::group_spec::{Action, Operation, operations};
use crate::history::linearizable;
use crate::history::record::History;

/// The revision of a member that was just founded.
const BASE: i64 = 1;

/// Writes one history that began with an empty member.
pub fn write(directory: &Path, name: &str, history: &History) {
    let verdict = linearizable::check(history, &[], BASE);
    let gave_up = verdict.as_ref().is_err_and(|text| text.contains("steps"));
    assert!(!gave_up, "{name}: no verdict");
    let groups = operations(history, &[]);
    let groups = groups.values().map(|of_one| {
        let operations = of_one.iter().map(operation);
        format!("[{}]", joined(operations))
    });
    let text = format!(
        "{{\"linearizable\":{},\"base\":{BASE},\"groups\":[{}]}}\n",
        verdict.is_ok(),
        joined(groups)
    );
    fs::write(directory.join(format!("{name}.json")), text).unwrap();
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",\n")
}

fn operation(operation: &Operation) -> String {
    let returned = operation.returned.map(|at| at.as_nanos());
    format!(
        "{{\"invoked\":{},\"returned\":{},\"revision\":{},{}}}",
        operation.invoked.as_nanos(),
        or_null(returned),
        or_null(operation.revision),
        action(&operation.action)
    )
}

fn action(action: &Action) -> String {
    match action {
        Action::EndLease(lease) => format!("\"end_lease\":{lease}"),
        Action::Read(from, to, shown) => format!(
            "\"read\":{{\"from\":\"{}\",\"to\":\"{}\",\"shown\":[{}]}}",
            hex(from),
            hex(to),
            joined(shown.iter().map(row))
        ),
        Action::Write {
            guards,
            changes,
            told,
            deleted,
        } => {
            let guards = guards
                .iter()
                .map(|(key, wanted)| format!("{{\"key\":\"{}\",\"modified\":{wanted}}}", hex(key)));
            let changes = changes.iter().map(|(key, put)| match put {
                Some((value, lease)) => format!(
                    "{{\"key\":\"{}\",\"value\":\"{}\",\"lease\":{lease}}}",
                    hex(key),
                    hex(value)
                ),
                None => format!("{{\"key\":\"{}\",\"deletes\":true}}", hex(key)),
            });
            format!(
                "\"write\":{{\"guards\":[{}],\"changes\":[{}],\"told\":{},\"deleted\":{}}}",
                joined(guards),
                joined(changes),
                or_null(*told),
                or_null(*deleted)
            )
        }
    }
}

fn row(kv: &KeyValue) -> String {
    format!(
        "{{\"key\":\"{}\",\"value\":\"{}\",\"lease\":{},\"version\":{},\"created\":{},\
         \"modified\":{}}}",
        hex(&kv.key),
        hex(&kv.value),
        kv.lease,
        kv.version,
        kv.create,
        kv.modified
    )
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
