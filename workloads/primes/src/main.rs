//! Counts the primes of a range, see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

extern crate alloc;

mod sieve;

use workload::{Args, Error, Input, Output, sum_of_lines};

const USAGE: &str = "usage: primes START END    count the primes p with START <= p < END
       primes --merge      add up the counts of several units, one a line on standard input";

fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
    let count = if args.flag("--merge") {
        args.finish()?;
        sum_of_lines(&mut Input::stdin())?
    } else {
        let range = args.range()?;
        args.finish()?;
        if range.end > sieve::END_MAX {
            return Err(Error::usage("END is greater than 10^15"));
        }
        sieve::count_primes(range)
    };
    output.number(count)?;
    output.write(b"\n")
}

workload::command!(run, USAGE);
