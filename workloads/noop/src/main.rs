//! Succeeds at once: what a unit costs beside its work.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

use workload::{Args, Error, Output};

const USAGE: &str = "usage: noop [ANYTHING]...

Ignores its arguments and its input, writes nothing and succeeds.";

fn run(_: Args, _: &mut Output) -> Result<(), Error> {
    Ok(())
}

workload::command!(run, USAGE);
