//! What a flag is: name, kind, default, help and whether it means anything here.
//!
//! The table itself is in [`super::flag_table`]; it drives the command line, the variables, the
//! file, `--help` and `docs/operations.md`. Invariants (tested): each name once, each default is a
//! legal value of its kind. Limits: none.

use super::flag_table::SECTIONS;

/// The kind of value a flag takes; each has the syntax and the error texts of Go's counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A boolean: bare, or `=true|false|1|0|t|f`.
    Boolean,
    /// A whole number from 0 to 2^64-1.
    Unsigned,
    /// A whole number from 0 to 2^32-1, decimal only.
    Unsigned32,
    /// A signed whole number of 64 bits.
    Signed,
    /// A Go duration; in the file whole nanoseconds.
    Duration,
    /// URLs divided by commas.
    Urls,
    /// URLs divided by commas, or `*`.
    Origins,
    /// Words divided by commas; in the file a list.
    List,
    /// Words divided by commas, each once; in the file a text.
    Set,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, divided by commas.
    Choices(&'static [&'static str]),
    /// Feature gates; several add up.
    Gates,
    /// Whatever is given is not looked at.
    Ignored,
}

/// What a flag does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As in etcd.
    Meaningful,
    /// Accepted so that nothing breaks; there is nothing here that it could change. Logged once.
    Accepted,
    /// Accepted and ignored by etcd too.
    Ignored,
    /// Parsed, then refused with a clear word when it is used.
    Refused,
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// As it would be written on the command line.
    pub default: &'static str,
    /// What it does here.
    pub class: Class,
    /// One sentence for `--help`.
    pub help: &'static str,
}

/// The flags of one heading of `--help`.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// Its flags.
    pub flags: &'static [Flag],
}

impl Flag {
    /// A row of the table.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        class: Class,
        help: &'static str,
    ) -> Flag {
        Flag {
            name,
            kind,
            default,
            class,
            help,
        }
    }

    /// Whether it stands alone on the command line.
    pub fn is_boolean(&self) -> bool {
        matches!(self.kind, Kind::Boolean | Kind::Ignored)
    }

    /// The name of its variable: `ETCD_DATA_DIR`.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// All flags, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// Flags of etcd 3.4 and 3.5 that went under other names; older kubeadm releases still pass them
/// (contract 4.1). The value says what a true boolean of that name means now.
pub const EXPERIMENTAL_GATES: [(&str, &str); 7] = [
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    (
        "experimental-compact-hash-check-enabled",
        "CompactHashCheck",
    ),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    (
        "experimental-enable-lease-checkpoint-persist",
        "LeaseCheckpointPersist",
    ),
    (
        "experimental-stop-grpc-service-on-defrag",
        "StopGRPCServiceOnDefrag",
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        "TxnModeWriteWithSharedBuffer",
    ),
    ("experimental-set-member-localaddr", "SetMemberLocalAddr"),
];
