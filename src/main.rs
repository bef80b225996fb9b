//! The one binary: everything it does is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    howdah::cli::run(std::env::args_os())
}
