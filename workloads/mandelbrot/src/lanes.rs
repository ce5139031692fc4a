//! Four points at once: two pairs of `f64x2` where there is SIMD, four numbers elsewhere, bit for bit the same.
//!
//! Only addition, multiplication, comparison and selection: each has one result by IEEE 754, so every machine draws the
//! same picture.

/// How many points there are in [`Lanes`].
pub const LANES: usize = 4;

#[cfg(all(target_family = "wasm", target_feature = "simd128"))]
mod wide {
    use core::arch::wasm32 as simd;
    use core::arch::wasm32::v128;

    /// Four floating-point numbers.
    #[derive(Clone, Copy)]
    pub struct Lanes(v128, v128);

    /// For each lane all bits, or none.
    #[derive(Clone, Copy)]
    pub struct Mask(v128, v128);

    impl Lanes {
        pub fn from_array([a, b, c, d]: [f64; 4]) -> Self {
            Self(simd::f64x2(a, b), simd::f64x2(c, d))
        }

        pub fn to_array(self) -> [f64; 4] {
            [
                simd::f64x2_extract_lane::<0>(self.0),
                simd::f64x2_extract_lane::<1>(self.0),
                simd::f64x2_extract_lane::<0>(self.1),
                simd::f64x2_extract_lane::<1>(self.1),
            ]
        }

        pub fn plus(self, other: Self) -> Self {
            Self(simd::f64x2_add(self.0, other.0), simd::f64x2_add(self.1, other.1))
        }

        pub fn minus(self, other: Self) -> Self {
            Self(simd::f64x2_sub(self.0, other.0), simd::f64x2_sub(self.1, other.1))
        }

        pub fn times(self, other: Self) -> Self {
            Self(simd::f64x2_mul(self.0, other.0), simd::f64x2_mul(self.1, other.1))
        }

        pub fn at_most(self, other: Self) -> Mask {
            Mask(simd::f64x2_le(self.0, other.0), simd::f64x2_le(self.1, other.1))
        }
    }

    impl Mask {
        pub fn any(self) -> bool {
            simd::v128_any_true(simd::v128_or(self.0, self.1))
        }

        /// The lanes of `chosen` where the mask is set, those of `other` elsewhere.
        pub fn select(self, chosen: Lanes, other: Lanes) -> Lanes {
            Lanes(simd::v128_bitselect(chosen.0, other.0, self.0), simd::v128_bitselect(chosen.1, other.1, self.1))
        }

        /// `value` where the mask is set, 0 elsewhere.
        pub fn keep(self, value: Lanes) -> Lanes {
            Lanes(simd::v128_and(value.0, self.0), simd::v128_and(value.1, self.1))
        }
    }
}

#[cfg(not(all(target_family = "wasm", target_feature = "simd128")))]
mod wide {
    /// Four floating-point numbers.
    #[derive(Clone, Copy)]
    pub struct Lanes([f64; 4]);

    /// For each lane true or false.
    #[derive(Clone, Copy)]
    pub struct Mask([bool; 4]);

    impl Lanes {
        pub fn from_array(lanes: [f64; 4]) -> Self {
            Self(lanes)
        }

        pub fn to_array(self) -> [f64; 4] {
            self.0
        }

        pub fn plus(self, other: Self) -> Self {
            Self(core::array::from_fn(|lane| self.0[lane] + other.0[lane]))
        }

        pub fn minus(self, other: Self) -> Self {
            Self(core::array::from_fn(|lane| self.0[lane] - other.0[lane]))
        }

        pub fn times(self, other: Self) -> Self {
            Self(core::array::from_fn(|lane| self.0[lane] * other.0[lane]))
        }

        pub fn at_most(self, other: Self) -> Mask {
            Mask(core::array::from_fn(|lane| self.0[lane] <= other.0[lane]))
        }
    }

    impl Mask {
        pub fn any(self) -> bool {
            self.0.contains(&true)
        }

        /// The lanes of `chosen` where the mask is set, those of `other` elsewhere.
        pub fn select(self, chosen: Lanes, other: Lanes) -> Lanes {
            Lanes(core::array::from_fn(|lane| if self.0[lane] { chosen.0[lane] } else { other.0[lane] }))
        }

        /// `value` where the mask is set, 0 elsewhere.
        pub fn keep(self, value: Lanes) -> Lanes {
            self.select(value, Lanes([0.0; 4]))
        }
    }
}

pub use wide::{Lanes, Mask};

impl Lanes {
    /// The same number in each lane.
    pub fn splat(value: f64) -> Self {
        Self::from_array([value; LANES])
    }
}
