//! Backtracking over rows, with the attacked columns of a row as bits.

/// Two rows are fixed by the index.
pub const SIDE_MIN: u64 = 2;

/// More has not been counted by anyone until now without years of computing.
pub const SIDE_MAX: u64 = 24;

/// What the queens so far attack in the next row, one bit a column.
#[derive(Clone, Copy)]
struct Attacked {
    columns: u32,
    /// Along diagonals towards higher columns.
    rising: u32,
    /// Along diagonals towards lower columns.
    falling: u32,
}

impl Attacked {
    const fn with_queen(self, queen: u32) -> Self {
        Self { columns: self.columns | queen, rising: (self.rising | queen) << 1, falling: (self.falling | queen) >> 1 }
    }

    const fn free(self, board: u32) -> u32 {
        board & !(self.columns | self.rising | self.falling)
    }
}

/// The number of solutions with queens in column `first` of the first row and column `second` of the second.
pub fn count_solutions(side: u32, first: u32, second: u32) -> u64 {
    let board = (1 << side) - 1;
    let attacked = Attacked { columns: 0, rising: 0, falling: 0 }.with_queen(1 << first);
    if attacked.free(board) & 1 << second == 0 {
        return 0;
    }
    completions(attacked.with_queen(1 << second), board)
}

/// The number of ways to fill the rows that are left. As many columns are free as rows are left.
fn completions(attacked: Attacked, board: u32) -> u64 {
    if attacked.columns == board {
        return 1;
    }
    let mut free = attacked.free(board);
    let mut count = 0;
    while free != 0 {
        let queen = free & free.wrapping_neg();
        free ^= queen;
        count += completions(attacked.with_queen(queen), board);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(side: u32) -> u64 {
        (0..side * side).map(|index| count_solutions(side, index / side, index % side)).sum()
    }

    #[test]
    fn boards_have_the_known_numbers_of_solutions() {
        let known = [(2, 0), (3, 0), (4, 2), (5, 10), (6, 4), (7, 40), (8, 92), (9, 352), (10, 724), (11, 2680)];
        for (side, count) in known {
            assert_eq!(all(side), count, "{side}");
        }
    }

    #[test]
    fn queens_that_attack_each_other_have_no_completion() {
        for (first, second) in [(3, 3), (3, 2), (3, 4), (0, 1), (7, 6)] {
            assert_eq!(count_solutions(8, first, second), 0);
        }
    }

    #[test]
    fn mirrored_beginnings_have_as_many_completions() {
        for first in 0..9 {
            for second in 0..9 {
                assert_eq!(count_solutions(9, first, second), count_solutions(9, 8 - first, 8 - second));
            }
        }
    }
}
