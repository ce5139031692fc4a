//! Chance that can be had again: a stream of numbers from a seed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use std::time::Duration;

/// A seeded source of chance.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// One of `choices`.
    #[cfg(feature = "fault-injection")]
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    /// A duration below `bound`, to the microsecond; small ones as likely as large ones by their order of magnitude.
    pub fn moment(&mut self, bound: Duration) -> Duration {
        let digits = u64::try_from(bound.as_micros()).unwrap().max(2).ilog2();
        let magnitude = 1_u64 << self.below(u64::from(digits) + 1);
        Duration::from_micros(magnitude + self.below(magnitude)).min(bound)
    }
}
