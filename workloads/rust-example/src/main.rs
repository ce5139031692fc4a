//! Throws darts at a square and counts those in the circle: an ordinary Rust program as a work unit.
//!
//! Each index from START to END is a seed for a million darts, so a unit gives the same result on every machine, and
//! two units never throw the same darts. Prints the number of hits and the number of darts.

use std::process::ExitCode;

/// Darts for a seed.
const DARTS: u64 = 1_000_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Result<Vec<u64>, _> = words.iter().map(|word| word.parse()).collect();
    let Ok([start, end]) = numbers.as_deref() else {
        eprintln!("usage: pi START END");
        return ExitCode::from(2);
    };
    let hits: u64 = (*start..*end).map(hits_from).sum();
    println!("{hits}\t{}", end.saturating_sub(*start) * DARTS);
    ExitCode::SUCCESS
}

/// The hits among the darts of a seed. Whole numbers only, so nothing is rounded.
fn hits_from(seed: u64) -> u64 {
    let mut state = seed.wrapping_mul(0xD134_2543_DE82_EF95);
    let mut hits = 0;
    for _ in 0..DARTS {
        let draw = next(&mut state);
        let (x, y) = (draw >> 32, draw & 0xFFFF_FFFF);
        hits += u64::from(u128::from(x * x) + u128::from(y * y) < 1 << 64);
    }
    hits
}

/// The generator SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
