//! etcd's feature gates (contract 4.2): all of 3.7's parse, an unknown one is an error.
//!
//! Pure. Invariant: a set holds a value for every known gate. Limits: none.

/// A gate of etcd 3.7. The order is that of the bits in a [`FeatureGates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are etcd's own")]
pub enum FeatureGate {
    CompactHashCheck,
    FastLeaseKeepAlive,
    InitialCorruptCheck,
    LeaseCheckpoint,
    LeaseCheckpointPersist,
    PriorityRequest,
    SetMemberLocalAddr,
    StopGrpcServiceOnDefrag,
    TxnModeWriteWithSharedBuffer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

const GATES: [(FeatureGate, &str, Stage, bool); 9] = [
    (
        FeatureGate::CompactHashCheck,
        "CompactHashCheck",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::FastLeaseKeepAlive,
        "FastLeaseKeepAlive",
        Stage::Beta,
        true,
    ),
    (
        FeatureGate::InitialCorruptCheck,
        "InitialCorruptCheck",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::LeaseCheckpoint,
        "LeaseCheckpoint",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::LeaseCheckpointPersist,
        "LeaseCheckpointPersist",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::PriorityRequest,
        "PriorityRequest",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::SetMemberLocalAddr,
        "SetMemberLocalAddr",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::StopGrpcServiceOnDefrag,
        "StopGRPCServiceOnDefrag",
        Stage::Alpha,
        false,
    ),
    (
        FeatureGate::TxnModeWriteWithSharedBuffer,
        "TxnModeWriteWithSharedBuffer",
        Stage::Beta,
        true,
    ),
];

/// The gates and what was said of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// What was set, in the order of [`GATES`]; `None` is the default of the gate.
    set: [Option<bool>; GATES.len()],
}

impl FeatureGates {
    /// Whether the gate is on.
    pub fn enabled(&self, gate: FeatureGate) -> bool {
        let said = self
            .set
            .iter()
            .zip(GATES.iter())
            .find(|(_, row)| row.0 == gate);
        said.is_some_and(|(said, row)| said.unwrap_or(row.3))
    }

    /// Adds what `text` says (`A=true,B=false`, also `AllAlpha` and `AllBeta`).
    ///
    /// # Errors
    /// etcd's own words for a missing or wrong value and for an unknown gate.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut all = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(format!("missing bool value for {}", part.trim())),
            };
            let value = super::value::parse_boolean(value).ok_or_else(|| {
                format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: \
                     invalid syntax"
                )
            })?;
            match name {
                "AllAlpha" => all.push((Stage::Alpha, value)),
                "AllBeta" => all.push((Stage::Beta, value)),
                _ => {
                    let said = self
                        .set
                        .iter_mut()
                        .zip(GATES.iter())
                        .find(|(_, row)| row.1 == name);
                    let (said, _) =
                        said.ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
                    *said = Some(value);
                }
            }
        }
        // A gate named on its own wins over `AllAlpha` and `AllBeta`, wherever it stands.
        for (stage, value) in all {
            for (said, row) in self.set.iter_mut().zip(GATES.iter()) {
                if row.2 == stage && said.is_none() {
                    *said = Some(value);
                }
            }
        }
        Ok(())
    }

    /// Name, stage and state of every gate, the two collective ones included.
    pub fn rows(&self) -> Vec<(String, String, bool)> {
        let stage = |stage| {
            if stage == Stage::Alpha {
                "ALPHA"
            } else {
                "BETA"
            }
        };
        // They are instructions rather than gates, and stay off.
        let mut rows = vec![
            ("AllAlpha".to_owned(), "ALPHA".to_owned(), false),
            ("AllBeta".to_owned(), "BETA".to_owned(), false),
        ];
        rows.extend(GATES.iter().map(|(gate, name, row_stage, _)| {
            let name = (*name).to_owned();
            (name, stage(*row_stage).to_owned(), self.enabled(*gate))
        }));
        rows.sort();
        rows
    }

    /// The lines that `--help` shows for the gates.
    pub fn help_lines() -> Vec<String> {
        let mut lines = vec![
            "AllAlpha=true|false (ALPHA - default=false)".to_owned(),
            "AllBeta=true|false (BETA - default=false)".to_owned(),
        ];
        for (_, name, stage, default) in GATES {
            let stage = if stage == Stage::Alpha {
                "ALPHA"
            } else {
                "BETA"
            };
            lines.push(format!("{name}=true|false ({stage} - default={default})"));
        }
        lines
    }
}

impl std::fmt::Display for FeatureGates {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        for (said, row) in self.set.iter().zip(GATES.iter()) {
            if let Some(value) = said {
                write!(out, "{comma}{}={value}", row.1)?;
                comma = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let mut gates = FeatureGates::default();
        let result = gates.add(text).map(|()| gates.to_string());
        assert_eq!(
            result.as_deref().map_err(String::as_str),
            expected,
            "{text}"
        );
    }

    #[test]
    fn known_gates_parse_and_unknown_ones_do_not() {
        check("", Ok(""));
        check("InitialCorruptCheck=true", Ok("InitialCorruptCheck=true"));
        check(
            " InitialCorruptCheck = 1 ,,",
            Ok("InitialCorruptCheck=true"),
        );
        check(
            "AllBeta=false",
            Ok("FastLeaseKeepAlive=false,TxnModeWriteWithSharedBuffer=false"),
        );
        check(
            "AllBeta=false,FastLeaseKeepAlive=true",
            Ok("FastLeaseKeepAlive=true,TxnModeWriteWithSharedBuffer=false"),
        );
        check("Nope=true", Err("unrecognized feature gate: Nope"));
        check(
            "InitialCorruptCheck",
            Err("missing bool value for InitialCorruptCheck"),
        );
        check(
            "InitialCorruptCheck=yes",
            Err(
                "invalid value of InitialCorruptCheck=yes, err: strconv.ParseBool: parsing \
                 \"yes\": invalid syntax",
            ),
        );
    }

    #[test]
    fn defaults_are_those_of_etcd() {
        let gates = FeatureGates::default();
        assert!(gates.enabled(FeatureGate::FastLeaseKeepAlive));
        assert!(gates.enabled(FeatureGate::TxnModeWriteWithSharedBuffer));
        assert!(!gates.enabled(FeatureGate::InitialCorruptCheck));
        assert!(!gates.enabled(FeatureGate::LeaseCheckpoint));
    }
}
