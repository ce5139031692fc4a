//! Counts k-mers of FASTA or FASTQ, see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

extern crate alloc;

mod kmer;
mod reads;
mod table;

use workload::{Args, Error, Input, Output, Source};

use crate::kmer::{Kmer, LENGTH_MAX, Window};
use crate::reads::{Parser, Piece};
use crate::table::Table;

const USAGE: &str = "usage: kmers [--canonical] K    count the k-mers of FASTA or FASTQ on standard input, K from 1 to 31
       kmers --merge               add up the counts of several units on standard input

Writes a line KMER<tab>COUNT for each k-mer, sorted. Lower case counts as upper case; other letters than A, C, G and T
break k-mers. With --canonical a k-mer and its reverse complement count as one, the one that sorts first.";

fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
    if args.flag("--merge") {
        args.finish()?;
        let (length, table) = merge(&mut Input::stdin())?;
        return write(table, length, output);
    }
    let canonical = args.flag("--canonical");
    let length = args.number("K")?;
    args.finish()?;
    if !(1..=u64::from(LENGTH_MAX)).contains(&length) {
        return Err(Error::usage("K is not between 1 and 31"));
    }
    let length = length as u32;
    write(count(&mut Input::stdin(), length, canonical)?, length, output)
}

workload::command!(run, USAGE);

/// Counts the k-mers of sequences.
fn count(input: &mut Input<impl Source>, length: u32, canonical: bool) -> Result<Table, Error> {
    let mut parser = Parser::default();
    let mut window = Window::new(length, canonical);
    let mut table = Table::default();
    while let Some(block) = input.block()? {
        let mut rest = block;
        while let Some(piece) = parser.next_piece(&mut rest)? {
            match piece {
                Piece::Break => window.clear(),
                Piece::Bases(bases) => {
                    for base in bases {
                        if let Some(kmer) = window.push(*base) {
                            table.add(kmer, 1)?;
                        }
                    }
                }
            }
        }
    }
    parser.finish()?;
    Ok(table)
}

/// Adds up counts; also says how long the k-mers are, 0 where there are none.
fn merge(input: &mut Input<impl Source>) -> Result<(u32, Table), Error> {
    const MALFORMED: Error = Error::failure("a line is not KMER<tab>COUNT");
    let mut table = Table::default();
    let mut length = 0;
    while let Some(line) = input.line()? {
        if line.is_empty() {
            continue;
        }
        let tab = line.iter().position(|byte| *byte == b'\t').ok_or(MALFORMED)?;
        let kmer = Kmer::from_bases(&line[..tab]).ok_or(MALFORMED)?;
        let count = workload::number_from(&line[tab + 1..]).ok_or(MALFORMED)?;
        if length != 0 && length != tab as u32 {
            return Err(Error::failure("the k-mers are not all of one length"));
        }
        length = tab as u32;
        table.add(kmer, count)?;
    }
    Ok((length, table))
}

/// Writes the counts in the k-mers' order.
fn write(table: Table, length: u32, output: &mut Output) -> Result<(), Error> {
    for (kmer, count) in table.into_sorted() {
        let (bases, unused) = kmer.to_bases(length);
        output.write(&bases[unused..])?;
        output.write(b"\t")?;
        output.number(count)?;
        output.write(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(input: &[u8], length: u32, canonical: bool) -> String {
        let mut output = Output::in_memory();
        let table = count(&mut Input::new(input), length, canonical).expect("valid input");
        write(table, length, &mut output).expect("memory takes everything");
        String::from_utf8(output.bytes().to_vec()).expect("output is ASCII")
    }

    #[test]
    fn line_ends_and_case_do_not_matter_and_other_letters_break() {
        let expected = "AAC\t1\nACG\t2\nCGT\t1\n";
        assert_eq!(counted(b">one\nAACGNNACGT\n", 3, false), expected);
        assert_eq!(counted(b">one x\r\naA\r\ncG\r\nnN\r\nAcGt", 3, false), expected);
        assert_eq!(counted(b"@one\nAACG\n+\n>@+@\n@two\nACGT\n+two\n@@@@\n", 3, false), expected);
        assert_eq!(counted(b"@one\r\nAA\r\nCG\r\n+\r\n@I\r\n+I\r\n@two\r\nACGT\r\n+\r\nIIII", 3, false), expected);
    }

    #[test]
    fn records_are_not_joined() {
        assert_eq!(counted(b">a\nAC\n>b\nGT\n", 3, false), "");
        assert_eq!(counted(b">a\nAC\n\n>b\nGTT\n", 3, false), "GTT\t1\n");
        assert_eq!(counted(b"", 3, false), "");
    }

    #[test]
    fn canonical_counts_join_both_strands() {
        assert_eq!(counted(b">a\nACGTT\n", 3, true), "AAC\t1\nACG\t2\n");
        assert_eq!(counted(b">a\nTTTTT\n", 5, true), "AAAAA\t1\n");
        assert_eq!(counted(b">a\nTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT\n", 31, true), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\t1\n");
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let parts = counted(b">a\nACGTTACG\n", 2, false) + &counted(b">b\nGGACCA\n", 2, false);
        let (length, table) = merge(&mut Input::new(parts.as_bytes())).expect("valid counts");
        let mut output = Output::in_memory();
        write(table, length, &mut output).expect("memory takes everything");
        assert_eq!(output.bytes(), counted(b">a\nACGTTACG\n>b\nGGACCA\n", 2, false).as_bytes());
    }

    #[test]
    fn what_is_not_sequence_or_counts_is_refused() {
        for input in ["ACGT\n", "\n\nx", "@a\nAC\n", "@a\nAC\n+\nI", "@a\nAC\n+\nIII\n", "@a\nAC\n+\nII\nxx\n"] {
            assert!(count(&mut Input::new(input.as_bytes()), 2, false).is_err(), "{input:?}");
        }
        for input in ["AC 1\n", "AN\t1\n", "AC\t\n", "\t1\n", "AC\t1\nA\t1\n", "AC\t18446744073709551615\nAC\t1\n"] {
            assert!(merge(&mut Input::new(input.as_bytes())).is_err(), "{input:?}");
        }
    }

    #[test]
    fn blocks_may_end_anywhere() {
        struct Single<'a>(&'a [u8]);
        impl Source for Single<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
                self.0.read(&mut buffer[..1])
            }
        }
        let fastq = b"@one\r\nAA\r\nCG\r\n+\r\n@I\r\n+I\r\n@two\r\nACGT\r\n+\r\nIIII";
        let mut output = Output::in_memory();
        let table = count(&mut Input::new(Single(fastq)), 3, false).expect("valid input");
        write(table, 3, &mut output).expect("memory takes everything");
        assert_eq!(output.bytes(), counted(fastq, 3, false).as_bytes());
    }
}
