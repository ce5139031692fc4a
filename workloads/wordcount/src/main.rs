//! Counts words, see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

extern crate alloc;

mod table;

use workload::{Args, Error, Input, Output, Source};

use crate::table::Table;

const USAGE: &str = "usage: wordcount            count the words on standard input
       wordcount --merge    add up the counts of several units on standard input

Writes a line WORD<tab>COUNT for each word, sorted by bytes. A word is a run of ASCII letters, digits, apostrophes and
bytes beyond ASCII; ASCII letters count as lower case.";

fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
    let merges = args.flag("--merge");
    args.finish()?;
    let mut input = Input::stdin();
    let table = if merges { merge(&mut input) } else { count(&mut input) }?;
    write(&table, output)
}

workload::command!(run, USAGE);

/// Counts the words of a text. A word never reaches beyond its line.
fn count(input: &mut Input<impl Source>) -> Result<Table, Error> {
    let mut table = Table::default();
    let mut word = alloc::vec::Vec::new();
    while let Some(block) = input.block()? {
        for byte in block {
            if is_in_word(*byte) {
                word.push(byte.to_ascii_lowercase());
            } else if !word.is_empty() {
                table.add(&word, 1)?;
                word.clear();
            }
        }
    }
    if !word.is_empty() {
        table.add(&word, 1)?;
    }
    Ok(table)
}

/// Adds up counts.
fn merge(input: &mut Input<impl Source>) -> Result<Table, Error> {
    const MALFORMED: Error = Error::failure("a line is not WORD<tab>COUNT");
    let mut table = Table::default();
    while let Some(line) = input.line()? {
        if line.is_empty() {
            continue;
        }
        let tab = line.iter().position(|byte| *byte == b'\t').ok_or(MALFORMED)?;
        let count = workload::number_from(&line[tab + 1..]).ok_or(MALFORMED)?;
        table.add(&line[..tab], count)?;
    }
    Ok(table)
}

/// Writes the counts in the words' order.
fn write(table: &Table, output: &mut Output) -> Result<(), Error> {
    for (word, count) in table.sorted() {
        output.write(word)?;
        output.write(b"\t")?;
        output.number(count)?;
        output.write(b"\n")?;
    }
    Ok(())
}

const fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'\'' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: Result<Table, Error>) -> String {
        let mut output = Output::in_memory();
        write(&table.expect("valid input"), &mut output).expect("memory takes everything");
        String::from_utf8(output.bytes().to_vec()).expect("words are whole characters")
    }

    #[test]
    fn words_are_counted_in_lower_case_and_sorted() {
        let text = "Don't stop: the the THE naïve 3rd\r\nstop-gap—end";
        let expected = "3rd\t1\ndon't\t1\ngap—end\t1\nnaïve\t1\nstop\t2\nthe\t3\n";
        assert_eq!(written(count(&mut Input::new(text.as_bytes()))), expected);
        assert_eq!(written(count(&mut Input::new(&b" .,\n"[..]))), "");
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let parts = written(count(&mut Input::new(&b"a b a c"[..]))) + &written(count(&mut Input::new(&b"c a d"[..])));
        assert_eq!(written(merge(&mut Input::new(parts.as_bytes()))), "a\t3\nb\t1\nc\t2\nd\t1\n");
    }

    #[test]
    fn what_is_not_counts_is_refused() {
        for input in ["a 1\n", "a\t\n", "a\t-1\n", "a\t18446744073709551615\na\t1\n"] {
            assert!(merge(&mut Input::new(input.as_bytes())).is_err(), "{input:?}");
        }
    }
}
