//! From a point's fate to a colour, with no function whose last bit depends on the machine.

use alloc::vec::Vec;

use crate::orbit::{ESCAPE, Fate};

/// An RGB colour.
pub type Colour = [u8; 3];

/// What the inside of the set looks like.
const INSIDE: Colour = [0, 2, 12];

/// The stops of the gradient: position out of [`PALETTE_COLOURS`], then the colour. The first follows the last.
const STOPS: [(u32, Colour); 6] =
    [(0, [0, 7, 100]), (328, [32, 107, 203]), (860, [237, 255, 255]), (1316, [255, 170, 0]), (1756, [82, 12, 20]), (2048, [0, 7, 100])];

/// Colours in the gradient before it repeats.
const PALETTE_COLOURS: u32 = 2048;

/// Colours that the gradient advances while the logarithm to base 2 of the count of iterations grows by one: the bands keep
/// their width however deep the picture lies.
const COLOURS_PER_DOUBLING: f64 = 820.0;

/// The gradient.
pub struct Palette {
    colours: Vec<Colour>,
}

impl Palette {
    /// Blends each two neighbouring stops.
    pub fn new() -> Self {
        let mut colours = Vec::with_capacity(PALETTE_COLOURS as usize);
        for pair in STOPS.windows(2) {
            let ((from, first), (to, last)) = (pair[0], pair[1]);
            let length = to - from;
            for step in 0..length {
                colours.push(core::array::from_fn(|channel| blend(first[channel], last[channel], step, length)));
            }
        }
        Self { colours }
    }

    /// The colour of a point.
    pub fn colour(&self, fate: Fate) -> Colour {
        match fate {
            Fate::Inside => INSIDE,
            Fate::Left { iterations, magnitude } => {
                // A fraction of an iteration by how far out the point was found: counts become continuous.
                let overshoot = log2(log2(magnitude) / log2(ESCAPE));
                let count = f64::from(iterations) + 1.0 - overshoot;
                let position = log2(if count < 1.0 { 1.0 } else { count }) * COLOURS_PER_DOUBLING;
                self.colours[position as usize % self.colours.len()]
            }
        }
    }
}

/// The value at `step` of `length` on a smooth curve (`3 t^2 - 2 t^3`) from `first` to `last`.
fn blend(first: u8, last: u8, step: u32, length: u32) -> u8 {
    let (step, length) = (u64::from(step), u64::from(length));
    let share = step * step * (3 * length - 2 * step);
    let whole = length * length * length;
    ((u64::from(first) * (whole - share) + u64::from(last) * share + whole / 2) / whole) as u8
}

/// The logarithm to base 2 of a positive, normal number: the exponent's bits, and a series for the mantissa.
///
/// Not correctly rounded, but made of `+ - * /` in a fixed order, so it has the same bits everywhere.
fn log2(value: f64) -> f64 {
    const MANTISSA_BITS: u32 = 52;
    const BIAS: i64 = 1023;
    const TWICE_LOG2_E: f64 = 2.0 * core::f64::consts::LOG2_E;
    let bits = value.to_bits();
    let exponent = (bits >> MANTISSA_BITS) as i64 - BIAS;
    let mantissa = f64::from_bits(bits & ((1 << MANTISSA_BITS) - 1) | (BIAS as u64) << MANTISSA_BITS);
    // ln(m) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...), where s is at most 1/3.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 0.0;
    let mut divisor = 21.0;
    while divisor > 0.0 {
        series = series * square + 1.0 / divisor;
        divisor -= 2.0;
    }
    exponent as f64 + TWICE_LOG2_E * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_ten_digits() {
        for step in 1..5000 {
            let value = f64::from(step) * f64::from(step) * 0.37;
            assert!((log2(value) - value.log2()).abs() < 1e-10, "{value}");
        }
        assert_eq!(log2(65_536.0), 16.0);
    }

    #[test]
    fn the_gradient_is_closed_and_has_no_jump() {
        let palette = Palette::new();
        assert_eq!(palette.colours.len(), PALETTE_COLOURS as usize);
        let next = palette.colours.iter().cycle().skip(1);
        for (one, other) in palette.colours.iter().zip(next) {
            assert!(one.iter().zip(other).all(|(a, b)| a.abs_diff(*b) <= 2), "{one:?} {other:?}");
        }
    }

    #[test]
    fn neighbouring_counts_meet() {
        let palette = Palette::new();
        // A point that is barely out after 100 steps is about the square of that after 101, had it been missed.
        let barely = palette.colour(Fate::Left { iterations: 100, magnitude: ESCAPE * (1.0 + 1e-12) });
        let missed = palette.colour(Fate::Left { iterations: 101, magnitude: ESCAPE * ESCAPE * (1.0 - 1e-12) });
        assert!(barely.iter().zip(missed).all(|(a, b)| a.abs_diff(b) <= 2), "{barely:?} {missed:?}");
        assert_eq!(palette.colour(Fate::Inside), INSIDE);
    }
}
