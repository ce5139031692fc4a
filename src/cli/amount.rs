//! Amounts as people write them: `512MiB`, `10m`, `100_000`, `1..1_000_000`. Each prints as it is written in a job file.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// Why a text is no amount.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountError {
    /// Not a whole number.
    #[error("`{0}` is not a whole number; write 100000 or 100_000")]
    Number(String),
    /// No such unit of size.
    #[error("`{0}` is not a size; write 512MiB, 4GiB, 64KiB or a number of bytes")]
    Size(String),
    /// No such unit of time.
    #[error("`{0}` is not a duration; write 90s, 10m, 1h30m or 2d")]
    Time(String),
    /// Not two numbers.
    #[error("`{0}` is not a range; write 1..1_000_001, or 1..=1_000_000 to include the last")]
    Range(String),
    /// Larger than 64 bits.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// A whole number, with underscores where wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count(pub u64);

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// A duration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

/// The numbers from the first to before the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// The first.
    pub start: u64,
    /// One beyond the last.
    pub end: u64,
}

impl FromStr for Count {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let digits = text.replace('_', "");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || text.starts_with('_') {
            return Err(AmountError::Number(text.to_owned()));
        }
        digits.parse().map(Self).map_err(|_| AmountError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError::Size(text.to_owned());
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (digits, unit) = (&text[..at], text[at..].trim());
        let number = Count::from_str(digits).map_err(|_| wrong())?.0;
        // `512M` means MiB here, as for memory limits elsewhere.
        let short = match unit.to_ascii_uppercase().as_str() {
            "" => Some(1),
            "K" => Some(1 << 10),
            "M" => Some(1 << 20),
            "G" => Some(1 << 30),
            "T" => Some(1 << 40),
            _ => None,
        };
        let factor = short.or_else(|| SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor));
        number.checked_mul(factor.ok_or_else(wrong)?).map(Self).ok_or_else(|| AmountError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZES[..4].iter().rev().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match exact {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError::Time(text.to_owned());
        let too_large = || AmountError::TooLarge(text.to_owned());
        let (mut rest, mut total) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(rest.len());
            let number = Count::from_str(&rest[..digits]).map_err(|_| wrong())?.0;
            rest = rest[digits..].trim_start();
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let factor = TIMES.iter().find(|(name, _)| *name == &rest[..letters]).map(|(_, factor)| *factor).ok_or_else(wrong)?;
            total = number.checked_mul(factor).and_then(|ms| total.checked_add(ms)).ok_or_else(too_large)?;
            rest = rest[letters..].trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in TIMES.iter().rev() {
            if rest >= *factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl FromStr for Numbers {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError::Range(text.to_owned());
        let (start, end) = text.split_once("..").ok_or_else(wrong)?;
        let (inclusive, end) = end.strip_prefix('=').map_or((false, end), |end| (true, end));
        let number = |text: &str| match Count::from_str(text.trim()) {
            Err(AmountError::TooLarge(text)) => Err(AmountError::TooLarge(text)),
            other => other.map(|count| count.0).map_err(|_| wrong()),
        };
        let (start, end) = (number(start)?, number(end)?);
        let end = end.checked_add(u64::from(inclusive)).ok_or_else(|| AmountError::TooLarge(text.to_owned()))?;
        Ok(Self { start, end })
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // TOML's integers have 63 bits.
        match i64::try_from(self.0) {
            Ok(number) => serializer.serialize_i64(number),
            Err(_) => serializer.collect_str(self),
        }
    }
}

/// Written as text in a job file.
macro_rules! written_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
written_as_text!(ByteSize, Span, Numbers);

/// Read from text, or from a number where a bare one has a meaning.
macro_rules! read_from_text_or_number {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number, or a text such as a flag takes")
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    )*};
}
read_from_text_or_number!(Count, ByteSize, Span, Numbers);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("512MiB", 512 << 20, "512MiB"),
            ("4k", 4096, "4KiB"),
            ("1_000", 1000, "1000B"),
            ("1 GB", 1_000_000_000, "1000000000B"),
            ("2048B", 2048, "2KiB"),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1XB", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds, shown) in [("90s", 90, "1m30s"), ("10m", 600, "10m"), ("1h30m", 5400, "1h30m"), ("2d", 172_800, "2d")] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), shown);
        }
        for text in ["", "10", "m", "1y", "99999999999999999999d", "184467440737095516d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_and_counts() {
        assert_eq!("1..1_000".parse(), Ok(Numbers { start: 1, end: 1000 }));
        assert_eq!("1..=10".parse(), Ok(Numbers { start: 1, end: 11 }));
        assert_eq!("0..0".parse(), Ok(Numbers { start: 0, end: 0 }), "whether it is empty is for the job to say");
        for text in ["", "1", "..", "1..", "a..b", "1..2..3", "-1..2", "0..=18446744073709551615"] {
            assert!(text.parse::<Numbers>().is_err(), "{text}");
        }
        assert_eq!("100_000".parse(), Ok(Count(100_000)));
        for text in ["", "_", "_1", "1e3", "99999999999999999999"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }
}
