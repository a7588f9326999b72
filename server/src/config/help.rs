//! The texts of `--help` and of a wrong command line, from the table of flags (contract 4.1).
//!
//! Invariant: each flag has a line that begins with spaces and `--name`, for tools grep for it.
//! Limits: none.

use std::fmt::Write;

use super::FeatureGates;
use super::flag_table::SECTIONS;
use super::flags::{Flag, Kind};

/// How the program is called.
pub fn usage() -> &'static str {
    "Usage:

  sternpost [flags]
    Run a member. Everything has a default: data goes to ./default.sternpost, clients come to
    http://localhost:2379. The flags, ETCD_* variables and configuration file are those of etcd.

  sternpost --config-file FILE
    Take everything from a YAML or JSON file; other flags and variables are ignored then.
    Durations in the file are whole nanoseconds (10m is 600000000000).

  sternpost check DIR
    Verify a whole data directory while no member runs on it.

  sternpost --version
    Print the versions.

  sternpost -h | --help
    Print all flags.
"
}

/// All flags under their headings.
pub fn flag_help() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        push(&mut text, &format!("\n{}:\n", section.title));
        for flag in section.flags {
            push(
                &mut text,
                &format!("  --{}{}\n", flag.name, default_of(flag)),
            );
            push(&mut text, &format!("    {}\n", flag.help));
            if flag.kind == Kind::Gates {
                for line in FeatureGates::help_lines() {
                    push(&mut text, &format!("    {line}\n"));
                }
            }
        }
    }
    text
}

fn default_of(flag: &Flag) -> String {
    match (flag.kind, flag.name) {
        (Kind::Ignored, _) => String::new(),
        (_, "data-dir") => " '${name}.sternpost'".to_owned(),
        _ => format!(" '{}'", flag.default),
    }
}

fn push(text: &mut String, more: &str) {
    text.write_str(more)
        .expect("writing to a String cannot fail");
}
