//! Decimal numbers in and out, without the formatting machinery, which is larger than most workloads.

use crate::{Error, Input, Source};

/// The most digits of a 64-bit number.
pub(crate) const DIGITS_MAX: usize = 20;

/// The number that `text` writes in decimal digits; nothing where there is another character, no digit or a number of 2^64 and more.
pub fn number_from(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// The digits of `number` at the end of `buffer`.
pub(crate) fn digits(mut number: u64, buffer: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut first = DIGITS_MAX;
    for (position, place) in buffer.iter_mut().enumerate().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        first = position;
        if number == 0 {
            break;
        }
    }
    buffer.get(first..).unwrap_or_default()
}

/// The sum of the numbers which stand one on a line: how counts of several units become one.
///
/// # Errors
/// A failure where a line is no number, where the sum is 2^64 or more, or where the input cannot be read.
pub fn sum_of_lines(input: &mut Input<impl Source>) -> Result<u64, Error> {
    let mut sum = 0_u64;
    while let Some(line) = input.line()? {
        if line.is_empty() {
            continue;
        }
        let number = number_from(line).ok_or(Error::failure("a line is not a number"))?;
        sum = sum.checked_add(number).ok_or(Error::failure("the sum does not fit in 64 bits"))?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_writing_and_reading() {
        for number in [0, 7, 10, 99, 100, 12_345, u64::MAX - 1, u64::MAX] {
            let mut buffer = [0; DIGITS_MAX];
            let text = digits(number, &mut buffer);
            assert_eq!(text, number.to_string().as_bytes());
            assert_eq!(number_from(text), Some(number));
        }
    }

    #[test]
    fn what_is_no_64_bit_number_is_refused() {
        for text in ["", "-1", "+1", " 1", "1 ", "0x1", "1.0", "18446744073709551616", "99999999999999999999"] {
            assert_eq!(number_from(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn sums_of_units_add_up_or_say_why_not() {
        assert_eq!(sum_of_lines(&mut Input::new(&b"1\n20\r\n\n300"[..])), Ok(321));
        assert_eq!(sum_of_lines(&mut Input::new(&b""[..])), Ok(0));
        assert!(sum_of_lines(&mut Input::new(&b"1\nx\n"[..])).is_err());
        assert!(sum_of_lines(&mut Input::new(&b"18446744073709551615\n1\n"[..])).is_err());
    }
}
