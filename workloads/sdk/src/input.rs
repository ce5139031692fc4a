//! Standard input: in blocks, in lines or whole.

use alloc::vec::Vec;

use crate::{Error, system};

/// Bytes asked for at once; larger reads save nothing, smaller ones cost a call each.
const BLOCK_BYTES: usize = 64 * 1024;

/// Where input comes from: standard input, or a slice in tests.
pub trait Source {
    /// Reads into `buffer`; 0 is the end.
    ///
    /// # Errors
    /// A failure where the bytes cannot be read.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error>;
}

/// The program's standard input.
#[derive(Debug, Clone, Copy)]
pub struct Stdin;

impl Source for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        system::read(buffer)
    }
}

impl Source for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = buffer.len().min(self.len());
        let (taken, rest) = self.split_at(count);
        buffer[..count].copy_from_slice(taken);
        *self = rest;
        Ok(count)
    }
}

/// Input that is read as it is needed. The buffer grows only for a line that is longer than it.
#[derive(Debug)]
pub struct Input<S> {
    source: S,
    buffer: Vec<u8>,
    /// What was read and not handed out yet is `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl Input<Stdin> {
    /// The program's standard input.
    pub fn stdin() -> Self {
        Self::new(Stdin)
    }
}

impl<S: Source> Input<S> {
    /// Input from `source`.
    pub fn new(source: S) -> Self {
        Self { source, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// The next bytes as they come; nothing at the end.
    ///
    /// # Errors
    /// A failure where the input cannot be read.
    pub fn block(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.start == self.end && self.fill()? == 0 {
            return Ok(None);
        }
        let block = self.start..self.end;
        self.start = self.end;
        Ok(Some(&self.buffer[block]))
    }

    /// The next line without its `\n` or `\r\n`; nothing at the end. The last line needs no line end.
    ///
    /// # Errors
    /// A failure where the input cannot be read.
    pub fn line(&mut self) -> Result<Option<&[u8]>, Error> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = unread[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.start + searched + found;
                self.start = line.end + 1;
                return Ok(Some(without_return(&self.buffer[line])));
            }
            searched = unread.len();
            if self.fill()? == 0 {
                let line = self.start..self.end;
                self.start = self.end;
                return Ok(if line.is_empty() { None } else { Some(without_return(&self.buffer[line])) });
            }
        }
    }

    /// Everything that is left.
    ///
    /// # Errors
    /// A failure where the input cannot be read.
    pub fn all(mut self) -> Result<Vec<u8>, Error> {
        while self.fill()? > 0 {}
        self.buffer.truncate(self.end);
        self.buffer.drain(..self.start);
        Ok(self.buffer)
    }

    /// Reads once behind the unread bytes, which it first moves to the front; how many came, 0 at the end.
    fn fill(&mut self) -> Result<usize, Error> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + BLOCK_BYTES {
            let doubled = self.buffer.len() * 2;
            self.buffer.resize(doubled.max(self.end + BLOCK_BYTES), 0);
        }
        let count = self.source.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }
}

/// The line without the carriage return that some systems put before the line end.
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, as a pipe does.
    struct Trickle<'a>(&'a [u8], usize);

    impl Source for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
            let count = self.1.min(self.0.len());
            self.0.read(&mut buffer[..count])
        }
    }

    fn lines(source: impl Source) -> Vec<Vec<u8>> {
        let mut input = Input::new(source);
        let mut found = Vec::new();
        while let Some(line) = input.line().expect("a slice can be read") {
            found.push(line.to_vec());
        }
        found
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_come() {
        let text = b"one\ntwo\r\n\nfour and more\nlast";
        for at_once in 1..=text.len() {
            assert_eq!(lines(Trickle(text, at_once)), [&b"one"[..], b"two", b"", b"four and more", b"last"]);
        }
        assert_eq!(lines(&b""[..]), Vec::<Vec<u8>>::new());
        assert_eq!(lines(&b"\n"[..]), [b""]);
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_one_line() {
        let mut text = alloc::vec![b'x'; 3 * BLOCK_BYTES + 5];
        text.extend_from_slice(b"\nend\n");
        let found = lines(Trickle(&text, 1000));
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3 * BLOCK_BYTES + 5, 3]);
    }

    #[test]
    fn the_whole_input_and_the_blocks_are_the_input() {
        let text: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        assert_eq!(Input::new(&text[..]).all(), Ok(text.clone()));
        let mut input = Input::new(Trickle(&text, 777));
        let mut joined = Vec::new();
        while let Some(block) = input.block().expect("a slice can be read") {
            joined.extend_from_slice(block);
        }
        assert_eq!(joined, text);
    }

    #[test]
    fn all_after_a_line_is_the_rest() {
        let mut input = Input::new(&b"head\nrest\nmore"[..]);
        assert_eq!(input.line(), Ok(Some(&b"head"[..])));
        assert_eq!(input.all(), Ok(b"rest\nmore".to_vec()));
    }
}
