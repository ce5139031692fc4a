//! A segmented sieve of Eratosthenes over odd numbers, one bit each.
//!
//! Segments fit in the first-level cache. Multiples of 3, 5, 7 and 11 come from a pattern that repeats after their
//! product in bytes; other primes strike their multiples out eight at a time, since the bits that they hit repeat after
//! eight multiples.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// The greatest end of a range: the primes up to its square root, 3.2 * 10^7, still take only 8 MB.
pub const END_MAX: u64 = 1_000_000_000_000_000;

/// One byte stands for eight odd numbers, so for sixteen numbers.
const NUMBERS_PER_BYTE: u64 = 16;

/// Bytes of a segment, which stands for 524,288 numbers; the first-level cache of most processors has 32 KiB or more.
const SEGMENT_BYTES: usize = 32 * 1024;

/// The primes which the pattern strikes out.
const PATTERN_PRIMES: [u32; 4] = [3, 5, 7, 11];

/// The product of [`PATTERN_PRIMES`].
const PATTERN_BYTES: usize = 3 * 5 * 7 * 11;

/// How many primes `p` there are with `range.start <= p < range.end`.
pub fn count_primes(range: Range<u64>) -> u64 {
    let small = [2, 3, 5, 7, 11].iter().filter(|prime| range.contains(prime)).count() as u64;
    if range.end <= 13 || range.is_empty() {
        return small;
    }
    let mut base = odd_primes_below((range.end - 1).isqrt() as u32 + 1);
    base.retain(|prime| !PATTERN_PRIMES.contains(prime));
    let pattern = pattern();

    let mut count = small;
    let mut segment = vec![0_u8; SEGMENT_BYTES];
    let mut strikes: Vec<Strike> = Vec::new();
    let mut low = range.start / NUMBERS_PER_BYTE * NUMBERS_PER_BYTE;
    while low < range.end {
        let length = (range.end - low).div_ceil(NUMBERS_PER_BYTE).min(SEGMENT_BYTES as u64) as usize;
        let high = low + length as u64 * NUMBERS_PER_BYTE;
        let segment = &mut segment[..length];
        fill(segment, &pattern, low);
        let joining = base[strikes.len()..].iter().take_while(|prime| square(**prime) < high);
        strikes.extend(joining.map(|prime| Strike::first_in(*prime, low)));
        for strike in &mut strikes {
            strike.through(segment);
        }
        strike_outside(segment, low, &range);
        count += zeros(segment);
        low = high;
    }
    count
}

/// A prime and the bit of its next multiple, counted from the segment's first bit.
struct Strike {
    prime: u32,
    next: u32,
}

impl Strike {
    /// At the first odd multiple that is not less than the prime's square and not below `low`, an even number.
    fn first_in(prime: u32, low: u64) -> Self {
        let step = u64::from(prime);
        let multiple = square(prime).max(low.next_multiple_of(step));
        let odd = if multiple % 2 == 0 { multiple + step } else { multiple };
        // The multiple is below the segment's end or at most two steps behind its start.
        Self { prime, next: ((odd - low) / 2) as u32 }
    }

    /// Strikes the multiples out of a segment and moves on to the next segment.
    fn through(&mut self, segment: &mut [u8]) {
        let step = self.prime as usize;
        let mut bit = self.next as usize;
        if segment.len() > bit / 8 + 2 * step {
            // One of eight neighbouring multiples hits the first bit of a byte, as the step is odd.
            while !bit.is_multiple_of(8) {
                segment[bit / 8] |= 1 << (bit % 8);
                bit += step;
            }
            bit = match step % 8 {
                1 => strike_by_eights::<1>(segment, bit, step),
                3 => strike_by_eights::<3>(segment, bit, step),
                5 => strike_by_eights::<5>(segment, bit, step),
                _ => strike_by_eights::<7>(segment, bit, step),
            };
        }
        while let Some(byte) = segment.get_mut(bit / 8) {
            *byte |= 1 << (bit % 8);
            bit += step;
        }
        self.next = (bit - segment.len() * 8) as u32;
    }
}

/// Strikes out eight multiples in each whole run of `step` bytes; the bit of the first multiple left.
///
/// `bit` is the first of its byte and `step` leaves `REST` when divided by eight, so the bits to set are constants.
fn strike_by_eights<const REST: usize>(segment: &mut [u8], bit: usize, step: usize) -> usize {
    let offsets: [usize; 8] = core::array::from_fn(|index| index * (step / 8) + index * REST / 8);
    // Always so; known before the loop, nothing need be checked in it.
    if offsets.iter().any(|offset| *offset >= step) {
        return bit;
    }
    let Some(rest) = segment.get_mut(bit / 8..) else { return bit };
    let mut runs = 0;
    for run in rest.chunks_exact_mut(step) {
        run[offsets[0]] |= 1;
        run[offsets[1]] |= 1 << (REST % 8);
        run[offsets[2]] |= 1 << (2 * REST % 8);
        run[offsets[3]] |= 1 << (3 * REST % 8);
        run[offsets[4]] |= 1 << (4 * REST % 8);
        run[offsets[5]] |= 1 << (5 * REST % 8);
        run[offsets[6]] |= 1 << (6 * REST % 8);
        run[offsets[7]] |= 1 << (7 * REST % 8);
        runs += 1;
    }
    bit + runs * 8 * step
}

/// The square of a prime below 2^32.
fn square(prime: u32) -> u64 {
    u64::from(prime) * u64::from(prime)
}

/// The odd primes below `end`, by a plain sieve.
fn odd_primes_below(end: u32) -> Vec<u32> {
    // Bit `i` stands for `2 i + 1`.
    let bits = end / 2;
    let mut sieve = vec![0_u8; bits as usize / 8 + 1];
    let mut primes = Vec::new();
    for bit in 1..bits {
        if sieve[bit as usize / 8] >> (bit % 8) & 1 == 0 {
            let prime = 2 * bit + 1;
            primes.push(prime);
            let mut multiple = square(prime) / 2;
            while multiple < u64::from(bits) {
                sieve[multiple as usize / 8] |= 1 << (multiple % 8);
                multiple += u64::from(prime);
            }
        }
    }
    primes
}

/// The multiples of [`PATTERN_PRIMES`], from number 0 on.
fn pattern() -> Vec<u8> {
    let mut pattern = vec![0_u8; PATTERN_BYTES];
    for prime in PATTERN_PRIMES {
        Strike { prime, next: prime / 2 }.through(&mut pattern);
    }
    pattern
}

/// Starts a segment at `low` from the pattern.
fn fill(segment: &mut [u8], pattern: &[u8], low: u64) {
    let skipped = (low / NUMBERS_PER_BYTE % PATTERN_BYTES as u64) as usize;
    let head = segment.len().min(PATTERN_BYTES - skipped);
    let (first, others) = segment.split_at_mut(head);
    first.copy_from_slice(&pattern[skipped..skipped + head]);
    for part in others.chunks_mut(PATTERN_BYTES) {
        part.copy_from_slice(&pattern[..part.len()]);
    }
}

/// Strikes out 1 and what is not in the range, in the segment's first and last byte.
fn strike_outside(segment: &mut [u8], low: u64, range: &Range<u64>) {
    let last = segment.len() - 1;
    for index in [0, last] {
        for bit in 0..8 {
            let number = low + index as u64 * NUMBERS_PER_BYTE + 2 * bit + 1;
            if number == 1 || !range.contains(&number) {
                segment[index] |= 1 << bit;
            }
        }
    }
}

/// The number of bits that are 0.
fn zeros(segment: &[u8]) -> u64 {
    let (words, rest) = segment.as_chunks::<8>();
    let in_words: u32 = words.iter().map(|word| u64::from_le_bytes(*word).count_zeros()).sum();
    let in_rest: u32 = rest.iter().map(|byte| byte.count_zeros()).sum();
    u64::from(in_words + in_rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_prime(number: u64) -> bool {
        number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
    }

    #[test]
    fn powers_of_ten_have_the_known_counts() {
        for (end, count) in [(10, 4), (100, 25), (1000, 168), (1_000_000, 78_498), (10_000_000, 664_579)] {
            assert_eq!(count_primes(1..end), count, "below {end}");
        }
    }

    #[test]
    fn every_small_range_agrees_with_trial_division() {
        for start in 0..150 {
            for end in start..300 {
                let expected = (start..end).filter(|number| is_prime(*number)).count() as u64;
                assert_eq!(count_primes(start..end), expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn parts_add_up_to_the_whole_wherever_they_are_cut() {
        let whole = count_primes(0..3_000_000);
        for width in [524_288, 524_287, 99_991, 1_000_003] {
            let parts = (0..3_000_000).step_by(width);
            let sum: u64 = parts.map(|start| count_primes(start..(start + width as u64).min(3_000_000))).sum();
            assert_eq!(sum, whole, "parts of {width}");
        }
    }

    #[test]
    fn far_ranges_agree_with_known_counts() {
        assert_eq!(count_primes(1_000_000_000_000..1_000_001_000_000), 36_249);
        let farthest = END_MAX - 10_000..END_MAX;
        let expected = farthest.clone().filter(|number| is_strong_probable_prime(*number)).count() as u64;
        assert_eq!(count_primes(farthest), expected);
    }

    /// The Miller-Rabin test to seven bases, which no composite number below 3.4 * 10^14 passes, nor, by chance alone, one of
    /// the few here.
    fn is_strong_probable_prime(number: u64) -> bool {
        let product = |one: u64, other: u64| (u128::from(one) * u128::from(other) % u128::from(number)) as u64;
        let power = |base: u64, exponent: u64| {
            (0..64).rev().fold(1, |result, bit| {
                let squared = product(result, result);
                if exponent >> bit & 1 == 1 { product(squared, base) } else { squared }
            })
        };
        let odd = (number - 1) >> (number - 1).trailing_zeros();
        number % 2 == 1
            && [2, 3, 5, 7, 11, 13, 17].iter().all(|base| {
                let start = power(*base, odd);
                let squares = core::iter::successors(Some(start), |value| Some(product(*value, *value)));
                start == 1 || squares.take((number - 1).trailing_zeros() as usize).any(|value| value == number - 1)
            })
    }
}
