//! A square of cells without edges, 64 to a word.

extern crate alloc;

use alloc::vec::Vec;

/// The cells, row by row; in each word the lowest bit is the leftmost cell.
pub(crate) struct Torus {
    /// Words of a row.
    width: usize,
    cells: Vec<u64>,
    /// Where the next generation is written.
    next: Vec<u64>,
}

impl Torus {
    /// Half of the cells live, chosen from `seed`. `side` is a multiple of 64.
    pub(crate) fn random(side: usize, seed: u64) -> Self {
        let width = side / 64;
        let mut state = seed;
        // SplitMix64.
        let mut draw = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let cells: Vec<u64> = (0..width * side).map(|_| draw()).collect();
        let next = alloc::vec![0; cells.len()];
        Self { width, cells, next }
    }

    /// How many words there are.
    pub(crate) fn words(&self) -> usize {
        self.cells.len()
    }

    /// One generation: a cell lives when it has three living neighbours, or two and lives already.
    pub(crate) fn live(&mut self) {
        let (width, cells) = (self.width, &self.cells);
        let side = cells.len() / width;
        for row in 0..side {
            let rows = [(row + side - 1) % side, row, (row + 1) % side].map(|row| &cells[row * width..(row + 1) * width]);
            for (column, next) in self.next[row * width..(row + 1) * width].iter_mut().enumerate() {
                let (west, east) = ((column + width - 1) % width, (column + 1) % width);
                let around = rows.map(|row| {
                    let here = row[column];
                    ((here << 1) | (row[west] >> 63), here, (here >> 1) | (row[east] << 63))
                });
                *next = survivors(around);
            }
        }
        core::mem::swap(&mut self.cells, &mut self.next);
    }

    /// How many cells live.
    pub(crate) fn population(&self) -> u64 {
        self.cells.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// A checksum of all cells: FNV-1a over the words.
    pub(crate) fn checksum(&self) -> u64 {
        self.cells.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3))
    }
}

/// The next state of 64 cells. Each row above, of and below them comes as the cells to the left, the cells, and those to the right.
fn survivors(around: [(u64, u64, u64); 3]) -> u64 {
    let [above, (left, here, right), below] = around;
    // Sums of three by bits: ones and twos of the row above, the row below, and the two beside.
    let full = |(a, b, c): (u64, u64, u64)| (a ^ b ^ c, (a & b) | (c & (a ^ b)));
    let (above_ones, above_twos) = full(above);
    let (below_ones, below_twos) = full(below);
    let (beside_ones, beside_twos) = (left ^ right, left & right);
    let (ones, carried) = full((above_ones, below_ones, beside_ones));
    let (twos, fours) = full((above_twos, below_twos, beside_twos));
    let (two, more) = (twos ^ carried, (twos & carried) | fours);
    // Two or three neighbours, not four or more.
    two & !more & (ones | here)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule, cell by cell.
    fn slowly(torus: &Torus) -> Vec<u64> {
        let side = torus.width * 64;
        let cell = |row: usize, column: usize| torus.cells[row % side * torus.width + column % side / 64] >> (column % 64) & 1;
        let mut next = vec![0; torus.cells.len()];
        for row in 0..side {
            for column in 0..side {
                let rows = [row + side - 1, row, row + 1];
                let square: u64 = rows.iter().flat_map(|row| [side - 1, 0, 1].map(|by| cell(*row, column + by))).sum();
                let alive = cell(row, column);
                if square - alive == 3 || (square - alive == 2 && alive == 1) {
                    next[row * torus.width + column / 64] |= 1 << (column % 64);
                }
            }
        }
        next
    }

    #[test]
    fn many_cells_at_once_live_as_one_by_one() {
        for side in [64, 128, 192] {
            let mut torus = Torus::random(side, 7);
            for _ in 0..20 {
                let expected = slowly(&torus);
                torus.live();
                assert_eq!(torus.cells, expected);
            }
        }
    }

    #[test]
    fn a_glider_comes_back_after_crossing_the_torus() {
        let mut torus = Torus::random(64, 0);
        torus.cells.fill(0);
        for (row, bits) in [(0, 0b010), (1, 0b100), (2, 0b111)] {
            torus.cells[row] = bits;
        }
        let before = torus.cells.clone();
        for _ in 0..4 * 64 {
            torus.live();
        }
        assert_eq!((torus.population(), torus.cells), (5, before));
    }
}
