//! The binary. A slot process is this same program, so that is looked for before anything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(feature = "sandbox", unix))]
    if std::env::args().nth(1).as_deref() == Some(manyhands::sandbox::SLOT_ARGUMENT) {
        return manyhands::sandbox::slot_main();
    }
    ExitCode::SUCCESS
}
