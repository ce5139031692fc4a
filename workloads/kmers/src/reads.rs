//! FASTA and FASTQ in blocks that may end anywhere.
//!
//! Sequences and qualities may stretch over several lines in both formats, lines may end in CRLF, and lines without
//! anything are skipped. A FASTQ record's quality ends when it is as long as its sequence, as nothing else tells a
//! quality that starts with `@` from the next record.

use workload::Error;

/// A part of the input that matters.
#[derive(Debug, PartialEq)]
pub enum Piece<'a> {
    /// A new sequence begins.
    Break,
    /// Letters of the sequence.
    Bases(&'a [u8]),
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    /// Before the first record.
    Start,
    /// A record's first line; what comes below it.
    Title(Format),
    /// A sequence.
    Sequence(Format),
    /// The line between a FASTQ sequence and its quality.
    Plus,
    /// A FASTQ quality.
    Quality,
    /// Behind a FASTQ record.
    Between,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Fasta,
    Fastq,
}

/// Reads records.
#[derive(Debug)]
pub struct Parser {
    part: Part,
    line_begins: bool,
    /// Letters of the FASTQ sequence which have no quality yet.
    owed: u64,
}

impl Default for Parser {
    fn default() -> Self {
        Self { part: Part::Start, line_begins: true, owed: 0 }
    }
}

impl Parser {
    /// Takes the next piece from the front of `rest`; nothing once it is used up.
    pub fn next_piece<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Error> {
        while let Some(first) = rest.first() {
            if is_line_end(*first) {
                self.end_line(*first);
                *rest = &rest[1..];
                continue;
            }
            if core::mem::take(&mut self.line_begins) && self.begin_line(*first)? {
                *rest = &rest[1..];
                return Ok(Some(Piece::Break));
            }
            let length = rest.iter().position(|byte| is_line_end(*byte)).unwrap_or(rest.len());
            let (line, behind) = rest.split_at(length);
            *rest = behind;
            match self.part {
                Part::Sequence(_) => {
                    self.owed += length as u64;
                    return Ok(Some(Piece::Bases(line)));
                }
                Part::Quality => {
                    self.owed = self.owed.checked_sub(length as u64).ok_or(LONG_QUALITY)?;
                }
                Part::Start | Part::Title(_) | Part::Plus | Part::Between => {}
            }
        }
        Ok(None)
    }

    /// Ends the input.
    pub fn finish(self) -> Result<(), Error> {
        let complete = match self.part {
            Part::Start | Part::Between | Part::Title(Format::Fasta) | Part::Sequence(Format::Fasta) => true,
            Part::Title(Format::Fastq) | Part::Sequence(Format::Fastq) => false,
            Part::Plus | Part::Quality => self.owed == 0,
        };
        if complete { Ok(()) } else { Err(Error::failure("the last FASTQ record is not complete")) }
    }

    /// The first byte of a line that is not empty; true where a record begins with it.
    fn begin_line(&mut self, first: u8) -> Result<bool, Error> {
        self.part = match (self.part, first) {
            (Part::Start | Part::Sequence(Format::Fasta), b'>') => Part::Title(Format::Fasta),
            (Part::Start | Part::Between, b'@') => Part::Title(Format::Fastq),
            (Part::Start, _) => return Err(Error::failure("the input is neither FASTA nor FASTQ")),
            (Part::Between, _) => return Err(Error::failure("a FASTQ record does not begin with @, or its quality is too long")),
            (Part::Sequence(Format::Fastq), b'+') => Part::Plus,
            (part, _) => part,
        };
        let begins = matches!(self.part, Part::Title(_));
        if begins {
            self.owed = 0;
        }
        Ok(begins)
    }

    /// The end of a line, or of a part of one, as CRLF is two.
    fn end_line(&mut self, end: u8) {
        self.line_begins = true;
        if end == b'\r' {
            return;
        }
        self.part = match self.part {
            Part::Title(format) => Part::Sequence(format),
            Part::Plus if self.owed > 0 => Part::Quality,
            Part::Plus => Part::Between,
            Part::Quality if self.owed == 0 => Part::Between,
            part @ (Part::Start | Part::Sequence(_) | Part::Quality | Part::Between) => part,
        };
    }
}

const LONG_QUALITY: Error = Error::failure("a FASTQ quality is longer than its sequence");

const fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}
