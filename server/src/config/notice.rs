//! What reading the configuration has to say before there is a log: kept, then logged.
//!
//! Invariants, limits: none.

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An `ETCD_*` variable counts.
    VariableUsed {
        /// Its name.
        name: String,
        /// Its value; not shown for passwords.
        value: String,
    },
    /// An `ETCD_*` variable that no flag has.
    VariableUnknown {
        /// Its name; the value may be a secret of someone else.
        name: String,
    },
    /// `ETCD_VERSION`, which images set.
    VariableSpecial {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A flag of an older etcd.
    Renamed {
        /// As given.
        given: String,
        /// The flag or gate of today.
        now: String,
    },
    /// A flag that changes nothing here, or nothing in etcd either.
    WithoutMeaning {
        /// Its name.
        flag: String,
        /// Why.
        reason: &'static str,
    },
    /// A key of the configuration file that means nothing.
    UnknownKey {
        /// The key with the key around it, if any.
        key: String,
    },
    /// The configuration file counts alone.
    FileLoaded {
        /// Its path.
        path: String,
    },
    /// The advertised address is that of the machine, since the member listens on all of them.
    DefaultHost {
        /// The address.
        host: String,
    },
    /// Gates that ask for one another.
    LeaseCheckpointAlone,
}

impl Notice {
    /// Writes the line, in etcd's words where etcd has the same line.
    pub fn log(&self) {
        match self {
            Notice::VariableUsed { name, value } => {
                let value = if name.contains("PASSWORD") {
                    "***"
                } else {
                    value
                };
                tracing::info!(
                    variable_name = %name,
                    variable_value = %value,
                    "recognized and used environment variable"
                );
            }
            Notice::VariableUnknown { name } => {
                tracing::warn!(
                    environment_variable = %name,
                    "unrecognized environment variable"
                );
            }
            Notice::VariableSpecial { name, value } => {
                tracing::warn!(
                    key = %name,
                    value = %value,
                    "cannot set special environment variable"
                );
            }
            Notice::Renamed { given, now } => {
                tracing::warn!(flag = %given, now = %now, "flag of an older etcd");
            }
            Notice::WithoutMeaning { flag, reason } => {
                tracing::info!(flag = %flag, reason = %reason, "flag accepted; it changes nothing");
            }
            Notice::UnknownKey { key } => {
                tracing::warn!(key = %key, "unknown key in the configuration file; ignored");
            }
            Notice::FileLoaded { path } => tracing::info!(
                path = %path,
                "loaded server configuration, other configuration command line flags and \
                 environment variables will be ignored if provided"
            ),
            Notice::DefaultHost { host } => {
                tracing::info!(host = %host, "detected default host for advertise");
            }
            Notice::LeaseCheckpointAlone => tracing::warn!(
                "Detected that checkpointing is enabled without persistence. Consider enabling \
                 feature gate LeaseCheckpointPersist"
            ),
        }
    }
}
