//! The binary: a slot process when told so, otherwise the command line.

use std::process::ExitCode;

/// The hidden first argument of a slot process. It is looked at before anything else: a slot must not run any of the code
/// that a command line needs.
const SLOT_ARGUMENT: &str = "__slot";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == SLOT_ARGUMENT) {
        return run_slot();
    }
    ExitCode::from(manyhands::cli::run(std::env::args_os()).code())
}

/// Integration point: `manyhands::sandbox::slot::main()` goes here.
fn run_slot() -> ExitCode {
    eprintln!("error: this build has no slot process");
    ExitCode::FAILURE
}
