//! The command line: options first taken by name, then positions in order, then nothing may be left.

use alloc::vec::Vec;

use crate::{Error, number_from, system};

/// The arguments which the workload has not taken yet, without the program's name.
#[derive(Debug, Clone)]
pub struct Args {
    rest: Vec<&'static str>,
}

impl Args {
    /// The arguments of this program.
    pub(crate) fn of_program() -> Result<Self, Error> {
        let mut rest = system::arguments()?;
        if !rest.is_empty() {
            rest.remove(0);
        }
        Ok(Self { rest })
    }

    /// Arguments from words, for tests.
    pub fn from_words(words: &[&'static str]) -> Self {
        Self { rest: words.to_vec() }
    }

    /// Whether `--help` is the first argument.
    pub(crate) fn asks_for_help(&mut self) -> bool {
        self.rest.first().is_some_and(|word| *word == "--help")
    }

    /// Takes the flag `name`, such as `--canonical`; true where it was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.rest.iter().position(|word| *word == name);
        if let Some(position) = found {
            self.rest.remove(position);
        }
        found.is_some()
    }

    /// Takes the option `name` with its value, given as two words.
    ///
    /// # Errors
    /// A usage error where the value is missing.
    pub fn option(&mut self, name: &'static str) -> Result<Option<&'static str>, Error> {
        let Some(position) = self.rest.iter().position(|word| *word == name) else { return Ok(None) };
        self.rest.remove(position);
        if position == self.rest.len() {
            return Err(Error::usage("an option needs a value").about(name));
        }
        Ok(Some(self.rest.remove(position)))
    }

    /// Takes the option `name` as a decimal number, or `default` where it was not given.
    ///
    /// # Errors
    /// A usage error where the value is missing or no decimal number below 2^64.
    pub fn option_number(&mut self, name: &'static str, default: u64) -> Result<u64, Error> {
        match self.option(name)? {
            None => Ok(default),
            Some(word) => number_from(word.as_bytes()).ok_or_else(|| Error::usage("an option is not a number").about(name)),
        }
    }

    /// Takes the next argument.
    ///
    /// # Errors
    /// A usage error that says `name` where there is none.
    pub fn word(&mut self, name: &'static str) -> Result<&'static str, Error> {
        if self.rest.is_empty() {
            return Err(Error::usage("an argument is missing").about(name));
        }
        Ok(self.rest.remove(0))
    }

    /// Takes the next argument as a decimal number.
    ///
    /// # Errors
    /// A usage error where there is none, or where it is no decimal number below 2^64.
    pub fn number(&mut self, name: &'static str) -> Result<u64, Error> {
        let word = self.word(name)?;
        number_from(word.as_bytes()).ok_or_else(|| Error::usage("an argument is not a number").about(name))
    }

    /// Takes two numbers, the first and one past the last of a range.
    ///
    /// # Errors
    /// A usage error where one is missing or no number, or where the range ends before it starts.
    pub fn range(&mut self) -> Result<core::ops::Range<u64>, Error> {
        let start = self.number("START")?;
        let end = self.number("END")?;
        if start > end { Err(Error::usage("START is greater than END")) } else { Ok(start..end) }
    }

    /// Ends the command line.
    ///
    /// # Errors
    /// A usage error where arguments are left.
    pub fn finish(self) -> Result<(), Error> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(Error::usage("unexpected argument").about(word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_wherever_they_stand() {
        let mut args = Args::from_words(&["1", "--width", "640", "--fast", "9"]);
        assert_eq!(args.option_number("--width", 5), Ok(640));
        assert_eq!(args.option_number("--height", 5), Ok(5));
        assert!(args.flag("--fast") && !args.flag("--fast"));
        assert_eq!(args.range(), Ok(1..9));
        assert_eq!(args.finish(), Ok(()));
    }

    #[test]
    fn wrong_command_lines_are_usage_errors_which_name_the_argument() {
        let missing = Args::from_words(&["1"]).range();
        assert_eq!(missing, Err(Error::usage("an argument is missing").about("END")));
        let letters = Args::from_words(&["1x"]).number("START");
        assert_eq!(letters, Err(Error::usage("an argument is not a number").about("START")));
        let valueless = Args::from_words(&["--width"]).option("--width");
        assert_eq!(valueless, Err(Error::usage("an option needs a value").about("--width")));
        assert_eq!(Args::from_words(&["9", "1"]).range(), Err(Error::usage("START is greater than END")));
        assert_eq!(Args::from_words(&["9"]).finish(), Err(Error::usage("unexpected argument").about("9")));
    }
}
