//! The search, which can stop between any two numbers.

use alloc::vec::Vec;

/// How far a search has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    next: u64,
    /// The number with the longest sequence so far.
    pub best: u64,
    /// The length of that.
    pub best_steps: u64,
}

impl Search {
    /// One that begins with this number.
    pub fn new(start: u64) -> Self {
        Self { next: start.max(1), best: 0, best_steps: 0 }
    }

    /// Goes on below `end`, for about so many steps. Returns whether it is done.
    pub fn go_on(&mut self, end: u64, steps: u64) -> bool {
        let mut left = steps;
        while self.next < end {
            if left == 0 {
                return false;
            }
            let found = steps_to_one(self.next);
            if found > self.best_steps {
                (self.best, self.best_steps) = (self.next, found);
            }
            left = left.saturating_sub(found);
            self.next += 1;
        }
        true
    }

    /// For the state file.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.next, self.best, self.best_steps].iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// From the state file; none when it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let [next, best, best_steps] = *<&[[u8; 8]; 3]>::try_from(numbers).ok()?;
        let number = u64::from_le_bytes;
        rest.is_empty().then(|| Self { next: number(next), best: number(best), best_steps: number(best_steps) })
    }
}

/// The steps from a number to 1; 0 where a number on the way does not fit in 64 bits.
fn steps_to_one(mut number: u64) -> u64 {
    let mut steps = 0;
    while number != 1 {
        if number.is_multiple_of(2) {
            number /= 2;
        } else {
            let Some(tripled) = number.checked_mul(3).and_then(|tripled| tripled.checked_add(1)) else { return 0 };
            number = tripled;
        }
        steps += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sequences_are_found_whole_or_in_parts() {
        let mut whole = Search::new(1);
        assert!(whole.go_on(1_000_000, u64::MAX));
        assert_eq!((whole.best, whole.best_steps), (837_799, 524));
        let (mut parts, mut runs) = (Search::new(0), 1);
        while !parts.go_on(1_000_000, 1 << 20) {
            parts = Search::from_bytes(&parts.to_bytes()).unwrap();
            runs += 1;
        }
        assert!(runs > 100);
        assert_eq!(parts, whole);
    }

    #[test]
    fn a_sequence_that_grows_too_large_has_no_length() {
        assert_eq!((steps_to_one(1), steps_to_one(27), steps_to_one(u64::MAX)), (0, 111, 0));
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let state = Search::new(9).to_bytes();
        assert_eq!(Search::from_bytes(&state), Some(Search::new(9)));
        assert_eq!((Search::from_bytes(&state[1..]), Search::from_bytes(&[&state[..], &[0]].concat())), (None, None));
    }
}
