//! What a command ends in when it cannot do its work: what happened, why, what to try; and the exit code.

use super::exit::Exit;
use crate::control::error::ControlError;
use serde::Serialize;
use std::io;

/// A failed command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What the process returns.
    pub exit: Exit,
    /// A stable word for programs.
    pub reason: String,
    /// What happened, to what; lower case, no full stop.
    pub message: String,
    /// Why; empty where the message says it all. May have several lines.
    pub cause: String,
    /// What to try, a command where there is one.
    pub hints: Vec<String>,
}

/// Whoever reads our standard output has gone; that is no error, and nobody is there to read one.
const READER_GONE: &str = "READER_GONE";

impl Failure {
    /// A failure without cause and hints.
    pub fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        Self { exit, reason: reason.to_owned(), message: message.into(), cause: String::new(), hints: Vec::new() }
    }

    /// Wrong use of a command.
    pub fn usage(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, reason, message)
    }

    /// A part of the program that this build does not have.
    pub fn not_built(what: &str) -> Self {
        Self::new(Exit::Other, "NOT_BUILT", format!("{what} is not part of this build"))
    }

    /// The same with its cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// The same with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Our own output could not be written.
    pub fn writing(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, READER_GONE, "");
        }
        Self::new(Exit::Other, "OUTPUT", "the output cannot be written").cause(error.to_string())
    }

    /// Whether there is nothing to tell.
    pub fn is_silent(&self) -> bool {
        self.reason == READER_GONE
    }

    /// As people read it: `error:`, `cause:`, `try:`.
    pub fn for_people(&self, color: bool) -> String {
        let (red, off) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{red}error:{off} {}\n", self.message);
        for (i, line) in self.cause.lines().enumerate() {
            text += &format!("  {} {line}\n", if i == 0 { "cause:" } else { "      " });
        }
        for (i, hint) in self.hints.iter().enumerate() {
            text += &format!("  {}   {hint}\n", if i == 0 { "try:" } else { "    " });
        }
        text
    }

    /// As programs read it: one line of JSON.
    pub fn for_programs(&self) -> String {
        #[derive(Serialize)]
        struct View<'a> {
            schema: &'static str,
            reason: &'a str,
            message: &'a str,
            cause: Option<&'a str>,
            hints: &'a [String],
            exit_code: u8,
        }
        let view = View {
            schema: "manyhands.error/v1",
            reason: &self.reason,
            message: &self.message,
            cause: Some(self.cause.as_str()).filter(|cause| !cause.is_empty()),
            hints: &self.hints,
            exit_code: self.exit.code(),
        };
        serde_json::to_string(&view).expect("strings and numbers") + "\n"
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let (exit, reason) = (error.kind.into(), error.reason.into_owned());
        Self { exit, reason, message: error.message, cause: error.cause, hints: error.hints }
    }
}
