//! How fast points leave: `z = z^2 + c` until `|z|` is large.

use crate::lanes::{LANES, Lanes, Mask};

/// `|z|^2` beyond which a point has left. Far more than the necessary 4, since colours are the smoother the farther out
/// the count is taken.
pub const ESCAPE: f64 = 65_536.0;

/// Where a point's orbit stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// It did not leave within the iterations given.
    Inside,
    /// It left after `iterations`, with `|z|^2` of `magnitude`, greater than [`ESCAPE`].
    Left { iterations: u32, magnitude: f64 },
}

/// The fates of four points, after at most `iterations` steps.
pub fn fates(real: [f64; LANES], imaginary: [f64; LANES], iterations: u32) -> [Fate; LANES] {
    if (0..LANES).all(|lane| is_known_inside(real[lane], imaginary[lane])) {
        return [Fate::Inside; LANES];
    }
    let (c_real, c_imaginary) = (Lanes::from_array(real), Lanes::from_array(imaginary));
    let (one, escape) = (Lanes::splat(1.0), Lanes::splat(ESCAPE));
    let (mut x, mut y) = (Lanes::splat(0.0), Lanes::splat(0.0));
    let mut count = Lanes::splat(0.0);
    for _ in 0..iterations {
        let (x_square, y_square) = (x.times(x), y.times(y));
        let staying: Mask = x_square.plus(y_square).at_most(escape);
        if !staying.any() {
            break;
        }
        let product = x.times(y);
        // A point that has left stands still, so no lane overflows while others go on.
        x = staying.select(x_square.minus(y_square).plus(c_real), x);
        y = staying.select(product.plus(product).plus(c_imaginary), y);
        count = count.plus(staying.keep(one));
    }
    let magnitudes = x.times(x).plus(y.times(y)).to_array();
    let counts = count.to_array();
    core::array::from_fn(|lane| {
        let magnitude = magnitudes[lane];
        if magnitude <= ESCAPE { Fate::Inside } else { Fate::Left { iterations: counts[lane] as u32, magnitude } }
    })
}

/// Whether the point lies in the main cardioid or in the disc to its left, which hold most of the set's area.
fn is_known_inside(real: f64, imaginary: f64) -> bool {
    let height = imaginary * imaginary;
    let left = real - 0.25;
    let q = left * left + height;
    let in_cardioid = q * (q + left) <= 0.25 * height;
    let in_disc = (real + 1.0) * (real + 1.0) + height <= 0.0625;
    in_cardioid || in_disc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one point at a time.
    fn fate_by_definition(real: f64, imaginary: f64, iterations: u32) -> Fate {
        let (mut x, mut y) = (0.0_f64, 0.0_f64);
        for done in 0..=iterations {
            let magnitude = x * x + y * y;
            if magnitude > ESCAPE {
                return Fate::Left { iterations: done, magnitude };
            }
            (x, y) = (x * x - y * y + real, x * y + x * y + imaginary);
        }
        Fate::Inside
    }

    #[test]
    fn four_at_once_are_the_definition() {
        for step in 0..4000 {
            let real = core::array::from_fn(|lane| -2.2 + f64::from(step % 67) * 0.05 + lane as f64 * 0.013);
            let imaginary = core::array::from_fn(|lane| -1.3 + f64::from(step / 67) * 0.045 + lane as f64 * 0.001);
            let found = fates(real, imaginary, 200);
            for lane in 0..LANES {
                assert_eq!(found[lane], fate_by_definition(real[lane], imaginary[lane], 200));
            }
        }
    }

    #[test]
    fn well_known_points_stay() {
        assert_eq!(fates([0.0, -1.0, 0.25, -1.25], [0.0; 4], 10_000), [Fate::Inside; LANES]);
        assert!(matches!(fates([0.2601, 1.0, -2.1, 0.5], [0.0; 4], 10_000)[1], Fate::Left { .. }));
    }
}
