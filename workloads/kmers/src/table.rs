//! Counts by k-mer: a hash table with open addressing, linear probing and a power of two of places.

use alloc::vec;
use alloc::vec::Vec;

use workload::Error;

use crate::kmer::Kmer;

/// Places of the first table.
const PLACES_MIN: usize = 1024;

/// A place: a k-mer and its count, or [`Kmer::NONE`].
type Place = (Kmer, u64);

/// The counts.
pub struct Table {
    places: Vec<Place>,
    used: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { places: vec![(Kmer::NONE, 0); PLACES_MIN], used: 0 }
    }
}

impl Table {
    /// Adds to the count of a k-mer.
    #[inline]
    pub fn add(&mut self, kmer: Kmer, count: u64) -> Result<(), Error> {
        let place = self.place_of(kmer);
        let (held, sum) = &mut self.places[place];
        *sum = sum.checked_add(count).ok_or(Error::failure("a count does not fit in 64 bits"))?;
        if *held == Kmer::NONE {
            *held = kmer;
            self.used += 1;
            // At most five eighths are used, so that a search ends and is short.
            if self.used > self.places.len() / 8 * 5 {
                self.grow();
            }
        }
        Ok(())
    }

    /// The counts in the k-mers' order.
    pub fn into_sorted(mut self) -> Vec<(Kmer, u64)> {
        self.places.retain(|(kmer, _)| *kmer != Kmer::NONE);
        self.places.sort_unstable_by_key(|(kmer, _)| *kmer);
        self.places
    }

    /// Where the k-mer is, or the free place where it belongs.
    #[inline]
    fn place_of(&self, kmer: Kmer) -> usize {
        let mask = self.places.len() - 1;
        let mut place = (kmer.hash() >> (64 - self.places.len().ilog2())) as usize;
        while self.places[place & mask].0 != kmer && self.places[place & mask].0 != Kmer::NONE {
            place += 1;
        }
        place & mask
    }

    /// Doubles the number of places.
    #[cold]
    fn grow(&mut self) {
        let doubled = vec![(Kmer::NONE, 0); self.places.len() * 2];
        let old = core::mem::replace(&mut self.places, doubled);
        for (kmer, count) in old {
            if kmer != Kmer::NONE {
                let place = self.place_of(kmer);
                self.places[place] = (kmer, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn counts_survive_growth() {
        let mut table = Table::default();
        let mut expected = BTreeMap::new();
        let mut state = 1_u32;
        for _ in 0..100_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bases: Vec<u8> = (0..9).map(|base| b"ACGT"[(state >> (12 + 2 * base)) as usize & 3]).collect();
            let kmer = Kmer::from_bases(&bases).expect("nine bases");
            table.add(kmer, 2).expect("small counts");
            *expected.entry(kmer).or_insert(0) += 2;
        }
        assert!(expected.len() > PLACES_MIN);
        assert_eq!(table.into_sorted(), expected.into_iter().collect::<Vec<_>>());
    }
}
