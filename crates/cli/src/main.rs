//! The program `pagemate`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pagemate_cli::run(std::env::args_os()))
}
