//! The program `sternpost`; it works as well when it is called `etcd`.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back();
    server::cli::main(std::env::args_os(), std::env::vars_os())
}
