//! Workloads that do a part of their work, keep where they are in a file, and ask to be run again.
//!
//! Works with any engine that gives the program a folder: `while program; [ $? = 75 ]; do :; done`. The grid runs such a program again
//! itself, and between two runs it can hand the file to another machine. What a run writes is kept, so that the output is that of all
//! runs together.

use alloc::vec::Vec;

use crate::{Error, Output, file, system};

/// The exit code that asks for another run.
const AGAIN: u8 = 75;

/// What the run before has kept; none in the first one.
///
/// # Errors
/// When there is something that cannot be read.
pub fn kept() -> Result<Option<Vec<u8>>, Error> {
    file::read()
}

/// Writes what is left of the output, keeps `state`, and ends this run.
///
/// # Errors
/// When that is not possible.
pub fn run_again(state: &[u8], output: &mut Output) -> Result<(), Error> {
    output.flush()?;
    file::write(state)?;
    system::exit(AGAIN)
}
