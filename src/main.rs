//! The binary: a slot process when told so, otherwise the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Looked at before anything else: a slot must not run any of the code that a command line needs.
    #[cfg(unix)]
    if std::env::args_os().nth(1).is_some_and(|first| first == manyhands::sandbox::SLOT_ARGUMENT) {
        return manyhands::sandbox::slot_main();
    }
    ExitCode::from(manyhands::cli::run(std::env::args_os()).code())
}
