//! Answers and changes as a client sees them, in plain types.

/// A key-value as a client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Vec<u8>,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: i64,
}

/// An answer as a client sees it; revisions are those of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Put {
        revision: i64,
        previous: Option<KeyValue>,
    },
    Delete {
        revision: i64,
        deleted: i64,
        previous: Vec<KeyValue>,
    },
    Range {
        revision: i64,
        key_values: Vec<KeyValue>,
        more: bool,
        count: i64,
    },
    Txn {
        revision: i64,
        succeeded: bool,
        answers: Vec<Answer>,
    },
    Compact,
    Grant {
        lease: i64,
        ttl: i64,
    },
    Revoke,
    Alarm(Vec<(u64, u8)>),
    Refused(&'static str),
}

/// A change as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub sub: u32,
    pub deletion: bool,
    pub key_value: KeyValue,
    pub previous: Option<KeyValue>,
}

/// All that a command gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub answer: Answer,
    pub revision: i64,
    pub changes: Vec<Change>,
}

impl Answer {
    pub fn kinds(&self) -> Vec<&'static str> {
        match self {
            Answer::Put { previous: None, .. } => vec!["put"],
            Answer::Put { .. } => vec!["put with previous"],
            Answer::Delete { deleted: 0, .. } => vec!["delete of nothing"],
            Answer::Delete { .. } => vec!["delete"],
            Answer::Range { more: true, .. } => vec!["range with more"],
            Answer::Range { count: 0, .. } => vec!["range of nothing"],
            Answer::Range { .. } => vec!["range"],
            Answer::Txn {
                succeeded, answers, ..
            } => {
                let mut kinds: Vec<_> = answers.iter().flat_map(Answer::kinds).collect();
                if kinds.iter().any(|kind| kind.starts_with("txn")) {
                    kinds.push("nested txn");
                }
                kinds.push(if *succeeded {
                    "txn taken"
                } else {
                    "txn not taken"
                });
                kinds
            }
            Answer::Compact => vec!["compact"],
            Answer::Grant { .. } => vec!["grant"],
            Answer::Revoke => vec!["revoke"],
            Answer::Alarm(alarms) if alarms.is_empty() => vec!["alarm of nothing"],
            Answer::Alarm(_) => vec!["alarm"],
            Answer::Refused(refusal) => vec![refusal],
        }
    }
}
