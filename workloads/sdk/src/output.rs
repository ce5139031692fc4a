//! Standard output, buffered.

use alloc::vec::Vec;

use crate::decimal::{DIGITS_MAX, digits};
use crate::{Error, system};

/// The buffer is written once it holds this many bytes.
const BLOCK_BYTES: usize = 64 * 1024;

/// Buffered output. What is left in the buffer is written when the workload's function succeeds, not when it fails.
#[derive(Debug)]
pub struct Output {
    buffer: Vec<u8>,
    /// False in tests, where the buffer keeps everything.
    writes: bool,
}

impl Output {
    /// The program's standard output.
    pub(crate) const fn stdout() -> Self {
        Self { buffer: Vec::new(), writes: true }
    }

    /// Output that stays in memory, for tests.
    pub const fn in_memory() -> Self {
        Self { buffer: Vec::new(), writes: false }
    }

    /// What is in the buffer; all of the output where it stays in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// A failure where standard output is full or closed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends `number` in decimal digits.
    ///
    /// # Errors
    /// A failure where standard output is full or closed.
    pub fn number(&mut self, number: u64) -> Result<(), Error> {
        self.write(digits(number, &mut [0; DIGITS_MAX]))
    }

    /// Writes what is in the buffer.
    ///
    /// # Errors
    /// A failure where standard output is full or closed.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.writes {
            system::write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}
