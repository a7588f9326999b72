//! The program `sternpost`; it works as well when it is called `etcd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::cli::main(std::env::args_os(), std::env::vars_os())
}
