//! A seeded generator for the tests, with floats that are worth testing.

/// A small generator with a fixed stream.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(super) fn pick<X: Clone>(&mut self, from: &[X]) -> X {
        from[self.below(from.len())].clone()
    }

    /// Bits of a float, every other one a NaN, an infinity or a zero.
    pub(super) fn float_bits(&mut self) -> u64 {
        let payload = self.next();
        match self.below(8) {
            0 => payload | 0x7ff0_0000_0000_0000,
            1 => payload | 0x7ff0_0000_7f80_0000,
            2 => 0x7ff0_0000_0000_0000 | (payload & (1 << 63)),
            3 => payload & (1 << 63),
            4 => (payload & 0xffff_ffff) | (u64::from(f32::NAN.to_bits() | 7) << 32),
            _ => (payload & 0x800f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000,
        }
    }
}
