//! Why a workload could not finish.

use crate::system;

/// A message for standard error and an exit code.
///
/// A WASI command has no richer channel than this, so the message is text: a fixed sentence and the thing that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: &'static str,
    about: Option<&'static str>,
    exit_code: u8,
}

impl Error {
    /// The exit code of a failure: unreadable input, a limit of the algorithm, output that cannot be written.
    pub const FAILURE: u8 = 1;
    /// The exit code of a wrong command line.
    pub const USAGE: u8 = 2;

    /// A failure with a message in lower case and without a full stop.
    pub const fn failure(message: &'static str) -> Self {
        Self { message, about: None, exit_code: Self::FAILURE }
    }

    /// A wrong command line; the usage text is printed below the message.
    pub const fn usage(message: &'static str) -> Self {
        Self { message, about: None, exit_code: Self::USAGE }
    }

    /// The same error with the offending text behind the message.
    #[must_use]
    pub const fn about(self, text: &'static str) -> Self {
        Self { about: Some(text), ..self }
    }

    /// The exit code that the program ends with.
    pub const fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// The fixed part of the message.
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// Prints `error: MESSAGE: ABOUT` on standard error.
    pub(crate) fn print(&self) {
        system::write_error(b"error: ");
        system::write_error(self.message.as_bytes());
        if let Some(about) = self.about {
            system::write_error(b": ");
            system::write_error(about.as_bytes());
        }
        system::write_error(b"\n");
    }
}

impl From<&'static str> for Error {
    fn from(message: &'static str) -> Self {
        Self::failure(message)
    }
}
