//! Cuts a stream of bytes into units: by lines, CSV records, JSON lines or size.
//!
//! Bytes go in as they come, pieces come out at once, so memory is bounded by the CSV header however large the input is. Not
//! a parser: it finds where records end and changes nothing in them, but that it drops a byte order mark in front of text,
//! blank lines of JSON lines and CSV, and repeats the CSV header.

use core::num::NonZeroU64;

/// The longest CSV header that is kept to be repeated; a thousand columns of a thousand bytes.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a unit consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// So many lines, each with its line ending; the last may lack one.
    Lines(NonZeroU64),
    /// So many CSV records, with the header in front. A quoted field may contain line breaks.
    Csv(NonZeroU64),
    /// So many JSON lines; blank lines do not count.
    Jsonl(NonZeroU64),
    /// So many bytes.
    Bytes(NonZeroU64),
}

/// A part of a unit, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// Bytes of the current unit.
    Data(&'a [u8]),
    /// The current unit is complete.
    End,
}

/// Why an input cannot be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SplitError {
    /// There is no record, so there would be no unit.
    #[error("the input has no records")]
    Empty,
    /// A CSV file with nothing below its header.
    #[error("the input has a header and no records")]
    OnlyHeader,
    /// The header exceeds [`HEADER_BYTES_MAX`]: probably the file is no CSV, or a quote is missing.
    #[error("the header in line 1 is longer than 1 MiB")]
    HeaderTooLong,
    /// A quoted CSV field never ends.
    #[error("the quoted field that begins in line {line} has no closing quote")]
    OpenQuote {
        /// Counted from one.
        line: u64,
    },
    /// A line that cannot be a JSON value.
    #[error("line {line} is not JSON")]
    NotJson {
        /// Counted from one.
        line: u64,
    },
}

/// A cut in progress. Feed it with [`Splitter::push`], end with [`Splitter::finish`].
#[derive(Clone, Debug)]
pub struct Splitter {
    cut: Cut,
    /// The first bytes of the input, held back until it is clear whether they are a byte order mark.
    start: Option<Vec<u8>>,
    /// The CSV header; complete once `header_done`.
    header: Vec<u8>,
    header_done: bool,
    /// The current unit has its CSV header.
    unit_begun: bool,
    /// Records (or bytes) of the current unit so far.
    filled: u64,
    /// Something of the current record has been seen.
    in_record: bool,
    field: Field,
    line: u64,
    quote_line: u64,
    units: u64,
}

/// Where in a CSV record we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Start,
    Plain,
    Quoted,
    QuoteInQuoted,
}

impl Splitter {
    /// A cut that has seen nothing yet.
    pub fn new(cut: Cut) -> Self {
        let start = match cut {
            Cut::Lines(_) | Cut::Csv(_) | Cut::Jsonl(_) => Some(Vec::new()),
            Cut::Bytes(_) => None,
        };
        let (header, field) = (Vec::new(), Field::Start);
        let (header_done, unit_begun, in_record) = (false, false, false);
        Self { cut, start, header, header_done, unit_begun, filled: 0, in_record, field, line: 1, quote_line: 0, units: 0 }
    }

    /// Units that are complete.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Takes the next bytes and hands their pieces to `emit`.
    ///
    /// # Errors
    /// The input breaks its format; the splitter is of no further use.
    pub fn push(&mut self, bytes: &[u8], emit: &mut impl FnMut(Piece<'_>)) -> Result<(), SplitError> {
        let Some(mut start) = self.start.take() else { return self.cut_bytes(bytes, emit) };
        start.extend_from_slice(bytes);
        if start.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&start) {
            self.start = Some(start);
            return Ok(());
        }
        self.cut_bytes(start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start), emit)
    }

    /// Ends the input: completes the last unit and returns the number of units.
    ///
    /// # Errors
    /// There was no record, or the last one is not complete.
    pub fn finish(mut self, emit: &mut impl FnMut(Piece<'_>)) -> Result<u64, SplitError> {
        if let Some(start) = self.start.take() {
            self.cut_bytes(&start, emit)?;
        }
        if self.field == Field::Quoted {
            return Err(SplitError::OpenQuote { line: self.quote_line });
        }
        if self.filled > 0 || (self.in_record && !self.in_header()) {
            self.end_unit(emit);
        }
        match self.units {
            0 if self.header.is_empty() => Err(SplitError::Empty),
            0 => Err(SplitError::OnlyHeader),
            units => Ok(units),
        }
    }

    fn in_header(&self) -> bool {
        matches!(self.cut, Cut::Csv(_)) && !self.header_done
    }

    fn cut_bytes(&mut self, bytes: &[u8], emit: &mut impl FnMut(Piece<'_>)) -> Result<(), SplitError> {
        match self.cut {
            Cut::Bytes(size) => self.cut_by_size(bytes, size.get(), emit),
            Cut::Lines(per_unit) => self.cut_by_line(bytes, per_unit.get(), emit),
            Cut::Csv(per_unit) => return self.cut_by_record(bytes, per_unit.get(), emit),
            Cut::Jsonl(per_unit) => return self.cut_by_json_line(bytes, per_unit.get(), emit),
        }
        Ok(())
    }

    fn cut_by_size(&mut self, mut bytes: &[u8], size: u64, emit: &mut impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = usize::try_from(size - self.filled).unwrap_or(usize::MAX);
            let (data, rest) = bytes.split_at(room.min(bytes.len()));
            emit(Piece::Data(data));
            self.filled += data.len() as u64;
            if self.filled == size {
                self.end_unit(emit);
            }
            bytes = rest;
        }
    }

    fn cut_by_line(&mut self, bytes: &[u8], per_unit: u64, emit: &mut impl FnMut(Piece<'_>)) {
        let mut from = 0;
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.filled += 1;
            self.in_record = false;
            if self.filled == per_unit {
                emit(Piece::Data(&bytes[from..=at]));
                self.end_unit(emit);
                from = at + 1;
            }
        }
        if from < bytes.len() {
            emit(Piece::Data(&bytes[from..]));
            self.in_record = bytes.last() != Some(&b'\n');
        }
    }

    /// Goes line by line, so that blank ones can be left out.
    fn cut_by_json_line(&mut self, bytes: &[u8], per_unit: u64, emit: &mut impl FnMut(Piece<'_>)) -> Result<(), SplitError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = if self.in_record { piece } else { piece.trim_ascii_start() };
            if let (false, Some(first)) = (self.in_record, text.first()) {
                if !first.is_ascii_digit() && !b"{[\"-tfn".contains(first) {
                    return Err(SplitError::NotJson { line: self.line });
                }
                self.in_record = true;
            }
            if !text.is_empty() {
                emit(Piece::Data(text));
            }
            if piece.ends_with(b"\n") {
                self.line += 1;
                self.end_record(per_unit, emit);
            }
        }
        Ok(())
    }

    fn cut_by_record(&mut self, bytes: &[u8], per_unit: u64, emit: &mut impl FnMut(Piece<'_>)) -> Result<(), SplitError> {
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let ends = self.step(byte);
            let blank = matches!(byte, b'\r' | b'\n') && !self.in_record;
            if blank {
                from = at + 1;
                continue;
            }
            self.in_record = true;
            if ends {
                self.take(&bytes[from..=at], emit)?;
                from = at + 1;
                self.end_record(per_unit, emit);
            }
        }
        if from < bytes.len() { self.take(&bytes[from..], emit) } else { Ok(()) }
    }

    /// Moves through a CSV record; whether this byte ends it.
    fn step(&mut self, byte: u8) -> bool {
        self.line += u64::from(byte == b'\n');
        self.field = match (self.field, byte) {
            (Field::Quoted, b'"') => Field::QuoteInQuoted,
            (Field::Quoted, _) => Field::Quoted,
            (Field::Start, b'"') => {
                self.quote_line = self.line;
                Field::Quoted
            }
            (Field::QuoteInQuoted, b'"') => Field::Quoted,
            (Field::Start | Field::Plain | Field::QuoteInQuoted, b',' | b';' | b'\t' | b'\n') => Field::Start,
            (Field::Start | Field::Plain | Field::QuoteInQuoted, _) => Field::Plain,
        };
        byte == b'\n' && self.field == Field::Start
    }

    /// Bytes of a CSV record: of the header, or of a unit, which begins with the header.
    fn take(&mut self, data: &[u8], emit: &mut impl FnMut(Piece<'_>)) -> Result<(), SplitError> {
        if !self.header_done {
            if self.header.len() + data.len() > HEADER_BYTES_MAX {
                return Err(SplitError::HeaderTooLong);
            }
            self.header.extend_from_slice(data);
            return Ok(());
        }
        if !self.unit_begun {
            self.unit_begun = true;
            emit(Piece::Data(&self.header));
        }
        emit(Piece::Data(data));
        Ok(())
    }

    fn end_record(&mut self, per_unit: u64, emit: &mut impl FnMut(Piece<'_>)) {
        if !self.in_record {
            return;
        }
        self.in_record = false;
        if self.in_header() {
            self.header_done = true;
            return;
        }
        self.filled += 1;
        if self.filled == per_unit {
            self.end_unit(emit);
        }
    }

    fn end_unit(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        emit(Piece::End);
        self.units += 1;
        self.filled = 0;
        self.in_record = false;
        self.unit_begun = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).expect("not zero")
    }

    /// The units of `input`, fed in pieces of `step` bytes.
    fn units(cut: Cut, input: &str, step: usize) -> Result<Vec<String>, SplitError> {
        let (mut splitter, mut done, mut open) = (Splitter::new(cut), Vec::new(), Vec::new());
        let mut emit = |piece: Piece<'_>| match piece {
            Piece::Data(data) => open.extend_from_slice(data),
            Piece::End => done.push(String::from_utf8(core::mem::take(&mut open)).expect("text")),
        };
        for bytes in input.as_bytes().chunks(step) {
            splitter.push(bytes, &mut emit)?;
        }
        let count = splitter.finish(&mut emit)?;
        assert!(open.is_empty(), "data after the last unit");
        assert_eq!(count, done.len() as u64);
        Ok(done)
    }

    /// The same, however the input is cut into reads.
    fn check(cut: Cut, input: &str, expect: &[&str]) {
        for step in [1, 2, 3, 7, usize::MAX] {
            assert_eq!(units(cut, input, step), Ok(expect.iter().map(|unit| (*unit).to_owned()).collect()), "{input:?} by {step}");
        }
    }

    fn fails(cut: Cut, input: &str, expect: SplitError) {
        for step in [1, 2, usize::MAX] {
            assert_eq!(units(cut, input, step), Err(expect), "{input:?} by {step}");
        }
    }

    #[test]
    fn lines() {
        check(Cut::Lines(n(1)), "a\nb\n", &["a\n", "b\n"]);
        check(Cut::Lines(n(2)), "a\nb\nc\n", &["a\nb\n", "c\n"]);
        check(Cut::Lines(n(2)), "a\nb\nc", &["a\nb\n", "c"]);
        check(Cut::Lines(n(2)), "a\nb", &["a\nb"]);
        check(Cut::Lines(n(9)), "a", &["a"]);
        check(Cut::Lines(n(1)), "a\r\nb\r\n", &["a\r\n", "b\r\n"]);
        check(Cut::Lines(n(1)), "\n\n", &["\n", "\n"]);
        check(Cut::Lines(n(1)), "\u{feff}a\nb", &["a\n", "b"]);
        check(Cut::Lines(n(1)), "a\u{feff}\n", &["a\u{feff}\n"]);
        fails(Cut::Lines(n(1)), "", SplitError::Empty);
        fails(Cut::Lines(n(1)), "\u{feff}", SplitError::Empty);
        check(Cut::Lines(n(1)), "\u{ff}", &["\u{ff}"]);
    }

    #[test]
    fn csv_repeats_its_header() {
        check(Cut::Csv(n(1)), "h\n1\n2\n", &["h\n1\n", "h\n2\n"]);
        check(Cut::Csv(n(2)), "h\n1\n2\n3", &["h\n1\n2\n", "h\n3"]);
        check(Cut::Csv(n(1)), "h\r\n1\r\n2\r\n", &["h\r\n1\r\n", "h\r\n2\r\n"]);
        check(Cut::Csv(n(1)), "\u{feff}h\n1\n", &["h\n1\n"]);
        check(Cut::Csv(n(1)), "\n\r\nh\n\n1\n\r\n\n2\n\n", &["h\n1\n", "h\n2\n"]);
        fails(Cut::Csv(n(1)), "h\n", SplitError::OnlyHeader);
        fails(Cut::Csv(n(1)), "h", SplitError::OnlyHeader);
        fails(Cut::Csv(n(1)), "", SplitError::Empty);
    }

    #[test]
    fn csv_quotes_may_hold_anything() {
        check(Cut::Csv(n(1)), "a,b\n\"x\ny\",1\nz,2\n", &["a,b\n\"x\ny\",1\n", "a,b\nz,2\n"]);
        check(Cut::Csv(n(1)), "a\n\"say \"\"hi\n\"\"\"\nz\n", &["a\n\"say \"\"hi\n\"\"\"\n", "a\nz\n"]);
        check(Cut::Csv(n(1)), "a\n5\" pipe\nz\n", &["a\n5\" pipe\n", "a\nz\n"]);
        check(Cut::Csv(n(1)), "\"a\nb\"\n1\n", &["\"a\nb\"\n1\n"]);
        check(Cut::Csv(n(1)), "a\n\"x\"", &["a\n\"x\""]);
        fails(Cut::Csv(n(1)), "a\n1\n\"x\n2\n", SplitError::OpenQuote { line: 3 });
        fails(Cut::Csv(n(1)), &format!("\"{}", "x".repeat(HEADER_BYTES_MAX)), SplitError::HeaderTooLong);
    }

    #[test]
    fn json_lines() {
        check(Cut::Jsonl(n(1)), "{\"a\":1}\n[2]\n", &["{\"a\":1}\n", "[2]\n"]);
        check(Cut::Jsonl(n(2)), "1\n\n \n2\n\"x\"", &["1\n2\n", "\"x\""]);
        check(Cut::Jsonl(n(1)), "\u{feff}true\r\nnull\r\n\r\n", &["true\r\n", "null\r\n"]);
        check(Cut::Jsonl(n(1)), "  {}\n", &["{}\n"]);
        fails(Cut::Jsonl(n(1)), "{}\n<html>\n", SplitError::NotJson { line: 2 });
        fails(Cut::Jsonl(n(1)), "\n\n", SplitError::Empty);
    }

    #[test]
    fn bytes() {
        check(Cut::Bytes(n(3)), "abcdefgh", &["abc", "def", "gh"]);
        check(Cut::Bytes(n(4)), "abcdefgh", &["abcd", "efgh"]);
        check(Cut::Bytes(n(1 << 40)), "\u{feff}ab", &["\u{feff}ab"]);
        fails(Cut::Bytes(n(3)), "", SplitError::Empty);
    }
}
