//! From the program's entry to the workload's function and back to an exit code.

use crate::{Args, Error, Output, system};

/// Makes the program's entry from `fn(Args, &mut Output) -> Result<(), Error>` and a usage text.
///
/// Success is exit code 0. An [`Error`] is printed on standard error and ends the program with the error's exit code;
/// a usage error prints the usage text as well. `--help` as the first argument prints the usage text and succeeds.
#[macro_export]
macro_rules! command {
    ($run:path, $usage:expr) => {
        #[cfg(target_family = "wasm")]
        #[unsafe(no_mangle)]
        extern "C" fn _start() {
            $crate::start($run, $usage)
        }

        #[cfg(not(target_family = "wasm"))]
        fn main() {
            $crate::start($run, $usage)
        }
    };
}

/// Runs the workload; used by [`command!`](crate::command).
pub fn start(run: fn(Args, &mut Output) -> Result<(), Error>, usage: &'static str) {
    if let Err(error) = finish(run, usage) {
        fail(&error, usage);
    }
}

/// Says what went wrong and ends the program.
pub(crate) fn fail(error: &Error, usage: &str) -> ! {
    error.print();
    if error.exit_code() == Error::USAGE {
        system::write_error(usage.as_bytes());
        system::write_error(b"\n");
    }
    system::exit(error.exit_code())
}

/// Runs the workload and writes what is left in its output buffer.
fn finish(run: fn(Args, &mut Output) -> Result<(), Error>, usage: &'static str) -> Result<(), Error> {
    let mut args = Args::of_program()?;
    let mut output = Output::stdout();
    if args.asks_for_help() {
        output.write(usage.as_bytes())?;
        output.write(b"\n")?;
    } else {
        run(args, &mut output)?;
    }
    output.flush()
}
