//! Drawing from the seeded generator: numbers, elements, samples, jitter.

use core::time::Duration;
use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};

/// A number below `bound`, which is not zero. The modulo's bias is below 2^-40 for any size used here.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    assert!(bound > 0, "nothing to draw from");
    usize::try_from(rng.next_u64() % bound as u64).expect("a remainder is below its divisor")
}

/// One of the items.
pub(super) fn one<T>(rng: &mut ChaCha8Rng, items: impl IntoIterator<Item = T>) -> Option<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    if items.is_empty() {
        return None;
    }
    let index = below(rng, items.len());
    Some(items.swap_remove(index))
}

/// At most `count` of the items, in random order.
pub(super) fn some<T>(rng: &mut ChaCha8Rng, items: impl IntoIterator<Item = T>, count: usize) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    let count = count.min(items.len());
    for index in 0..count {
        let other = index + below(rng, items.len() - index);
        items.swap(index, other);
    }
    items.truncate(count);
    items
}

/// Between three quarters and five quarters of a period, so that peers which started together do not stay in step.
pub(super) fn jitter(rng: &mut ChaCha8Rng, period: Duration) -> Duration {
    let share = u32::try_from(below(rng, 1001)).expect("it is below 1001");
    period * 3 / 4 + period / 2000 * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn a_sample_has_no_duplicates_and_jitter_stays_near_the_period() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sample = some(&mut rng, 0..10, 6);
        sample.sort_unstable();
        sample.dedup();
        assert_eq!(sample.len(), 6);
        assert_eq!(some(&mut rng, 0..3, 6).len(), 3);
        assert_eq!(one(&mut rng, Vec::<u8>::new()), None);
        for _ in 0..100 {
            let drawn = jitter(&mut rng, Duration::from_secs(4));
            assert!((Duration::from_secs(3)..=Duration::from_secs(5)).contains(&drawn));
        }
    }
}
