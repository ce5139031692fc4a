//! The system of a native program, for tests and comparisons: the standard library.

use std::io::{Read, Write};

use crate::Error;

/// The words of the command line, the program's name first. They live as long as the program.
pub(crate) fn arguments() -> Result<Vec<&'static str>, Error> {
    std::env::args_os()
        .map(|word| word.into_string().map(|word| &*word.leak()).map_err(|_| Error::usage("an argument is not UTF-8")))
        .collect()
}

/// Reads standard input; 0 is the end.
pub(crate) fn read(buffer: &mut [u8]) -> Result<usize, Error> {
    std::io::stdin().lock().read(buffer).map_err(|_| Error::failure("standard input cannot be read"))
}

/// Writes all of `bytes` to standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|_| Error::failure("standard output cannot be written"))
}

/// Writes to standard error as far as that is possible.
pub(crate) fn write_error(bytes: &[u8]) {
    // There is nowhere left to report to.
    let _ = std::io::stderr().write_all(bytes);
}

/// Ends the program.
pub(crate) fn exit(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
