//! The picture: which points of the plane its pixels stand for.

use alloc::vec;
use alloc::vec::Vec;

use workload::{Args, Error, number_from};

use crate::colour::Palette;
use crate::lanes::LANES;
use crate::orbit::fates;

/// The most pixels in a row and rows in a picture, so that a row stays small beside a unit's memory.
const SIDE_MAX: u64 = 65_536;

/// The most iterations; counts are kept in 32 bits and as exact floating-point numbers.
const ITERATIONS_MAX: u64 = 1_000_000_000;

/// The most points for a pixel, in each direction.
const SAMPLES_MAX: u64 = 8;

/// Digits behind the point, so that the power of ten is an exact floating-point number.
const FRACTION_DIGITS_MAX: usize = 22;

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub width: u64,
    pub height: u64,
    iterations: u32,
    samples: u64,
    centre: (f64, f64),
    span: f64,
}

impl View {
    /// Takes the options; what is not given is a place in the valley of the seahorses.
    pub fn from_args(args: &mut Args) -> Result<Self, Error> {
        let width = bounded(args, "--width", 1024, SIDE_MAX)?;
        let height = bounded(args, "--height", 768, SIDE_MAX)?;
        let iterations = bounded(args, "--iterations", 2000, ITERATIONS_MAX)? as u32;
        let samples = bounded(args, "--samples", 1, SAMPLES_MAX)?;
        let centre = match args.option("--centre")? {
            None => (-0.7438, 0.131_87),
            Some(text) => text
                .split_once(',')
                .and_then(|(real, imaginary)| Some((decimal(real)?, decimal(imaginary)?)))
                .ok_or(Error::usage("an option is not X,Y in decimal digits").about("--centre"))?,
        };
        let span = match args.option("--span")? {
            None => 0.0004,
            Some(text) => decimal(text)
                .filter(|span| *span > 0.0)
                .ok_or(Error::usage("an option is not a positive decimal number").about("--span"))?,
        };
        Ok(Self { width, height, iterations, samples, centre, span })
    }

    /// Appends the RGB bytes of a row.
    pub fn render(&self, row: u64, palette: &Palette, pixels: &mut Vec<u8>) {
        let columns = (self.width * self.samples) as usize;
        let mut sums = vec![[0_u32; 3]; self.width as usize];
        for sub_row in 0..self.samples {
            let imaginary = self.imaginary(row * self.samples + sub_row);
            for first in (0..columns).step_by(LANES) {
                let real = core::array::from_fn(|lane| self.real((first + lane) as u64));
                let found = fates(real, [imaginary; LANES], self.iterations);
                // The last group may reach beyond the row.
                for (column, fate) in (first..columns).zip(found) {
                    let colour = palette.colour(fate);
                    let sum = &mut sums[column / self.samples as usize];
                    for (sum, channel) in sum.iter_mut().zip(colour) {
                        *sum += u32::from(channel);
                    }
                }
            }
        }
        let points = (self.samples * self.samples) as u32;
        pixels.extend(sums.iter().flatten().map(|sum| ((sum + points / 2) / points) as u8));
    }

    /// The real part of the points in a column of samples.
    fn real(&self, column: u64) -> f64 {
        self.centre.0 + self.offset(column, self.width)
    }

    /// The imaginary part of the points in a row of samples; it falls from row to row.
    fn imaginary(&self, row: u64) -> f64 {
        self.centre.1 - self.offset(row, self.height)
    }

    /// The distance of a sample's middle from the picture's middle, along a side of so many pixels.
    fn offset(&self, sample: u64, side: u64) -> f64 {
        // Halves of samples, so that it is exact until the division.
        let halves = (2 * sample + 1) as f64 - (side * self.samples) as f64;
        self.span * halves / (2 * self.width * self.samples) as f64
    }
}

/// Takes an option that is a number from 1 to `most`.
fn bounded(args: &mut Args, name: &'static str, default: u64, most: u64) -> Result<u64, Error> {
    let number = args.option_number(name, default)?;
    if (1..=most).contains(&number) { Ok(number) } else { Err(Error::usage("an option is out of range").about(name)) }
}

/// The number that `text` writes as `-12.345`. One division of exact numbers, so the nearest floating-point number.
fn decimal(text: &str) -> Option<f64> {
    const EXACT_MAX: u64 = 1 << 53;
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let mut digits = Vec::from(whole.as_bytes());
    digits.extend_from_slice(fraction.as_bytes());
    let digits = number_from(&digits).filter(|digits| *digits <= EXACT_MAX)?;
    let power = (0..fraction.len()).fold(1.0, |power, _| power * 10.0);
    let value = digits as f64 / power;
    Some(if unsigned.len() < text.len() { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(words: &[&'static str]) -> Result<View, Error> {
        View::from_args(&mut Args::from_words(words))
    }

    #[test]
    fn decimals_are_the_nearest_numbers() {
        for text in ["0", "1", "-0.75", "0.1", "-0.743643887037151", "0.131825904205330", "3.0000000000001", "0.0000000000000012"] {
            assert_eq!(decimal(text), text.parse().ok(), "{text}");
        }
        for text in ["", ".", "-", "--1", "1e3", "1.2.3", "x", "99999999999999999999"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_units_they_are_drawn_in() {
        let view = view(&["--width", "30", "--height", "20", "--iterations", "100", "--samples", "2"]).expect("valid options");
        let palette = Palette::new();
        let mut whole = Vec::new();
        (0..20).for_each(|row| view.render(row, &palette, &mut whole));
        assert_eq!(whole.len(), 30 * 20 * 3);
        let mut row = Vec::new();
        view.render(7, &palette, &mut row);
        assert_eq!(row, whole[7 * 90..8 * 90]);
    }

    #[test]
    fn the_middle_of_the_picture_is_the_centre() {
        let view = view(&["--width", "3", "--height", "5", "--centre", "-1.5,0.25", "--span", "3"]).expect("valid options");
        assert_eq!((view.real(1), view.imaginary(2)), (-1.5, 0.25));
        assert_eq!((view.real(0), view.imaginary(0)), (-2.5, 2.25));
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for words in [["--width", "0"], ["--height", "65537"], ["--samples", "9"], ["--span", "0"], ["--span", "-1"], ["--centre", "1"]] {
            assert!(view(&words).is_err(), "{words:?}");
        }
    }
}
