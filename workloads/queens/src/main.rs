//! Counts the solutions of the N queens problem, see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

mod board;

use workload::{Args, Error, Input, Output, sum_of_lines};

const USAGE: &str = "usage: queens N START END    count the solutions on N x N whose first two rows are START <= index < END
       queens --merge          add up the counts of several units, one a line on standard input

The index of a queen in column A of the first row and one in column B of the second is N * A + B, so all solutions
are those of 0 to N * N.";

fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
    let count = if args.flag("--merge") {
        args.finish()?;
        sum_of_lines(&mut Input::stdin())?
    } else {
        let side = args.number("N")?;
        let range = args.range()?;
        args.finish()?;
        if !(board::SIDE_MIN..=board::SIDE_MAX).contains(&side) {
            return Err(Error::usage("N is not between 2 and 24"));
        }
        if range.end > side * side {
            return Err(Error::usage("END is greater than N * N"));
        }
        range.map(|index| board::count_solutions(side as u32, (index / side) as u32, (index % side) as u32)).sum()
    };
    output.number(count)?;
    output.write(b"\n")
}

workload::command!(run, USAGE);
