//! Runs the Game of Life from a random start, see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

mod torus;

use torus::Torus;
use workload::{Args, Error, Output, Stepped};

const USAGE: &str = "usage: life [--side N] SEED GENERATIONS

Fills a torus of N x N cells (a multiple of 64 up to 4096; 256 where it is not given) at random from SEED, lets it live for so many
generations, and writes the seed, the generations, how many cells live at the end, and a checksum of them.";

const SIDE: u64 = 256;
const SIDE_MAX: u64 = 4096;

/// Words that a step works on, at least: enough that the step itself costs nothing beside them.
const STEP_WORDS: u64 = 1 << 15;

struct Life {
    seed: u64,
    generations: u64,
    left: u64,
    torus: Torus,
}

impl Stepped for Life {
    fn begin(mut args: Args) -> Result<Self, Error> {
        let side = args.option_number("--side", SIDE)?;
        let seed = args.number("SEED")?;
        let generations = args.number("GENERATIONS")?;
        args.finish()?;
        if side == 0 || side > SIDE_MAX || !side.is_multiple_of(64) {
            return Err(Error::usage("N is not a multiple of 64 up to 4096"));
        }
        Ok(Self { seed, generations, left: generations, torus: Torus::random(side as usize, seed) })
    }

    fn step(&mut self, _output: &mut Output) -> Result<bool, Error> {
        let generations = (STEP_WORDS / self.torus.words() as u64).max(1).min(self.left);
        for _ in 0..generations {
            self.torus.live();
        }
        self.left -= generations;
        Ok(self.left > 0)
    }

    fn result(&mut self, output: &mut Output) -> Result<(), Error> {
        for number in [self.seed, self.generations, self.torus.population()] {
            output.number(number)?;
            output.write(b" ")?;
        }
        output.number(self.torus.checksum())?;
        output.write(b"\n")
    }
}

workload::stepped!(Life, USAGE);
