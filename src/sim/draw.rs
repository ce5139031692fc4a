//! Draws from distributions, by arithmetic that is the same on every platform: a seed replays a run anywhere.
//!
//! The logarithm and the exponential are our own for that reason; those of the system's mathematics library may differ in the last bit.

use core::{f64::consts::LN_2, time::Duration};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};

/// Between zero and one, never zero.
pub(super) fn share(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A time after which half of many would have ended, whatever time they have been there already.
pub(super) fn lasting(rng: &mut ChaCha8Rng, half_life: Duration) -> Duration {
    half_life.mul_f64(-ln(share(rng)) / LN_2)
}

/// A factor whose median is one. A third of all are further from it than `e^sigma` either way.
pub(super) fn log_normal(rng: &mut ChaCha8Rng, sigma: f64) -> f64 {
    exp(sigma * normal(rng))
}

/// About normal: a sum of twelve, which is never beyond six.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| share(rng)).sum::<f64>() - 6.0
}

/// The natural logarithm of a normal positive number, to about fifteen digits.
fn ln(x: f64) -> f64 {
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    // |t| is at most a third, so twenty terms of the series are enough.
    let series: f64 = (0..20).rev().fold(0.0, |sum, k| sum * t * t + 1.0 / f64::from(2 * k + 1));
    2.0 * t * series + exponent as f64 * LN_2
}

/// The exponential of a number between -700 and 700.
fn exp(x: f64) -> f64 {
    let powers = (x / LN_2).round();
    let rest = x - powers * LN_2;
    let series = (1..18).rev().fold(1.0, |sum, k| sum * rest / f64::from(k) + 1.0);
    series * f64::from_bits(((1023 + powers as i64) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn logarithm_and_exponential_are_right() {
        for x in [1.0, 2.0, 0.5, 1e-16, 0.999_999, 123_456.789] {
            assert!((ln(x) - f64::ln(x)).abs() < 1e-11, "{x} {}", ln(x));
            assert!((exp(f64::ln(x)) / x - 1.0).abs() < 1e-11, "{x} {}", exp(f64::ln(x)));
        }
    }

    #[test]
    fn half_of_the_draws_are_below_the_half_life_and_the_median() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let hour = Duration::from_secs(3600);
        let short = (0..10_000).filter(|_| lasting(&mut rng, hour) < hour).count();
        assert!(short.abs_diff(5000) < 200, "{short}");
        let factors: Vec<_> = (0..10_000).map(|_| log_normal(&mut rng, 0.5)).collect();
        let (below, far) = (factors.iter().filter(|f| **f < 1.0).count(), factors.iter().filter(|f| **f > exp(0.5)).count());
        assert!(below.abs_diff(5000) < 200 && far.abs_diff(1587) < 150, "{below} {far}");
    }
}
