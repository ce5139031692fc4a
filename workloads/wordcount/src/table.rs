//! Counts by word: a hash table with open addressing over one run of all words' bytes.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use workload::Error;

/// Places of the first table.
const PLACES_MIN: usize = 1024;

/// A word that was seen.
struct Entry {
    /// Where its bytes are in [`Table::text`].
    place: Range<usize>,
    hash: u32,
    count: u64,
}

/// The counts.
pub struct Table {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// For each place the number of an entry, counted from 1, or 0. A power of two of them.
    places: Vec<u32>,
}

impl Default for Table {
    fn default() -> Self {
        Self { text: Vec::new(), entries: Vec::new(), places: vec![0; PLACES_MIN] }
    }
}

impl Table {
    /// Adds to the count of a word.
    pub fn add(&mut self, word: &[u8], count: u64) -> Result<(), Error> {
        let hash = hash(word);
        let place = self.place_of(hash, |table, entry| &table.text[entry.place.clone()] == word);
        if let Some(entry) = (self.places[place] as usize).checked_sub(1) {
            let sum = &mut self.entries[entry].count;
            *sum = sum.checked_add(count).ok_or(Error::failure("a count does not fit in 64 bits"))?;
            return Ok(());
        }
        let start = self.text.len();
        self.text.extend_from_slice(word);
        self.entries.push(Entry { place: start..self.text.len(), hash, count });
        self.places[place] = self.entries.len() as u32;
        // At most half of the places are used, so that a search ends and is short.
        if self.entries.len() > self.places.len() / 2 {
            self.grow();
        }
        Ok(())
    }

    /// The words and their counts, sorted by bytes.
    pub fn sorted(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut order: Vec<_> = self.entries.iter().map(|entry| (&self.text[entry.place.clone()], entry.count)).collect();
        order.sort_unstable();
        order.into_iter()
    }

    /// The place of the entry with this hash that is the right one, or the free place where it belongs.
    fn place_of(&self, hash: u32, is_right: impl Fn(&Self, &Entry) -> bool) -> usize {
        let mask = self.places.len() - 1;
        let mut place = hash as usize & mask;
        while let Some(entry) = (self.places[place] as usize).checked_sub(1).map(|entry| &self.entries[entry]) {
            if entry.hash == hash && is_right(self, entry) {
                break;
            }
            place = (place + 1) & mask;
        }
        place
    }

    /// Doubles the number of places.
    fn grow(&mut self) {
        self.places = vec![0; self.places.len() * 2];
        for entry in 0..self.entries.len() {
            let place = self.place_of(self.entries[entry].hash, |_, _| false);
            self.places[place] = entry as u32 + 1;
        }
    }
}

/// FNV-1a with a final mix, as places are taken from the low bits.
fn hash(word: &[u8]) -> u32 {
    const BASIS: u32 = 0x811C_9DC5;
    const PRIME: u32 = 0x0100_0193;
    let hash = word.iter().fold(BASIS, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME));
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn counts_survive_growth() {
        let mut table = Table::default();
        let mut expected = BTreeMap::new();
        for number in 0..50_000_u64 {
            let word = (number * number % 7919).to_string();
            table.add(word.as_bytes(), 1).expect("small counts");
            *expected.entry(word).or_insert(0) += 1;
        }
        let found: Vec<_> = table.sorted().map(|(word, count)| (String::from_utf8_lossy(word).into_owned(), count)).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}
