//! Finds the longest Collatz sequence of a range, in as many runs as it takes; see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

extern crate alloc;

mod search;

use search::Search;
use workload::{Args, Error, Output, again};

const USAGE: &str = "usage: collatz START END

Writes START, END, the number from START up to END (exclusive) whose Collatz sequence is the longest, and its length. Where that takes
long it keeps how far it has come in the file manyhands.state and exits with 75: run it again until it exits with something else.";

/// Steps of sequences in one run: some tenths of a second.
const STEPS_PER_RUN: u64 = 1 << 26;

fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
    let start = args.number("START")?;
    let end = args.number("END")?;
    args.finish()?;
    let begun = match again::kept()? {
        None => Some(Search::new(start)),
        Some(state) => Search::from_bytes(&state),
    };
    let mut search = begun.ok_or(Error::failure("the state file is not one of collatz"))?;
    if !search.go_on(end, STEPS_PER_RUN) {
        return again::run_again(&search.to_bytes(), output);
    }
    for number in [start, end, search.best] {
        output.number(number)?;
        output.write(b"\t")?;
    }
    output.number(search.best_steps)?;
    output.write(b"\n")
}

workload::command!(run, USAGE);
